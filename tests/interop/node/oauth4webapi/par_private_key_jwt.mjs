// A pushed, signed request (RFC 9126, RFC 9101) of a client that authenticates by key (RFC 7523).

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { done, keyPair } from '../stage.mjs'
import { areAlices, codeOf, discovered, redeemed, registered, transaction } from './login.mjs'

const as = await discovered()
const key = await keyPair('ES256', 'one')
const metadata = {
  jwks: { keys: [key.jwk] },
  token_endpoint_auth_method: 'private_key_jwt',
  require_pushed_authorization_requests: true,
}
const registration = await registered(as, metadata, key.signing)
const { client, authentication } = registration
const { request, expected } = await transaction(client)
const signed = await oauth.issueRequestObject(as, client, request, key.signing)

for (const body of [request, new URLSearchParams({ client_id: client.client_id, request: signed })]) {
  const response = await oauth.pushedAuthorizationRequest(as, client, authentication, body)
  assert.equal(response.status, 201)
  const { request_uri, expires_in } = await oauth.processPushedAuthorizationResponse(as, client, response)
  assert(expires_in > 0 && expires_in < 600)
  const reference = new URLSearchParams({ client_id: client.client_id, request_uri })
  const code = await codeOf(as, client, reference, expected)
  await areAlices(as, client, await redeemed(as, registration, code, expected))
}
done()
