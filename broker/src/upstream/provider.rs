//! What is known of the OpenID providers: their metadata and keys, in memory.
//!
//! A loop keeps them fresh, so that a login finds them there: strangers who begin logins make nobody fetch anything. Where
//! a login needs more (a key that is new, or a provider that was never asked), it is fetched once for all who wait, and
//! for the same reason not again for [`PAUSE`]. Casdoor names a key by its certificate, and a certificate that is made
//! anew keeps its name: so a wrong signature is a reason to look again as well as an unknown name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use http::Request;
use http::header::{ACCEPT, CACHE_CONTROL};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::Issuer;
use crate::outbound::Outbound;
use crate::registry::{Registry, Upstream, UpstreamProtocol};
use crate::upstream::error::{MetadataRule, UpstreamError};
use crate::upstream::jws::Keys;
use crate::upstream::metadata::{self, Metadata};

/// Least pause between two looks at one provider for the same reason, whoever wants them.
const PAUSE: Duration = Duration::from_secs(10);

/// Bounds of how long an answer is fresh, whatever the provider says, and what counts if it says nothing.
const FRESH: (Duration, Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(300));

/// How long an answer is used while the provider gives no other.
const STALE: Duration = Duration::from_secs(86_400);

/// How often the loop looks whether something is old.
const TICK: Duration = Duration::from_secs(5);

/// Largest document, in bytes.
pub(super) const MAX_DOCUMENT: usize = 256 * 1024;

/// What a provider has shown.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) metadata: Arc<Metadata>,
    pub(super) keys: Arc<Keys>,
    fetched_at: Timestamp,
    fresh_for: Duration,
}

/// What the providers have shown.
#[derive(Debug)]
pub(super) struct Providers {
    outbound: Outbound,
    registry: Registry,
    broker: Issuer,
    known: StdMutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// Of one provider. Locked while it is asked by somebody who can do nothing without an answer: who else needs it waits for
/// the same.
#[derive(Debug, Default)]
struct Known {
    shown: Option<Provider>,
    tried_at: Option<Timestamp>,
    /// The last look because a token did not fit.
    surprised_at: Option<Timestamp>,
    failures: u32,
}

impl Providers {
    pub(super) fn new(outbound: Outbound, registry: Registry, broker: Issuer) -> Self {
        Self { outbound, registry, broker, known: StdMutex::default() }
    }

    /// What is known of a home's provider; asks it only if nothing is.
    ///
    /// # Errors
    /// When nothing is known, and it does not answer or was asked a moment ago.
    pub(super) async fn find(&self, upstream: &Upstream, now: Timestamp) -> Result<Provider, UpstreamError> {
        let known = self.of(upstream);
        let mut known = known.lock().await;
        match known.usable(now) {
            Some(provider) => Ok(provider),
            None if rested(known.tried_at, now) => self.look(upstream, &mut known, now).await,
            None => Err(UpstreamError::NotKnown),
        }
    }

    /// What the provider shows now, for a token that does not fit what it showed before; nothing if it was asked a moment
    /// ago, or shows the same.
    pub(super) async fn newer(&self, upstream: &Upstream, seen: &Provider, now: Timestamp) -> Option<Provider> {
        let known = self.of(upstream);
        let mut known = known.lock().await;
        let since = known.usable(now).filter(|provider| !Arc::ptr_eq(&provider.keys, &seen.keys));
        match since {
            Some(provider) => Some(provider),
            None if rested(known.surprised_at, now) => {
                known.surprised_at = Some(now);
                self.look(upstream, &mut known, now).await.ok()
            }
            None => None,
        }
    }

    /// Asks a provider, whatever is known of it.
    ///
    /// # Errors
    /// When it does not answer as it should.
    pub(super) async fn check(&self, upstream: &Upstream, now: Timestamp) -> Result<Provider, UpstreamError> {
        self.fetch(upstream, now).await
    }

    /// Keeps what is known fresh, for ever.
    pub(super) async fn keep_fresh(self: Arc<Self>, clock: Clock) {
        loop {
            let now = clock.now();
            let snapshot = self.registry.snapshot();
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|id, _| snapshot.upstreams().any(|upstream| key(upstream) == *id));
            let mut looks = JoinSet::new();
            // Servers that only speak OAuth publish nothing.
            let openid = |upstream: &&Arc<Upstream>| matches!(upstream.protocol, UpstreamProtocol::OpenId { .. });
            let upstreams: Vec<Arc<Upstream>> = snapshot.upstreams().filter(openid).cloned().collect();
            for upstream in upstreams {
                let providers = self.clone();
                looks.spawn(async move { providers.refresh(&upstream, now).await });
            }
            while looks.join_next().await.is_some() {}
            tokio::time::sleep(TICK).await;
        }
    }

