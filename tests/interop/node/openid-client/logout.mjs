// RP-initiated logout: back with state, and nobody is signed in any more.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused, stage, visit } from '../stage.mjs'
import { registered, tokensOf } from './login.mjs'

const goodbye = stage.redirectUri.replace(/callback$/, 'goodbye')
const config = await registered({ post_logout_redirect_uris: [goodbye] })
const tokens = await tokensOf(config)
const silent = await tokensOf(config, { prompt: 'none', id_token_hint: tokens.id_token })
assert.equal(silent.claims().sub, tokens.claims().sub)

const state = client.randomState()
const url = client.buildEndSessionUrl(config, {
  post_logout_redirect_uri: goodbye,
  id_token_hint: tokens.id_token,
  state,
})
const arrived = await visit(url, goodbye)
assert.equal(arrived.searchParams.get('state'), state)

await refused(tokensOf(config, { prompt: 'none' }), 'login_required')
await assert.rejects(client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck), 'tokens end with the session')
done()
