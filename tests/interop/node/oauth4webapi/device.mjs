// The device flow (RFC 8628) of a public client, polled by hand: too fast first.
import * as oauth from 'oauth4webapi'
import { ask, done, refused } from '../stage.mjs'
import { areAlices, discovered, registered } from './login.mjs'

const as = await discovered()
const { client, authentication } = await registered(as, {
  grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'none',
})
const request = await oauth.deviceAuthorizationRequest(as, client, authentication, { scope: 'openid profile email' })
const shown = await oauth.processDeviceAuthorizationResponse(as, client, request)
const poll = async () => {
  const response = await oauth.deviceCodeGrantRequest(as, client, authentication, shown.device_code)
  return oauth.processDeviceCodeResponse(as, client, response)
}
await refused(poll(), 'authorization_pending')
await refused(poll(), 'slow_down')
await ask({ device: shown.verification_uri_complete })
// RFC 8628 3.5: slow_down asks for five seconds more, from then on.
await new Promise((resolve) => setTimeout(resolve, ((shown.interval ?? 5) + 5) * 1000))
const tokens = await poll()
await areAlices(as, client, tokens)
await refused(poll(), 'invalid_grant')
done()
