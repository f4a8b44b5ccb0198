// Token exchange (RFC 8693): the relying party calls alpha's API in alice's name, and nobody else's API.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { ask, done, refused, stage } from '../stage.mjs'
import { registered, tokensOf } from './login.mjs'

const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const access_token = 'urn:ietf:params:oauth:token-type:access_token'
const config = await registered()
// Nobody registers that for themselves: ops say so.
await ask({ policy: ['--grant-types', `authorization_code,${exchange}`], clientId: config.clientMetadata().client_id })
const tokens = await tokensOf(config)
const request = { subject_token: tokens.access_token, subject_token_type: access_token, scope: 'openid profile' }

const exchanged = await client.genericGrantRequest(config, exchange, { ...request, resource: stage.alphaUrl })
assert.equal(exchanged.issued_token_type, access_token)
assert.notEqual(exchanged.access_token, tokens.access_token)
assert.equal(exchanged.refresh_token, undefined)

const elsewhere = { ...request, resource: stage.betaUrl }
await refused(client.genericGrantRequest(config, exchange, elsewhere), 'invalid_target')
const rubbish = { ...request, resource: stage.alphaUrl, subject_token: 'rubbish' }
await refused(client.genericGrantRequest(config, exchange, rubbish), 'invalid_request')
done({ exchanged: exchanged.access_token })
