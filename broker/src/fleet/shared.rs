//! What is the same for all agents: made once per revision, and shared by all their streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_certs::bundle::TrustBundle;
use homeward_certs::pin::SpkiPin;

use crate::fleet::versions::{self, Versions};
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
