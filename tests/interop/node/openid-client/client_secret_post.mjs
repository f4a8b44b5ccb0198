// The client's secret in the body of the token request.

import * as client from 'openid-client'
import { done } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

const config = await registered({ token_endpoint_auth_method: 'client_secret_post' }, client.ClientSecretPost())
await areAlices(config, await tokensOf(config))
done()
