//! Brokers of one store, in a hurry.

use tokio::task::JoinHandle;

use super::*;
use crate::storage::failing::{FailingStore, Fate};
use crate::storage::sled::SledStore;

impl Pace {
    /// For tests: a broker that was dropped is gone within half a second.
    pub(crate) const FAST: Self = Self { heartbeat: Duration::from_millis(60), missed: 4 };
}

impl Brokers {
    /// One of several in a hurry, whose heart beats until the handle is aborted.
    pub(crate) async fn join_for_test(store: &Arc<SledStore>, name: &str) -> (Self, JoinHandle<()>) {
        let own = StoredBroker::new(name, Timestamp::from_secs(0));
        let (brokers, follow) = Self::join(store.clone(), own, Pace::FAST).await.unwrap();
        (brokers, tokio::spawn(follow))
    }

    pub(crate) async fn is_on_duty(&self) {
        let mut duty = self.duty();
        let on_duty = duty.wait_for(|on_duty| *on_duty);
        tokio::time::timeout(Duration::from_secs(10), on_duty).await.expect("never on duty").unwrap();
    }

    pub(crate) async fn is_alone(&self) {
        let mut changes = self.changes();
        let alone = changes.wait_for(|others| others.is_empty());
        tokio::time::timeout(Duration::from_secs(10), alone).await.expect("never alone").unwrap();
    }

    pub(crate) async fn knows(&self, other: &Self) {
        let (mut changes, id) = (self.changes(), other.me());
        let known = changes.wait_for(|others| others.contains_key(&id));
        tokio::time::timeout(Duration::from_secs(10), known).await.expect("never seen").unwrap();
    }
}

fn store() -> (Arc<SledStore>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(SledStore::open(folder.path()).unwrap()), folder)
}

#[tokio::test]
async fn of_two_brokers_one_has_the_duty_and_the_other_takes_it_when_that_is_dropped() {
    let (store, _folder) = store();
    let (one, heart_of_one) = Brokers::join_for_test(&store, "one").await;
    let (two, _heart) = Brokers::join_for_test(&store, "two").await;
    one.knows(&two).await;
    assert!(*one.duty().borrow() && !*two.duty().borrow());
    assert_eq!((two.on_duty(), two.lives(one.me()), two.all().len()), (Some(one.me()), true, 2));
    // Killed: no goodbye.
    heart_of_one.abort();
    two.is_on_duty().await;
    assert_eq!((two.lives(one.me()), two.has_company()), (false, false));
    tokio::time::sleep(4 * Pace::FAST.heartbeat).await;
    let table = Table::<StoredBroker>::new(store.clone());
    assert_eq!(table.all().await.unwrap().len(), 1, "what is left of it was cleared away");
}

#[tokio::test]
async fn a_broker_that_stops_hands_the_duty_over_at_once() {
    let (store, _folder) = store();
    let slow = Pace { heartbeat: Duration::from_secs(3600), ..Pace::FAST };
    let join = async |name| {
        let own = StoredBroker::new(name, Timestamp::from_secs(0));
        let (brokers, follow) = Brokers::join(store.clone(), own, slow).await.unwrap();
        (brokers, tokio::spawn(follow))
    };
    let ((one, heart), (two, _heart)) = (join("one").await, join("two").await);
    one.knows(&two).await;
    one.give_up_duty().await;
    two.is_on_duty().await;
    assert!(!*one.duty().borrow() && two.lives(one.me()), "it finishes what is in flight");
    heart.abort();
    one.leave().await;
    two.is_alone().await;
}

#[tokio::test]
async fn a_broker_that_was_held_up_comes_back_without_the_duty() {
    let (store, _folder) = store();
    let (one, heart) = Brokers::join_for_test(&store, "one").await;
    let (two, _heart) = Brokers::join_for_test(&store, "two").await;
    heart.abort();
    two.is_on_duty().await;
    // As it is when the process goes on: its old watches tell what has happened.
    let tables = one.0.tables.as_ref().unwrap();
    let (signs, duties) = (tables.brokers.watch().await.unwrap(), tables.duties.watch().await.unwrap());
    one.read(tables).await.unwrap();
    tokio::spawn(one.clone().follow(signs, duties));
    two.knows(&one).await;
    let mut duty = one.duty();
    let off_duty = duty.wait_for(|on_duty| !on_duty);
    tokio::time::timeout(Duration::from_secs(5), off_duty).await.expect("both stay on duty").unwrap();
    assert!(*two.duty().borrow());
}

#[tokio::test]
async fn a_broker_that_does_not_reach_the_store_says_so_to_its_agents_if_there_is_another() {
    let (store, _folder) = store();
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    let fate = move || if is_cut.load(Ordering::Relaxed) { Fate::FailsBefore } else { Fate::Passes };
    let cable = FailingStore::new(store.clone(), fate);
    let own = StoredBroker::new("one", Timestamp::from_secs(0));
    let (one, follow) = Brokers::join(cable, own, Pace::FAST).await.unwrap();
    tokio::spawn(follow);
    let mut cut_off = one.cut_off();
    let patience = Duration::from_secs(5);
    // Alone there is nobody whom they could go to.
    cut.store(true, Ordering::Relaxed);
    one.0.on_duty.subscribe().wait_for(|on_duty| !on_duty).await.unwrap();
    assert!(!*cut_off.borrow());
    cut.store(false, Ordering::Relaxed);
    let (two, _heart) = Brokers::join_for_test(&store, "two").await;
    one.knows(&two).await;
    cut.store(true, Ordering::Relaxed);
    tokio::time::timeout(patience, cut_off.wait_for(|cut_off| *cut_off)).await.expect("it keeps them").unwrap();
    cut.store(false, Ordering::Relaxed);
    tokio::time::timeout(patience, cut_off.wait_for(|cut_off| !cut_off)).await.expect("for ever").unwrap();
}

#[tokio::test]
async fn a_broker_that_is_alone_writes_nothing() {
    let brokers = Brokers::alone(StoredBroker::new("one", Timestamp::from_secs(0)));
    assert!(*brokers.duty().borrow() && brokers.lives(brokers.me()) && !brokers.has_company());
    assert_eq!((brokers.on_duty(), brokers.all().len()), (Some(brokers.me()), 1));
    brokers.leave().await;
    assert!(*brokers.duty().borrow(), "nobody else could take it");
}
