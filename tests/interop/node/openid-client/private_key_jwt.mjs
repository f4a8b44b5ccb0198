// The client proves itself with a key (RFC 7523), by every algorithm that both know. (EdDSA it calls by its new name,
// Ed25519, of RFC 9864.)

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, keyPair } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

for (const alg of ['ES256', 'PS256', 'RS256']) {
  const key = await keyPair(alg, `${alg}-1`)
  const metadata = {
    jwks: { keys: [key.jwk] },
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: alg,
  }
  const config = await registered(metadata, client.PrivateKeyJwt(key.signing))
  assert(config.serverMetadata().token_endpoint_auth_signing_alg_values_supported.includes(alg))
  await areAlices(config, await tokensOf(config))
}
done()
