// The client proves that it knows its secret without sending it (OpenID Connect Core 9).

import * as client from 'openid-client'
import { done } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

const config = await registered({ token_endpoint_auth_method: 'client_secret_jwt' }, client.ClientSecretJwt())
await areAlices(config, await tokensOf(config))
done()
