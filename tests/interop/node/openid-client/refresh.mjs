// Refresh tokens: rotated at every use; one that was used before ends all tokens of its family.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

const grant_types = ['authorization_code', 'refresh_token']
const config = await registered({ grant_types })
const first = await tokensOf(config, { scope: 'openid profile email offline_access', prompt: 'consent' })
const second = await client.refreshTokenGrant(config, first.refresh_token)
assert.notEqual(second.refresh_token, first.refresh_token)
assert.notEqual(second.access_token, first.access_token)
if (second.id_token) {
  for (const claim of ['iss', 'sub', 'auth_time', 'sid']) {
    assert.deepEqual(second.claims()[claim], first.claims()[claim], claim)
  }
}
await areAlices(config, { ...second, claims: first.claims.bind(first) })

const narrow = await client.refreshTokenGrant(config, second.refresh_token, { scope: 'openid' })
await refused(client.refreshTokenGrant(config, narrow.refresh_token, { scope: 'openid groups' }), 'invalid_scope')

await refused(client.refreshTokenGrant(config, first.refresh_token), 'invalid_grant')
await refused(client.refreshTokenGrant(config, narrow.refresh_token), 'invalid_grant')
await assert.rejects(client.fetchUserInfo(config, narrow.access_token, client.skipSubjectCheck))
done()
