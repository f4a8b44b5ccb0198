// Signed introspection (RFC 9701) and signed userinfo, their signatures verified; revocation.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { done } from '../stage.mjs'
import { areAlices, discovered, registered, tokensOf } from './login.mjs'

const as = await discovered()
for (const alg of ['RS256', 'ES256']) {
  const metadata = { introspection_signed_response_alg: alg, userinfo_signed_response_alg: alg }
  const registration = await registered(as, metadata)
  const { client, authentication } = registration
  const tokens = await tokensOf(as, registration)
  await oauth.validateApplicationLevelSignature(as, await areAlices(as, client, tokens))

  const introspected = async () => {
    const response = await oauth.introspectionRequest(as, client, authentication, tokens.access_token)
    const answer = await oauth.processIntrospectionResponse(as, client, response)
    await oauth.validateApplicationLevelSignature(as, response)
    return answer
  }
  assert.equal((await introspected()).active, true)
  const revoked = await oauth.revocationRequest(as, client, authentication, tokens.access_token)
  await oauth.processRevocationResponse(revoked)
  assert.equal((await introspected()).active, false)
}
done()
