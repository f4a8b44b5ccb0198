// A client under the FAPI 2.0 Security Profile: pushed, bound by DPoP, authenticated by key to the issuer alone; its
// refresh token stays.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { ask, done, keyPair, refused, visit } from '../stage.mjs'
import { areAlices, registered, tokensOf, transaction } from './login.mjs'

const key = await keyPair('PS256', 'fapi')
const metadata = {
  grant_types: ['authorization_code', 'refresh_token'],
  jwks: { keys: [key.jwk] },
  token_endpoint_auth_method: 'private_key_jwt',
}
// openid-client's audience is the issuer alone, as the profile wants.
const config = await registered(metadata, client.PrivateKeyJwt(key.signing))
await ask({ policy: ['--profile', 'fapi2'], clientId: config.clientMetadata().client_id })

const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const { request, checks } = await transaction({ scope: 'openid profile email offline_access', prompt: 'consent' })
const url = await client.buildAuthorizationUrlWithPAR(config, request, { DPoP })
const tokens = await client.authorizationCodeGrant(config, await visit(url), checks, undefined, { DPoP })
await areAlices(config, tokens, { DPoP })
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
assert([undefined, tokens.refresh_token].includes(refreshed.refresh_token), 'FAPI 2.0 5.3.2.1: no rotation')
await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })

await refused(tokensOf(config, {}, { DPoP }), 'invalid_request')
const unbound = await transaction()
const unboundUrl = await client.buildAuthorizationUrlWithPAR(config, unbound.request)
await assert.rejects(client.authorizationCodeGrant(config, await visit(unboundUrl), unbound.checks), 'without DPoP')
done()
