//! The public keys of clients, wherever they are: in the registration, or at the client's own `jwks_uri` (RFC 7591 2).
//!
//! Keys that were fetched are kept for some minutes. One that is asked for and is not among them may be new, because the
//! client turns its keys: then they are fetched again at once, but for that reason not more than once a minute for a
//! client, whatever strangers put into `kid`; and once for all who wait. When a client's own server fails, the keys that
//! it showed last stay good for a day: a login must not fail for that.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::Timestamp;
use crate::outbound::Outbound;
use crate::registry::{ClientCredential, ClientId, ClientJwks, ClientKeys, RelyingParty};

/// How long fetched keys are used without asking again.
const FRESH: Duration = Duration::from_secs(300);

/// How long they are used while nobody answers.
const STALE: Duration = Duration::from_secs(86_400);

/// Pause between two fetches for one client because a key was unknown.
const SURPRISE: Duration = Duration::from_secs(60);

/// Pause after a fetch that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Largest JWK Set, in bytes.
const MAX_SET: usize = 64 * 1024;

/// Most clients whose fetched keys are remembered.
const MAX_CLIENTS: usize = 1024;

/// Finds the keys of clients.
#[derive(Debug)]
pub struct ClientKeySets {
    outbound: Outbound,
    fetched: std::sync::Mutex<HashMap<ClientId, Arc<Mutex<Fetched>>>>,
}

/// What one client's `jwks_uri` has shown. Locked while it is asked: who else needs the keys waits for the same answer.
#[derive(Debug, Default)]
struct Fetched {
    from: String,
    keys: Option<(ClientJwks, Timestamp)>,
    /// The last fetch.
    tried_at: Option<Timestamp>,
    /// The last fetch because a key was unknown.
    surprised_at: Option<Timestamp>,
}

impl ClientKeySets {
    /// Those that are found by this client.
    pub fn new(outbound: Outbound) -> Self {
        Self { outbound, fetched: std::sync::Mutex::default() }
    }

    /// The keys that may have signed something of this client by this algorithm: none if the client has no such key. A
    /// `kid` names one of them, without it all that fit are to be tried.
    pub async fn verifying_keys(
        &self,
        client: &RelyingParty,
        kid: Option<&str>,
        alg: Algorithm,
        now: Timestamp,
    ) -> Vec<DecodingKey> {
        let mut keys = match &client.keys {
            None => Vec::new(),
            Some(ClientKeys::Inline(set)) => {
                ClientJwks::read(set).map(|keys| keys.verifying(kid, alg)).unwrap_or_default()
            }
            Some(ClientKeys::Address(address)) => {
                let fetched = self.of(&client.client_id);
                let mut fetched = fetched.lock().await;
                fetched.verifying(&self.outbound, address, (kid, alg), now).await
            }
        };
        if alg == Algorithm::ES256 {
            // An enrolled client's, which its agent has registered.
            keys.extend(client.credentials().filter_map(|credential| match credential {
                ClientCredential::Key(key) => key.jwk.verifying_key(),
                ClientCredential::Secret(_) | ClientCredential::KeyWanted { .. } | ClientCredential::Nothing => None,
            }));
        }
        keys
    }

    /// Forgets what was fetched for a client that has changed or is gone.
    pub fn forget(&self, client: &ClientId) {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
    }

    fn of(&self, client: &ClientId) -> Arc<Mutex<Fetched>> {
        // Nothing panics while it is held; what is in there is right in any case.
        let mut all = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_CLIENTS && !all.contains_key(client) {
            // Those that nobody waits for: they are fetched again when they are needed.
            all.retain(|_, fetched| Arc::strong_count(fetched) > 1);
        }
        all.entry(client.clone()).or_default().clone()
    }
}

impl Fetched {
    async fn verifying(
        &mut self,
        outbound: &Outbound,
        address: &str,
        (kid, alg): (Option<&str>, Algorithm),
        now: Timestamp,
    ) -> Vec<DecodingKey> {
        if self.from != address {
            *self = Self { from: address.to_owned(), ..Self::default() };
        }
        let rested = |last: Option<Timestamp>, pause| last.is_none_or(|at| now >= at + pause);
        let fresh = self.keys.as_ref().is_some_and(|(_, at)| now < *at + FRESH);
        let found = self.found(kid, alg, now);
        let fetch = match (fresh, found.is_empty()) {
            (true, false) => false,
            (true, true) => rested(self.surprised_at, SURPRISE),
            (false, _) => rested(self.tried_at, RETRY),
        };
        if !fetch {
            return found;
        }
        self.tried_at = Some(now);
        self.surprised_at = if fresh { Some(now) } else { self.surprised_at };
        match outbound.fetch_json(address, MAX_SET).await {
            Err(error) => warn!(address, %error, "the keys of a client were not fetched"),
            Ok(set) => match ClientJwks::read(&set) {
                Err(error) => warn!(address, %error, "the keys of a client are not usable"),
                Ok(keys) => {
                    info!(address, "the keys of a client were fetched");
                    self.keys = Some((keys, now));
                }
            },
        }
        self.found(kid, alg, now)
    }

    fn found(&self, kid: Option<&str>, alg: Algorithm, now: Timestamp) -> Vec<DecodingKey> {
        let known = self.keys.as_ref().filter(|(_, at)| now < *at + STALE);
        known.map(|(keys, _)| keys.verifying(kid, alg)).unwrap_or_default()
    }
}