    /// Asks a provider whose answer is old. Logins go on with what it showed before; those that can do nothing without the
    /// answer wait for it.
    async fn refresh(&self, upstream: &Upstream, now: Timestamp) {
        let shared = self.of(upstream);
        let mut known = shared.lock().await;
        if !known.is_old(now) || !rested(known.tried_at, now) {
            return;
        }
        if known.usable(now).is_none() {
            drop(self.look(upstream, &mut known, now).await);
            return;
        }
        known.tried_at = Some(now);
        drop(known);
        let shown = self.fetch(upstream, now).await;
        drop(self.note(upstream, &mut *shared.lock().await, shown, now));
    }

    /// Where the broker may ask this home's provider.
    pub(super) fn outbound(&self, upstream: &Upstream) -> Outbound {
        self.outbound.admitting(upstream.protocol.origins())
    }

    fn of(&self, upstream: &Upstream) -> Arc<Mutex<Known>> {
        // Nothing panics while it is held; what is in there is right in any case.
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key(upstream)).or_default().clone()
    }

    async fn look(&self, upstream: &Upstream, known: &mut Known, now: Timestamp) -> Result<Provider, UpstreamError> {
        known.tried_at = Some(now);
        let shown = self.fetch(upstream, now).await;
        self.note(upstream, known, shown, now)
    }

    fn note(
        &self,
        upstream: &Upstream,
        known: &mut Known,
        shown: Result<Provider, UpstreamError>,
        now: Timestamp,
    ) -> Result<Provider, UpstreamError> {
        match shown {
            Ok(provider) => {
                known.failures = 0;
                known.shown = Some(provider.clone());
                self.registry.reachability.works(upstream);
                Ok(provider)
            }
            Err(error) => {
                known.failures += 1;
                warn!(home = %upstream.name, %error, "an identity provider does not answer as it should");
                // Once is an accident, as long as what it showed before can be used.
                if known.failures > 1 || known.usable(now).is_none() {
                    self.registry.reachability.fails(upstream, error.to_string());
                }
                Err(error)
            }
        }
    }

    async fn fetch(&self, upstream: &Upstream, now: Timestamp) -> Result<Provider, UpstreamError> {
        let UpstreamProtocol::OpenId { issuer, discovery_url } = &upstream.protocol else {
            return Err(UpstreamError::NotKnown);
        };
        let address = metadata::address(issuer, discovery_url.as_deref());
        let (document, fresh) = self.document(upstream, "its discovery document", &address).await?;
        let snapshot = self.registry.snapshot();
        let metadata = Metadata::read(&document, upstream, issuer, &self.broker, &snapshot)?;
        let (document, keys_fresh) = self.document(upstream, "its key set", &metadata.jwks_uri).await?;
        let keys = Keys::read(&document).ok_or(MetadataRule::NoKey)?;
        info!(home = %upstream.name, provider = issuer, "metadata and keys of an identity provider were fetched");
        Ok(Provider {
            metadata: Arc::new(metadata),
            keys: Arc::new(keys),
            fetched_at: now,
            fresh_for: fresh.min(keys_fresh),
        })
    }

    /// A document, and for how long it is fresh.
    async fn document(
        &self,
        upstream: &Upstream,
        what: &'static str,
        address: &str,
    ) -> Result<(Vec<u8>, Duration), UpstreamError> {
        let request = Request::get(address).header(ACCEPT, "application/json").body(Vec::new());
        let request = request.map_err(|_| MetadataRule::Missing("readable address"))?;
        let answer = self.outbound(upstream).ask(request, MAX_DOCUMENT).await;
        let answer = answer.map_err(|error| UpstreamError::Fetch(what, error))?;
        if answer.status() != http::StatusCode::OK {
            return Err(UpstreamError::Answer(what, answer.status()));
        }
        let said = answer.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(max_age);
        let (least, most, usual) = FRESH;
        let fresh = said.unwrap_or(usual).clamp(least, most);
        Ok((answer.into_body(), fresh))
    }
}

impl Known {
    fn usable(&self, now: Timestamp) -> Option<Provider> {
        self.shown.clone().filter(|provider| now < provider.fetched_at + STALE)
    }

    fn is_old(&self, now: Timestamp) -> bool {
        self.failures > 0 || self.shown.as_ref().is_none_or(|shown| now >= shown.fetched_at + shown.fresh_for)
    }
}

fn rested(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|at| now >= at + PAUSE)
}

/// A home that is changed may have another provider: nothing is known of that one.
fn key(upstream: &Upstream) -> String {
    let UpstreamProtocol::OpenId { issuer, discovery_url } = &upstream.protocol else { return String::new() };
    format!("{} {issuer} {}", upstream.name, discovery_url.as_deref().unwrap_or_default())
}

/// RFC 9111 5.2.2.1.
fn max_age(cache_control: &str) -> Option<Duration> {
    let directives = cache_control.split(',').map(str::trim);
    let seconds = directives.filter_map(|directive| directive.strip_prefix("max-age=")).find_map(|s| s.parse().ok());
    seconds.map(Duration::from_secs)
}
