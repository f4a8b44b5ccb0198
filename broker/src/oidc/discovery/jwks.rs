//! GET /jwks: the public keys (RFC 7517 5).
//!
//! How long caches may keep them follows from the plan: never past the next planned change, so that who obeys
//! `Cache-Control` has a new key before it signs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::config::Current;
use crate::keys::{KeySet, Keys};
use crate::oidc::Provider;
use crate::oidc::discovery::Document;

/// Caches may keep the keys for so long when a change is near or late: a crowd that asks at each login helps nobody.
const LEAST: Duration = Duration::from_secs(5);

/// The same where ops let caches keep the keys for less than [`LEAST`] anyway.
const LEAST_OF_SHORT: Duration = Duration::from_secs(1);

/// How the keys are published.
#[derive(Clone, Debug)]
pub struct Publication {
    /// How long caches may keep them at the most.
    pub max_age: Current<Duration>,
    /// When they will change next, as far as that is planned.
    pub next_change: watch::Receiver<Option<Timestamp>>,
}

impl Publication {
    /// How long caches may keep the keys from now on.
    fn kept(&self, now: Timestamp) -> Duration {
        max_age(self.max_age.now(), *self.next_change.borrow(), now)
    }
}

fn max_age(longest: Duration, next_change: Option<Timestamp>, now: Timestamp) -> Duration {
    let least = if longest < LEAST { LEAST_OF_SHORT } else { LEAST };
    next_change.map_or(longest, |at| at.since(now).min(longest).max(least))
}

/// The document of the keys: made when they change, not at each request.
pub(in crate::oidc) struct PublishedKeys {
    keys: KeySet,
    publication: Publication,
    prepared: Mutex<Prepared>,
}

struct Prepared {
    of: Arc<Keys>,
    document: Arc<Document>,
}

impl Prepared {
    fn new(keys: Arc<Keys>) -> Self {
        Self { document: Arc::new(Document::new(keys.jwks().clone())), of: keys }
    }
}

impl PublishedKeys {
    /// Of these keys.
    pub(in crate::oidc) fn new(keys: KeySet, publication: Publication) -> Self {
        let prepared = Mutex::new(Prepared::new(keys.current()));
        Self { keys, publication, prepared }
    }

    fn document(&self) -> Arc<Document> {
        let keys = self.keys.current();
        // Nothing panics while it is held; what is in there is right in any case.
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&prepared.of, &keys) {
            *prepared = Prepared::new(keys);
        }
        prepared.document.clone()
    }
}

/// Serves it.
pub(in crate::oidc) async fn get(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let published = &provider.published_keys;
    published.document().serve(&headers, published.publication.kept(provider.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_keep_the_keys_until_the_next_planned_change() {
        let now = Timestamp::from_secs(1_800_000_000);
        for (longest, change_in, expected) in [
            (300, None, 300),
            (300, Some(3600), 300),
            (300, Some(300), 300),
            (300, Some(299), 299),
            (300, Some(6), 6),
            (300, Some(5), 5),
            (300, Some(4), 5),
            (300, Some(0), 5),
            (300, Some(-60), 5),
            (5, Some(2), 5),
            (4, None, 4),
            (4, Some(3), 3),
            (4, Some(0), 1),
            (1, Some(-1), 1),
            (1, None, 1),
        ] {
            let next_change = change_in.map(|secs: i64| Timestamp::from_secs(now.as_secs() + secs));
            let kept = max_age(Duration::from_secs(longest), next_change, now);
            assert_eq!(kept.as_secs(), expected, "{longest} {change_in:?}");
        }
    }
}
