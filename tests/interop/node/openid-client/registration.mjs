// A client reads, changes and deletes its own registration (RFC 7592).

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, refused, stage, visit } from '../stage.mjs'
import { areAlices, registered, tokensOf, transaction } from './login.mjs'

const config = await registered()
const { client_id, registration_access_token: token, registration_client_uri } = config.clientMetadata()
const uri = new URL(registration_client_uri)
const json = new Headers({ 'content-type': 'application/json' })
const managed = (method, body) => client.fetchProtectedResource(config, token, uri, method, body, body && json)

const read = await (await managed('GET')).json()
assert.equal(read.client_id, client_id)
assert.deepEqual(read.redirect_uris, [stage.redirectUri])
await areAlices(config, await tokensOf(config))

const moved = `${stage.redirectUri}-moved`
const { client_secret, redirect_uris, client_name } = read
const changed = await managed('PUT', JSON.stringify({ client_id, client_secret, client_name, redirect_uris: [moved] }))
assert.deepEqual((await changed.json()).redirect_uris, [moved])
const { request, checks } = await transaction({ redirect_uri: moved })
const arrived = await visit(client.buildAuthorizationUrl(config, request), moved)
await client.authorizationCodeGrant(config, arrived, checks)

assert.equal((await managed('DELETE')).status, 204)
await assert.rejects(managed('GET'), 'its token is gone with it')
await assert.rejects(
  client.dynamicClientRegistration(new URL(stage.issuer), { redirect_uris: [stage.redirectUri] }),
  'without an initial access token',
)
await refused(
  registered({ redirect_uris: [`${stage.redirectUri}#fragment`] }),
  'invalid_redirect_uri',
)
done()
