// Signed request objects (RFC 9101), by value and pushed, by a client that must sign.

import * as client from 'openid-client'
import { done, keyPair, refused, visit } from '../stage.mjs'
import { areAlices, registered, tokensOf, transaction } from './login.mjs'

const key = await keyPair('ES256', 'jar')
const config = await registered({
  jwks: { keys: [key.jwk] },
  request_object_signing_alg: 'ES256',
  require_signed_request_object: true,
})

const byValue = await transaction()
const url = await client.buildAuthorizationUrlWithJAR(config, byValue.request, key.signing)
await areAlices(config, await client.authorizationCodeGrant(config, await visit(url), byValue.checks))

const pushed = await transaction()
const signed = await client.buildAuthorizationUrlWithJAR(config, pushed.request, key.signing)
const pushedUrl = await client.buildAuthorizationUrlWithPAR(config, { request: signed.searchParams.get('request') })
await areAlices(config, await client.authorizationCodeGrant(config, await visit(pushedUrl), pushed.checks))

await refused(tokensOf(config), 'invalid_request')
done()
