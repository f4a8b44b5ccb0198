// What every scenario begins with: openid-client registers a client (RFC 7591), and somebody logs in.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { stage, visit } from '../stage.mjs'

// A client of its own for each scenario. Signatures are verified even where TLS would do.
export async function registered(metadata = {}, authentication = client.ClientSecretBasic()) {
  const config = await client.dynamicClientRegistration(
    new URL(stage.issuer),
    { client_name: 'openid-client', redirect_uris: [stage.redirectUri], ...metadata },
    authentication,
    { initialAccessToken: stage.initialAccessToken },
  )
  client.enableNonRepudiationChecks(config)
  return config
}

// One transaction: what goes into the authorization request, and what the answer is checked against.
export async function transaction(parameters = {}) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const checks = { pkceCodeVerifier, expectedState: client.randomState(), expectedNonce: client.randomNonce() }
  const request = {
    redirect_uri: stage.redirectUri,
    scope: 'openid profile email',
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    ...parameters,
  }
  return { request, checks: { ...checks, idTokenExpected: true } }
}

// The code flow from end to end.
export async function tokensOf(config, parameters = {}, options = undefined) {
  const { request, checks } = await transaction(parameters)
  const arrived = await visit(client.buildAuthorizationUrl(config, request))
  return client.authorizationCodeGrant(config, arrived, checks, undefined, options)
}

// That these tokens are alice's, who is what her home says she is.
export async function areAlices(config, tokens, options = undefined) {
  const { sub } = tokens.claims()
  const userinfo = await client.fetchUserInfo(config, tokens.access_token, sub, options)
  assert.equal(userinfo.preferred_username, 'alice@alpha')
  assert.equal(userinfo.email, 'alice@alpha.example')
  assert.equal(userinfo.email_verified, true)
  return userinfo
}
