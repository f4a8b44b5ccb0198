//! What the flows that change who is trusted stand on, in one handful.

use std::sync::Arc;

use crate::audit::Audit;
use crate::authority::Authority;
use crate::registry::{Liveness, Registry};
use crate::secret::SealingKeys;
use crate::storage::Store;

/// What [`enrolment`](crate::enrolment) and [`rotation`](crate::rotation) stand on.
#[derive(Clone, Debug)]
pub struct Foundations {
    /// Where everything is written.
    pub store: Arc<dyn Store>,
    /// Who is who.
    pub registry: Registry,
    /// What agents have said, and when they were last seen.
    pub liveness: Liveness,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Seals keys, secrets and challenges.
    pub sealing: Arc<SealingKeys>,
    /// Where they note what they decide.
    pub audit: Audit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::storage::sled::SledStore;

    impl Foundations {
        /// Of a federation that has a CA and nobody in it yet; they last as long as the folder.
        pub(crate) async fn new_in(folder: &tempfile::TempDir, clock: &Clock) -> Self {
            let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
            let (sealing, trust_domain) = (SealingKeys::new_for_test(), "example.org".parse().unwrap());
            store.commit(Authority::first(&store, &sealing, &trust_domain, clock.now()).unwrap()).await.unwrap();
            let (authority, follow) =
                Authority::open(&store, &sealing, &trust_domain, None, clock.clone()).await.unwrap();
            tokio::spawn(follow);
            let (registry, keep_fresh) = Registry::open(store.clone()).await.unwrap();
            tokio::spawn(keep_fresh);
            Self { store, registry, liveness: Liveness::default(), authority, sealing, audit: Audit::unheard() }
        }
    }
}
