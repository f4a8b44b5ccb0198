// DPoP (RFC 9449) at every step of its own: the nonce demanded, a refresh, and the challenge of a wrong token type.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { done } from '../stage.mjs'
import { areAlices, codeOf, discovered, redeemed, registered, transaction } from './login.mjs'

const as = await discovered()
const metadata = { grant_types: ['authorization_code', 'refresh_token'], token_endpoint_auth_method: 'none' }
const registration = await registered(as, metadata)
const { client, authentication } = registration
const pair = await oauth.generateKeyPair('ES256')
const DPoP = oauth.DPoP(client, pair)

const { request, expected } = await transaction(client, {
  scope: 'openid profile email offline_access',
  prompt: 'consent',
})
const code = await codeOf(as, client, request, expected)
const noNonce = await oauth.authorizationCodeGrantRequest(
  as,
  client,
  authentication,
  code,
  request.get('redirect_uri'),
  expected.verifier,
  { DPoP: oauth.DPoP(client, pair) },
)
await assert.rejects(oauth.processAuthorizationCodeResponse(as, client, noNonce), (error) => oauth.isDPoPNonceError(error))

const tokens = await redeemed(as, registration, code, expected, { DPoP })
assert.equal(tokens.token_type, 'dpop')
await areAlices(as, client, tokens, { DPoP })

const bearer = await oauth.userInfoRequest(as, client, tokens.access_token)
await assert.rejects(oauth.processUserInfoResponse(as, client, oauth.skipSubjectCheck, bearer), (error) => {
  assert(error instanceof oauth.WWWAuthenticateChallengeError)
  assert.equal(error.status, 401)
  assert(error.cause.some(({ scheme }) => scheme === 'dpop'))
  return true
})

// A public client's refresh token is bound to the key as well (RFC 9449 5).
const other = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
for (const [handle, ok] of [
  [other, false],
  [DPoP, true],
]) {
  const refreshed = async () => {
    const options = { DPoP: handle }
    const response = await oauth.refreshTokenGrantRequest(as, client, authentication, tokens.refresh_token, options)
    return oauth.processRefreshTokenResponse(as, client, response)
  }
  const retried = () => refreshed().catch((error) => (oauth.isDPoPNonceError(error) ? refreshed() : Promise.reject(error)))
  if (ok) assert.equal((await retried()).token_type, 'dpop')
  else await assert.rejects(retried())
}
done()
