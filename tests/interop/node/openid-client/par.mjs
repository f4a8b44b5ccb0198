// Pushed authorization requests (RFC 9126), by a client that must push: what the browser carries is a reference.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused, visit } from '../stage.mjs'
import { areAlices, registered, tokensOf, transaction } from './login.mjs'

const config = await registered({ require_pushed_authorization_requests: true })
const { request, checks } = await transaction()
const url = await client.buildAuthorizationUrlWithPAR(config, request)
assert.deepEqual([...url.searchParams.keys()].sort(), ['client_id', 'request_uri'])
await areAlices(config, await client.authorizationCodeGrant(config, await visit(url), checks))

await refused(tokensOf(config), 'invalid_request')
done()
