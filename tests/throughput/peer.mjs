// node-oidc-provider with one client and one user, who is logged in and has agreed without being asked: what `cargo
// throughput --peer` measures. Arguments: port, algorithm of ID tokens. Prints one JSON line when it can be used.

import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [port, algorithm] = [Number(process.argv[2]), process.argv[3]];
const pair = algorithm === 'ES256'
  ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
  : generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...pair.privateKey.export({ format: 'jwk' }), use: 'sig', alg: algorithm };

// A map that forgets nothing does the same work as the library's own adapter, without its limit of a thousand entries.
const kept = new Map();
const families = new Map();
class Memory {
  constructor(kind) { this.kind = kind; }

  name(id) { return `${this.kind} ${id}`; }

  async upsert(id, payload) {
    kept.set(this.name(id), payload);
    if (payload.uid) kept.set(`uid ${payload.uid}`, id);
    if (payload.grantId) {
      if (!families.has(payload.grantId)) families.set(payload.grantId, []);
      families.get(payload.grantId).push(this.name(id));
    }
  }

  async find(id) { return kept.get(this.name(id)); }

  async findByUid(uid) { return this.find(kept.get(`uid ${uid}`)); }

  async consume(id) { kept.get(this.name(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { kept.delete(this.name(id)); }

  async revokeByGrantId(id) {
    for (const name of families.get(id) ?? []) kept.delete(name);
    families.delete(id);
  }
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Memory,
  clients: [{
    client_id: 'client',
    client_secret: 'a-secret-that-is-long-enough-0123456789',
    id_token_signed_response_alg: algorithm,
    redirect_uris: ['http://127.0.0.1:9999/cb'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  jwks: { keys: [key] },
  cookies: { keys: ['a key for cookies that guard nothing'] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  features: { devInteractions: { enabled: false }, introspection: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.org`, email_verified: true }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
});

provider.use(async (context, next) => {
  if (!context.path.startsWith('/interaction/')) return next();
  const { prompt, params, session } = await provider.interactionDetails(context.req, context.res);
  let result = { login: { accountId: 'alice' } };
  if (prompt.name === 'consent') {
    const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope('openid email offline_access');
    result = { consent: { grantId: await grant.save() } };
  }
  context.respond = false;
  return provider.interactionFinished(context.req, context.res, result, { mergeWithLastSubmission: true });
});

provider.listen(port, '127.0.0.1', () => console.log(JSON.stringify({ event: 'listening', port })));
