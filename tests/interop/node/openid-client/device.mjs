// The device flow (RFC 8628): a device shows a code, alice types it in elsewhere and logs in there.

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { ask, done, refused } from '../stage.mjs'
import { areAlices, registered } from './login.mjs'

const grant_types = ['urn:ietf:params:oauth:grant-type:device_code']
const config = await registered({ grant_types, redirect_uris: [], response_types: [] })
const shown = await client.initiateDeviceAuthorization(config, { scope: 'openid profile email' })
assert.match(shown.user_code, /^[A-Z0-9]+(-[A-Z0-9]+)*$/)

await refused(
  client.genericGrantRequest(config, grant_types[0], { device_code: shown.device_code }),
  'authorization_pending',
)
const [tokens] = await Promise.all([
  client.pollDeviceAuthorizationGrant(config, shown),
  ask({ device: shown.verification_uri, userCode: shown.user_code }),
])
await areAlices(config, tokens)
await refused(client.genericGrantRequest(config, grant_types[0], { device_code: shown.device_code }), 'invalid_grant')

const denied = await client.initiateDeviceAuthorization(config, { scope: 'openid' })
await ask({ device: denied.verification_uri_complete, deny: true })
await refused(client.pollDeviceAuthorizationGrant(config, denied), 'access_denied')
done()
