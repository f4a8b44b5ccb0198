//! The key set on a store of its own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::clock::Timestamp;
use crate::storage::sled::SledStore;
use crate::storage::{Expect, Write};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

struct World {
    store: Arc<dyn Store>,
    sealing: Arc<SealingKeys>,
    table: Table<StoredKey>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        Self { table: Table::new(store.clone()), store, sealing: SealingKeys::new_for_test(), _folder: folder }
    }

    async fn initialised() -> Self {
        let world = Self::new();
        world.store.commit(first_keys(&world.store, &world.sealing, NOW).unwrap()).await.unwrap();
        world
    }

    async fn open(&self) -> Result<KeySet, KeyError> {
        let (keys, follow) = KeySet::open(self.store.clone(), self.sealing.clone()).await?;
        tokio::spawn(follow);
        Ok(keys)
    }

    /// An ES256 key in this state; ES256 because those are made in no time.
    fn key(&self, state: KeyState, now: Timestamp) -> (String, StoredKey) {
        let (kid, key) = StoredKey::generate(&self.sealing, SigningAlgorithm::Es256, NOW).unwrap();
        (kid, key.moved(state, now))
    }

    /// A key that does not sign yet, and two that do no longer: one for a short time, one for longer.
    async fn not_active(&self) -> [(String, StoredKey); 3] {
        let retired = KeyState::Retired { gone_at: NOW + HOUR * 9 };
        let keys = [(KeyState::Pending, NOW), (retired, NOW), (retired, NOW - HOUR)];
        let keys = keys.map(|(state, now)| self.key(state, now));
        self.store.commit(keys.iter().map(|key| self.put(key)).collect()).await.unwrap();
        keys
    }

    fn put(&self, (kid, key): &(String, StoredKey)) -> Write {
        self.table.put(kid, key, Expect::Any).unwrap()
    }

    async fn stored(&self, kid: &str) -> StoredKey {
        self.table.get(kid).await.unwrap().unwrap().record
    }
}

fn published(keys: &Keys) -> Vec<String> {
    let jwks: Value = serde_json::from_slice(keys.jwks()).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_broker_starts_with_one_active_key_of_each_algorithm_only() {
    let world = World::new();
    assert!(matches!(world.open().await, Err(KeyError::Missing(SigningAlgorithm::Rs256))));
    let world = World::initialised().await;
    world.store.commit(vec![world.put(&world.key(KeyState::Active, NOW))]).await.unwrap();
    let refusal = world.open().await.unwrap_err();
    assert!(matches!(refusal, KeyError::Ambiguous(SigningAlgorithm::Es256)));
    assert_eq!(refusal.to_string(), "more than one ES256 signing key is active: restore the store from a backup");
}

#[tokio::test]
async fn the_published_order_is_active_pending_retired() {
    let world = World::initialised().await;
    let [pending, lately, long_ago] = world.not_active().await;
    let keys = world.open().await.unwrap().current();
    let active = [SigningAlgorithm::Rs256, SigningAlgorithm::Es256].map(|algorithm| keys.signer(algorithm).kid());
    let expected = [active[0], active[1], &pending.0, &lately.0, &long_ago.0];
    assert_eq!(published(&keys), expected);
    assert_eq!(keys.kids().collect::<Vec<_>>(), expected);
    assert!(active.iter().all(|kid| **kid != pending.0), "a pending key does not sign");
}

#[tokio::test]
async fn the_acknowledged_choice_is_the_newest_that_is_known() {
    let world = World::initialised().await;
    let [pending, lately, long_ago] = world.not_active().await;
    let keys = world.open().await.unwrap().current();
    let es256 = SigningAlgorithm::Es256;
    let (active, rs256) = (keys.signer(es256).kid(), keys.signer(SigningAlgorithm::Rs256).kid());
    for (acknowledged, expected) in [
        (vec![], active),
        (vec![active, &lately.0], active),
        (vec![&long_ago.0, &lately.0], &lately.0),
        (vec![&long_ago.0, &pending.0], &long_ago.0),
        (vec![&pending.0], active),
        (vec!["gone", rs256], active),
    ] {
        let acknowledged: Vec<String> = acknowledged.into_iter().map(str::to_owned).collect();
        assert_eq!(keys.signer_for(es256, &acknowledged).kid(), expected, "{acknowledged:?}");
    }
}

#[tokio::test]
async fn a_set_follows_the_store() {
    let world = World::initialised().await;
    let keys = world.open().await.unwrap();
    let mut changes = keys.changes();
    let first = keys.current();
    let old = first.signer(SigningAlgorithm::Es256).kid().to_owned();
    let new = world.key(KeyState::Pending, NOW);
    world.store.commit(vec![world.put(&new)]).await.unwrap();
    changes.changed().await.unwrap();
    let second = keys.current();
    assert_eq!(second.signer(SigningAlgorithm::Es256).kid(), old);
    assert!(second.published(&new.0).is_some() && second.revision() > first.revision());
    assert_ne!(second.version(), first.version());
    // Both keys in one commit: one picture, in which one of them is active.
    let activated = (new.0.clone(), new.1.moved(KeyState::Active, NOW));
    let retired = world.stored(&old).await.moved(KeyState::Retired { gone_at: NOW + HOUR }, NOW);
    world.store.commit(vec![world.put(&activated), world.put(&(old.clone(), retired))]).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(keys.current().signer(SigningAlgorithm::Es256).kid(), new.0);
    assert!(keys.current().published(&old).is_some());
    // That it goes later is no news; that it is gone is.
    let later = world.stored(&old).await.moved(KeyState::Retired { gone_at: NOW + HOUR * 2 }, NOW);
    world.store.commit(vec![world.put(&(old.clone(), later))]).await.unwrap();
    world.store.commit(vec![world.table.delete(&old, Expect::Any)]).await.unwrap();
    changes.changed().await.unwrap();
    assert!(keys.current().published(&old).is_none());
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn an_unfit_table_leaves_the_picture_as_it_was() {
    let world = World::initialised().await;
    let keys = world.open().await.unwrap();
    let mut changes = keys.changes();
    let before = keys.current();
    let second = world.key(KeyState::Active, NOW);
    world.store.commit(vec![world.put(&second)]).await.unwrap();
    // Logins go on, and ops hear of it meanwhile.
    let unfit = async {
        while keys.is_fit() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), unfit).await.unwrap();
    assert!(keys.remark().is_some_and(|remark| remark.contains("restore the store from a backup")));
    assert_eq!(keys.current().signer(SigningAlgorithm::Es256).kid(), before.signer(SigningAlgorithm::Es256).kid());
    let pending = (second.0.clone(), second.1.moved(KeyState::Pending, NOW));
    world.store.commit(vec![world.put(&pending)]).await.unwrap();
    changes.changed().await.unwrap();
    let es256 = SigningAlgorithm::Es256;
    assert_eq!(keys.current().signer(es256).kid(), before.signer(es256).kid());
    assert!(keys.is_fit() && keys.remark().is_none());
    assert!(!changes.has_changed().unwrap(), "the two active keys were never shown");
}

#[tokio::test]
async fn a_key_under_another_name_is_refused() {
    let world = World::initialised().await;
    let (_, key) = world.key(KeyState::Pending, NOW);
    world.store.commit(vec![world.put(&("other".to_owned(), key))]).await.unwrap();
    assert!(matches!(world.open().await, Err(KeyError::Unreadable(kid)) if kid == "other"));
}
