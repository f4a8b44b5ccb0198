// Code flow, found by both kinds of metadata; max_age; every check on, signatures with both algorithms.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { done, refused } from '../stage.mjs'
import { areAlices, codeOf, discovered, redeemed, registered, tokensOf, transaction } from './login.mjs'

const as = await discovered()
const asOAuth = await discovered('oauth2')
assert.deepEqual(asOAuth, as, 'RFC 8414 and OpenID Connect Discovery say the same')
assert.equal(as.authorization_response_iss_parameter_supported, true)

for (const alg of as.id_token_signing_alg_values_supported) {
  const registration = await registered(as, { id_token_signed_response_alg: alg, default_max_age: 3600 })
  const tokens = await tokensOf(as, registration, { max_age: '3600' }, { maxAge: 3600 })
  await areAlices(as, registration.client, tokens)
}

const registration = await registered(as)
const { request, expected } = await transaction(registration.client)
const code = await codeOf(as, registration.client, request, expected)
const wrong = { ...expected, verifier: oauth.generateRandomCodeVerifier() }
await refused(redeemed(as, registration, code, wrong), 'invalid_grant')
await areAlices(as, registration.client, await redeemed(as, registration, code, expected))
await refused(redeemed(as, registration, code, expected), 'invalid_grant')
done()
