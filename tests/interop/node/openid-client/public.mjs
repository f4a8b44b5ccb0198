// A client without a secret: PKCE is all that it has, and it has to use it.

import * as client from 'openid-client'
import { done, refused, visit } from '../stage.mjs'
import { areAlices, registered, tokensOf, transaction } from './login.mjs'

const config = await registered({ token_endpoint_auth_method: 'none' }, client.None())
await areAlices(config, await tokensOf(config))

const { request, checks } = await transaction({ code_challenge: '', code_challenge_method: '' })
const arrived = await visit(client.buildAuthorizationUrl(config, request))
await refused(client.authorizationCodeGrant(config, arrived, { ...checks, pkceCodeVerifier: undefined }), 'invalid_request')
done()
