// What every scenario begins with: oauth4webapi, which does nothing by itself, so that each check is one that is seen here.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { stage, visit } from '../stage.mjs'

const issuer = new URL(stage.issuer)

// What the broker says of itself; `oauth2` asks by RFC 8414.
export async function discovered(algorithm = 'oidc') {
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm }))
}

// A client of its own for each scenario, and how it authenticates.
export async function registered(as, metadata = {}, privateKey = undefined) {
  const response = await oauth.dynamicClientRegistrationRequest(
    as,
    { client_name: 'oauth4webapi', redirect_uris: [stage.redirectUri], ...metadata },
    { initialAccessToken: stage.initialAccessToken },
  )
  const client = await oauth.processDynamicClientRegistrationResponse(response)
  const authentication = {
    client_secret_basic: () => oauth.ClientSecretBasic(client.client_secret),
    client_secret_jwt: () => oauth.ClientSecretJwt(client.client_secret),
    private_key_jwt: () => oauth.PrivateKeyJwt(privateKey),
    none: () => oauth.None(),
  }[client.token_endpoint_auth_method]()
  return { client, authentication }
}

// One transaction: request parameters, and what the answer is checked against.
export async function transaction(client, parameters = {}) {
  const verifier = oauth.generateRandomCodeVerifier()
  const expected = { state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce(), verifier }
  const request = new URLSearchParams({
    client_id: client.client_id,
    redirect_uri: stage.redirectUri,
    response_type: 'code',
    scope: 'openid profile email',
    state: expected.state,
    nonce: expected.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...parameters,
  })
  return { request, expected }
}

// The browser's way, by a request in the address or by reference.
export async function codeOf(as, client, request, expected) {
  const url = new URL(as.authorization_endpoint)
  url.search = request.toString()
  return oauth.validateAuthResponse(as, client, await visit(url), expected.state)
}

// Redeems a code and checks all of the answer, the signature too. Options: DPoP.
export async function redeemed(as, { client, authentication }, code, expected, options = {}) {
  const { requireIdToken = true, maxAge, ...rest } = options
  const ask = () =>
    oauth.authorizationCodeGrantRequest(as, client, authentication, code, stage.redirectUri, expected.verifier, rest)
  const check = (response) =>
    oauth.processAuthorizationCodeResponse(as, client, response, {
      expectedNonce: expected.nonce,
      requireIdToken,
      maxAge,
    })
  let response = await ask()
  let result
  try {
    result = await check(response)
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    response = await ask()
    result = await check(response)
  }
  await oauth.validateApplicationLevelSignature(as, response)
  return result
}

// From nothing to tokens.
export async function tokensOf(as, registration, parameters = {}, options = {}) {
  const { request, expected } = await transaction(registration.client, parameters)
  const code = await codeOf(as, registration.client, request, expected)
  return redeemed(as, registration, code, expected, options)
}

// That these tokens are alice's.
export async function areAlices(as, client, tokens, options = {}) {
  const { sub } = oauth.getValidatedIdTokenClaims(tokens)
  const response = await oauth.userInfoRequest(as, client, tokens.access_token, options)
  const userinfo = await oauth.processUserInfoResponse(as, client, sub, response)
  assert.equal(userinfo.preferred_username, 'alice@alpha')
  return response
}
