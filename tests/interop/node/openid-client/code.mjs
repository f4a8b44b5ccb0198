// Code flow with PKCE, state, nonce and the `iss` of RFC 9207; client_secret_basic. A code is good once.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused, visit } from '../stage.mjs'
import { areAlices, registered, transaction } from './login.mjs'

const config = await registered()
const { request, checks } = await transaction()
const arrived = await visit(client.buildAuthorizationUrl(config, request))
assert.equal(arrived.searchParams.get('iss'), config.serverMetadata().issuer)

const tokens = await client.authorizationCodeGrant(config, arrived, checks)
assert.equal(tokens.token_type, 'bearer')
assert.deepEqual([].concat(tokens.claims().aud), [config.clientMetadata().client_id])
await areAlices(config, tokens)

await refused(client.authorizationCodeGrant(config, arrived, checks), 'invalid_grant')
await assert.rejects(client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck), 'a replayed code ends its tokens')
done()
