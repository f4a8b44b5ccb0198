// Tokens bound to a key (RFC 9449), with the nonce that the broker demands: openid-client fetches it by being refused once.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

const config = await registered({ dpop_bound_access_tokens: true })
const pair = await client.randomDPoPKeyPair('ES256')
const DPoP = client.getDPoPHandle(config, pair)
const dpop_jkt = await DPoP.calculateThumbprint()
const tokens = await tokensOf(config, { dpop_jkt }, { DPoP })
assert.equal(tokens.token_type, 'dpop')
await areAlices(config, tokens, { DPoP })

await assert.rejects(client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck), 'without proof')
const stolen = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
await assert.rejects(
  client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck, { DPoP: stolen }),
  'with a proof by another key',
)
await assert.rejects(tokensOf(config), 'a client that registered dpop_bound_access_tokens and sends no proof')
done()
