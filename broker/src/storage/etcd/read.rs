//! Reads of single keys: those that wait are asked together.

use std::sync::Arc;

use etcd_client::{KeyValue, TxnOpResponse};
use tokio_util::sync::CancellationToken;

use crate::storage::StoreError;
use crate::storage::etcd::cluster::{Cluster, Tries};
use crate::storage::etcd::group::{Groups, Part};
use crate::storage::etcd::problem::Problem;

/// The way of reads to a cluster.
pub(super) struct Reads {
    cluster: Arc<Cluster>,
    groups: Groups,
}

impl Reads {
    pub(super) fn new(cluster: Arc<Cluster>, closed: &CancellationToken) -> Self {
        let groups = Groups::new(cluster.clone(), closed.clone());
        Self { cluster, groups }
    }

    /// What is there, if something is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no member told.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let mut tries = Tries::begin();
        loop {
            let asked = self.groups.send(Part::read(key.to_vec(), tries.patience));
            match tokio::time::timeout(tries.left(), asked).await.unwrap_or(Err(Problem::Silent)) {
                Ok(answer) => return found(answer.responses).map_err(StoreError::from),
                Err(problem) => self.cluster.bear(&mut tries, problem).await?,
            }
        }
    }
}

fn found(responses: Vec<TxnOpResponse>) -> Result<Option<KeyValue>, Problem> {
    match responses.into_iter().next() {
        Some(TxnOpResponse::Get(mut found)) => Ok(found.take_kvs().pop()),
        _ => Err(Problem::Other("an answer to another question".to_owned())),
    }
}
