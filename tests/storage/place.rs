//! Where a backend keeps its data, so that it can be opened again.

use std::path::PathBuf;
use std::sync::Arc;

use homeward_broker::storage::Store;
use homeward_broker::storage::sled::SledStore;
use tempfile::TempDir;

pub(crate) trait Place {
    async fn new() -> Self;
    async fn open(&self) -> Arc<dyn Store>;
}

pub(crate) struct SledPlace(TempDir);

impl SledPlace {
    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Place for SledPlace {
    async fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SledStore::open(&self.0.path().join("store")).unwrap())
    }
}

#[cfg(feature = "etcd")]
pub(crate) use of_etcd::{EtcdOfThree, EtcdPlace, open};

#[cfg(feature = "etcd")]
mod of_etcd {
    use homeward_broker::storage::Store;
    use homeward_broker::storage::address::{self, EtcdAccess};
    use std::sync::Arc;
    use uuid::Uuid;
    use world::Etcd;

    use super::Place;

    /// Opens a store at an address, without guard.
    pub(crate) async fn open(address: &str) -> Arc<dyn Store> {
        address::open(&address.parse().unwrap(), &EtcdAccess::default()).await.unwrap()
    }

    /// A prefix in an etcd of one member.
    pub(crate) struct EtcdPlace {
        etcd: Arc<Etcd>,
        prefix: String,
    }

    impl Place for EtcdPlace {
        async fn new() -> Self {
            Self { etcd: Etcd::shared().await.unwrap(), prefix: Uuid::new_v4().to_string() }
        }

        async fn open(&self) -> Arc<dyn Store> {
            open(&self.etcd.address(&self.prefix)).await
        }
    }

    /// An etcd of three members.
    pub(crate) struct EtcdOfThree(Etcd);

    impl Place for EtcdOfThree {
        async fn new() -> Self {
            Self(Etcd::three().await.unwrap())
        }

        async fn open(&self) -> Arc<dyn Store> {
            open(&self.0.address("homeward")).await
        }
    }
}
