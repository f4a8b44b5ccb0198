// An OpenID provider that nobody here wrote, set up as odd as its makers allow: what Casdoor or Authentik may look like.
// It reads one JSON document from its arguments and says on standard output where it listens.

import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

// { issuer, keys, algorithms, client, accounts: { login: claims }, listen }
const setup = JSON.parse(process.argv[2])

const provider = new Provider(setup.issuer, {
  jwks: { keys: setup.keys },
  clients: [setup.client],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'given_name', 'family_name', 'preferred_username', 'groups', 'roles', 'owner'],
  },
  scopes: ['openid', 'email', 'profile', 'offline_access'],
  responseTypes: ['code'],
  pkce: { required: () => true },
  enabledJWA: { idTokenSigningAlgValues: setup.algorithms },
  // The password is looked at by nobody: this provider's users are all honest.
  findAccount: (_, login) => {
    const claims = setup.accounts[login]
    return claims && { accountId: login, claims: () => ({ sub: login, ...claims }) }
  },
  cookies: { keys: ['not a secret of anybody'] },
})
provider.proxy = true
// Its pages ask Google for a typeface, which is no part of any login.
provider.use(async (context, next) => {
  await next()
  if (typeof context.body === 'string') context.body = context.body.replace(/@import url\([^)]*\);?/g, '')
})
provider.on('server_error', (_, error) => console.error(error))
provider.on('authorization.error', (_, error) => console.error(error.message, error.error_description))
provider.on('grant.error', (_, error) => console.error(error.message, error.error_description))

// Below the path of its issuer, as these two are.
const { pathname } = new URL(setup.issuer)
const mount = pathname.replace(/\/$/, '')
const answer = provider.callback()
const server = createServer((request, response) => {
  if (!request.url.startsWith(mount)) return response.writeHead(404).end()
  request.originalUrl = request.url
  request.url = request.url.slice(mount.length) || '/'
  answer(request, response)
})
const [host, port] = setup.listen.split(':')
server.listen(Number(port), host, () => {
  const address = server.address()
  process.stdout.write(`${JSON.stringify({ event: 'listening', http: `${address.address}:${address.port}` })}\n`)
})
process.on('SIGTERM', () => process.exit(0))
