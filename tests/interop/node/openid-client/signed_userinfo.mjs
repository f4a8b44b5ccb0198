// Userinfo as a signed JWT, with either algorithm, and ES256 ID tokens.

import { done } from '../stage.mjs'
import { areAlices, registered, tokensOf } from './login.mjs'

for (const alg of ['RS256', 'ES256']) {
  const config = await registered({ userinfo_signed_response_alg: alg, id_token_signed_response_alg: alg })
  await areAlices(config, await tokensOf(config))
}
done()
