//! Brokers that decide at the same time, and one that dies in between.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::storage::{Key, Page, Revision, Store, Versioned, Watch, Write};

/// Two brokers on one store: both look at the same time, again and again; each move happens once.
#[tokio::test]
async fn of_two_brokers_that_decide_at_once_one_moves() {
    let world = World::new(&["beta"], POLICY).await;
    let other = World::broker(&world.foundations, POLICY);
    let both = async |now| {
        let (one, two) = tokio::join!(world.rotations.look(now), other.look(now));
        one.unwrap();
        two.unwrap();
    };
    let begin = |rotations: Arc<Rotations>| async move { rotations.begin(RS256, Urgency::Planned, "", NOW).await };
    let (one, two) = tokio::join!(begin(world.rotations.clone()), begin(other.clone()));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(world.states().await, ["active", "pending"]);
    world.acknowledges_keys("beta", NOW).await;
    both(NOW + 10 * MINUTE).await;
    assert_eq!(world.states().await, ["active", "retired"]);
    both(NOW + 10 * MINUTE + LONGEST).await;
    both(NOW + 10 * MINUTE + LONGEST).await;
    assert_eq!(world.states().await, ["active"]);
}

/// A store that breaks down at its nth commit from now: before it is made, or after, when only the answer is lost.
#[derive(Debug)]
struct Breaking {
    inner: Arc<dyn Store>,
    left: AtomicI64,
    answer_only: bool,
}

#[async_trait::async_trait]
impl Store for Breaking {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
        self.inner.list(page).await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
        self.inner.watch(prefix).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left < 0 || (left == 0 && !self.answer_only) {
            return Err(StoreError::Unavailable("killed".into()));
        }
        let done = self.inner.commit(writes).await;
        if left == 0 { Err(StoreError::Unavailable("killed".into())) } else { done }
    }
}

/// The broker dies before or after any commit of a rotation, another one goes on from what is stored, and the
/// rotation ends as if nothing had happened.
#[tokio::test]
async fn a_rotation_goes_on_after_a_broker_that_died_at_any_commit() {
    for subject in [RS256, secret_of("beta"), RotationSubject::Authority] {
        for (nth, answer_only) in (0..5).flat_map(|nth| [(nth, false), (nth, true)]) {
            let world = World::new(&["beta"], POLICY).await;
            world.connects("beta", NOW);
            let store = world.foundations.store.clone();
            let breaking = Arc::new(Breaking { inner: store, left: AtomicI64::new(nth), answer_only });
            let dying = World::broker(&Foundations { store: breaking, ..world.foundations.clone() }, POLICY);
            let mut now = NOW;
            drop(dying.begin(subject.clone(), Urgency::Planned, "uid=0", now).await);
            for _ in 0..6 {
                now = now + 11 * MINUTE;
                everybody_goes_along(&world, now).await;
                drop(dying.look(now).await);
                settle(&world).await;
            }
            // Ops see no rotation if it died before the first commit, and order it again.
            if world.rotations.status(Some(&subject), now).await.unwrap().is_empty() {
                world.rotations.begin(subject.clone(), Urgency::Planned, "uid=0", now).await.unwrap();
            }
            for _ in 0..20 {
                now = now + 11 * MINUTE;
                everybody_goes_along(&world, now).await;
                world.rotations.look(now).await.unwrap();
                settle(&world).await;
            }
            let end = world.look(&subject, now).await;
            assert_eq!(end.0, Phase::Done, "{subject} died at commit {nth}, answer_only {answer_only}: {end:?}");
            assert_eq!(world.states().await, ["active"]);
            assert_eq!(world.party("beta").credentials().count(), 1);
            assert_eq!(world.foundations.authority.state().authorities().len(), 1);
        }
    }
}
