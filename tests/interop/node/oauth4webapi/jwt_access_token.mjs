// An access token for alpha's API (RFC 8707) is a JWT (RFC 9068) that oauth4webapi, standing in for that API, accepts.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { done, stage } from '../stage.mjs'
import { codeOf, discovered, registered, transaction } from './login.mjs'

const as = await discovered()
const { client, authentication } = await registered(as)
const { request, expected } = await transaction(client, { resource: stage.alphaUrl })
const code = await codeOf(as, client, request, expected)
const response = await oauth.authorizationCodeGrantRequest(
  as,
  client,
  authentication,
  code,
  stage.redirectUri,
  expected.verifier,
  { additionalParameters: { resource: stage.alphaUrl } },
)
const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: expected.nonce })

const headers = { authorization: `Bearer ${tokens.access_token}` }
const call = () => new Request(`${stage.alphaUrl}/api`, { headers })
const claims = await oauth.validateJwtAccessToken(as, call(), stage.alphaUrl)
assert.equal(claims.client_id, client.client_id)
assert.equal(claims.sub, oauth.getValidatedIdTokenClaims(tokens).sub)
await assert.rejects(oauth.validateJwtAccessToken(as, call(), stage.betaUrl), 'for another audience')
done()
