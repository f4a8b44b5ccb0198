//! Clients that this broker has not heard of yet: another one may have made them a moment ago. The store is asked before
//! anybody is refused; so often and no more, because strangers can invent names.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use homeward_certs::identity::InstanceName;
use tracing::warn;

use crate::registry::{Registry, Snapshot};
use crate::storage::{Revision, StoreError};

/// Look-ups a second. Beyond that the snapshot has the last word, as it has for all that is known.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// How often the store may be asked for what strangers name.
#[derive(Clone, Debug)]
pub(super) struct LookUps(Arc<DefaultDirectRateLimiter>);

impl LookUps {
    pub(super) fn new() -> Self {
        Self(Arc::new(RateLimiter::direct(Quota::per_second(PER_SECOND))))
    }
}

impl Registry {
    /// The registry as it is now, with this client in it if the store has it.
    pub async fn snapshot_with_client(&self, id: &str) -> Arc<Snapshot> {
        let known = self.snapshot();
        if known.client(id).is_some() || self.look_ups.0.check().is_err() {
            return known;
        }
        match self.look_up(id).await {
            Ok(true) => self.snapshot(),
            Ok(false) => known,
            Err(error) => {
                warn!(%error, "a client that is not known cannot be looked up");
                known
            }
        }
    }

    /// Waits until the snapshot is not older than what the store has of this home: before anybody is logged out because it
    /// is cut off, which may be what this broker has not heard the end of.
    ///
    /// # Errors
    /// When the store does not answer, or the snapshot does not follow it.
    pub async fn catch_up_with(&self, home: &InstanceName) -> Result<(), StoreError> {
        let instance = self.instances.get(home.as_str()).await?.map(|stored| stored.version.revision());
        let upstream = self.upstreams.get(home.as_str()).await?.map(|stored| stored.version.revision());
        match instance.max(upstream) {
            Some(revision) => self.reached(revision).await,
            None => Ok(()),
        }
    }

    /// Whether the store has a client of this id, and by now the snapshot too.
    async fn look_up(&self, id: &str) -> Result<bool, StoreError> {
        let Some(revision) = self.written_at(id).await? else { return Ok(false) };
        self.reached(revision).await?;
        Ok(true)
    }

    async fn written_at(&self, id: &str) -> Result<Option<Revision>, StoreError> {
        // The id of a client begins with the name that it is of.
        let name = id.rsplit_once('-').and_then(|(name, _)| name.parse::<InstanceName>().ok());
        let Some(name) = name else { return Ok(None) };
        if let Some(stored) = self.clients.get(id).await? {
            return Ok(Some(stored.version.revision()));
        }
        let stored = self.instances.get(name.as_str()).await?;
        let its_own = stored.filter(|stored| {
            let party = stored.record.relying_party.as_ref();
            party.is_some_and(|party| party.client_id.as_str() == id)
        });
        Ok(its_own.map(|stored| stored.version.revision()))
    }
}
