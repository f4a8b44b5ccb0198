//! What is the same for all agents: follows from the signing keys and the CA, is made once per revision, and shared by all
//! streams.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_certs::bundle::TrustBundle;
use homeward_certs::pin::SpkiPin;
use tokio::sync::watch;

use crate::authority::{CaPhase, CaState};
use crate::config::Current;
use crate::fleet::versions::{self, Versions};
use crate::keys::Keys;
use crate::registry::Resource;

/// What all agents should have.
#[derive(Clone, Debug)]
pub struct SharedState {
    /// The store's revision at which any of it last changed.
    pub revision: u64,
    /// The JWKS document.
    pub key_set: Bytes,
    /// The `kid` of every key in it.
    pub key_ids: Vec<String>,
    /// How long caches may keep it.
    pub key_set_max_age: Duration,
    /// What to trust.
    pub bundle: TrustBundle,
    /// Set while the CA turns.
    pub renewal: Option<RenewalOrder>,
}

/// Certificates are to be of a certain CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalOrder {
    /// Of that CA's key.
    pub authority_pin: SpkiPin,
    /// Over how long the agents spread their renewals.
    pub within: Duration,
}

/// How fast agents are to follow.
pub struct Pace {
    /// How long caches may keep the key set at the most.
    pub key_set_max_age: Current<Duration>,
    /// Over how long the agents that there are now spread a renewal that is asked of all of them.
    pub renewal_window: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pace({:?})", self.key_set_max_age)
    }
}

impl SharedState {
    /// The shared state as the keys and the CA are, and a future that keeps it so and must be run.
    pub fn follow(
        mut keys: watch::Receiver<Arc<Keys>>,
        mut authority: watch::Receiver<Arc<CaState>>,
        pace: Pace,
    ) -> (watch::Receiver<Arc<Self>>, impl Future<Output = ()> + Send) {
        let first = Self::of(&keys.borrow_and_update(), &authority.borrow_and_update(), &pace);
        let (publish, shared) = watch::channel(Arc::new(first));
        let follow = async move {
            loop {
                tokio::select! {
                    Ok(()) = keys.changed() => {}
                    Ok(()) = authority.changed() => {}
                    else => return,
                }
                let next = Self::of(&keys.borrow_and_update(), &authority.borrow_and_update(), &pace);
                publish.send_replace(Arc::new(next));
            }
        };
        (shared, follow)
    }

    fn of(keys: &Keys, authority: &CaState, pace: &Pace) -> Self {
        // From the moment at which another CA signs: whoever renews before gets the old one again.
        let renewal = match authority.phase {
            Some(CaPhase::ClientsActivated | CaPhase::ServersActivated | CaPhase::RollingBack) => {
                Some(RenewalOrder { authority_pin: authority.signer_pin(), within: (pace.renewal_window)() })
            }
            Some(CaPhase::Prepared) | None => None,
        };
        Self {
            revision: keys.revision().max(authority.revision),
            key_set: keys.jwks().clone(),
            key_ids: keys.kids().map(str::to_owned).collect(),
            key_set_max_age: pace.key_set_max_age.now(),
            bundle: authority.bundle.clone(),
            renewal,
        }
    }
}

/// A shared state and the versions of its resources.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Arc<SharedState>,
    pub(super) versions: Versions,
}

impl Shared {
    pub(super) fn of(state: Arc<SharedState>) -> Self {
        let mut versions = Versions::of(&[
            (Resource::KeySet, versions::of_content(&state.key_set)),
            (Resource::TrustBundle, state.bundle.version),
        ]);
        let order = state.renewal.map(|order| versions::of_content(order.authority_pin.as_bytes()));
        versions.set(Resource::RenewalOrder, order);
        Self { state, versions }
    }
}
