// What a token is (RFC 7662), the answer signed (RFC 9701); revocation (RFC 7009).

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused } from '../stage.mjs'
import { registered, tokensOf } from './login.mjs'

const plain = await registered()
const signed = await registered({
  introspection_signed_response_alg: 'ES256',
  grant_types: ['authorization_code', 'refresh_token'],
})
for (const config of [plain, signed]) {
  const tokens = await tokensOf(config, { scope: 'openid profile email offline_access', prompt: 'consent' })
  const active = await client.tokenIntrospection(config, tokens.access_token)
  assert.equal(active.active, true)
  assert.equal(active.client_id, config.clientMetadata().client_id)
  assert.equal(active.sub, tokens.claims().sub)
  assert.deepEqual(await client.tokenIntrospection(config, 'rubbish'), { active: false })

  await client.tokenRevocation(config, tokens.access_token)
  assert.deepEqual(await client.tokenIntrospection(config, tokens.access_token), { active: false })
  await assert.rejects(client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck))
  await client.tokenRevocation(config, 'rubbish')
  if (tokens.refresh_token) {
    const next = await client.refreshTokenGrant(config, tokens.refresh_token)
    await client.tokenRevocation(config, next.refresh_token)
    await refused(client.refreshTokenGrant(config, next.refresh_token), 'invalid_grant')
    assert.deepEqual(await client.tokenIntrospection(config, next.access_token), { active: false })
  }
}

const others = await tokensOf(plain)
assert.deepEqual(await client.tokenIntrospection(signed, others.access_token), { active: false })
await client.tokenRevocation(signed, others.access_token).catch(() => {})
const survived = await client.tokenIntrospection(plain, others.access_token)
assert.equal(survived.active, true, 'nobody revokes what is not theirs')
done()
