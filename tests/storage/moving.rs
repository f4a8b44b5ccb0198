//! Several runs of one command at once, and a broker that stood still beside one: what only a shared store can suffer.

use std::sync::Arc;
use std::time::Duration;

use homeward_broker::storage::arrival::{Arrival, ArrivalError, put as entry};
use homeward_broker::storage::migration::{End, MigrationError, Progress, migrate};
use homeward_broker::storage::schema::{self, SchemaRecord};
use homeward_broker::storage::{Expect, Key, Store, StoreError};
use world::Etcd;

use crate::place::open;
use crate::words::{get, list, put, write};

const QUIET: &(dyn Fn(Progress) + Sync) = &|_| {};

/// A store with a federation of so many entries.
async fn federation(address: &str, entries: usize) -> Arc<dyn Store> {
    let store = open(address).await;
    let record = SchemaRecord::current().write(&store, Expect::Absent).unwrap();
    store.commit(vec![record]).await.unwrap();
    let entries: Vec<_> =
        (0..entries).map(|n| write(&format!("x/{n:06}"), Expect::Any, Some(&"y".repeat(200)))).collect();
    for batch in entries.chunks(100) {
        store.commit(batch.to_vec()).await.unwrap();
    }
    store
}

async fn opens(store: &Arc<dyn Store>) -> bool {
    schema::open(store, &[]).await.is_ok()
}

/// Whenever the second one begins: one moves the federation, the other one says that it was overtaken or came too late, and
/// never are both stores open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_migrations_at_once_one_is_done() {
    let etcd = Etcd::shared().await.unwrap();
    let mut overtaken = 0;
    for (round, later) in [0, 0, 5, 20, 50, 100, 150, 200, 300, 400].into_iter().enumerate() {
        let address = |end: &str| etcd.address(&format!("two-{}-{round}/{end}", std::process::id()));
        let store = federation(&address("from"), 3000).await;
        let run = async |delay: u64| {
            let end = async |name: &str| End { store: open(&address(name)).await, address: address(name) };
            let (source, target) = (end("from").await, end("to").await);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            migrate(&source, &target, QUIET).await
        };
        let (one, two) = tokio::join!(run(0), run(later));
        for refused in [&one, &two].into_iter().filter_map(|done| done.as_ref().err()) {
            match refused {
                MigrationError::Arrival(ArrivalError::TakenOver) => overtaken += 1,
                MigrationError::Done(_) | MigrationError::Occupied(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!([&one, &two].into_iter().filter(|done| done.is_ok()).count(), 1, "{one:?} {two:?}");
        let there = open(&address("to")).await;
        assert!(opens(&there).await && !opens(&store).await);
        assert_eq!(list(&there, "x/", None, 10_000).await.len(), 3000);
    }
    assert!(overtaken > 0, "no two runs met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_taken_over_writes_nothing_any_more() {
    let etcd = Etcd::shared().await.unwrap();
    let store = open(&etcd.address(&format!("taken-over-{}", std::process::id()))).await;
    let mark = SchemaRecord { arriving: Some("a backup".to_owned()), ..SchemaRecord::current() };
    let one = Arrival::begin(&store, mark.clone(), Expect::Absent).await.unwrap();
    assert!(matches!(Arrival::begin(&store, mark.clone(), Expect::Absent).await, Err(ArrivalError::TakenOver)));
    let entries = |value: &str| (0..250).map(|n| entry((Key::new("x", &format!("{n:03}")), value.into()))).collect();
    one.write(entries("one")).await.unwrap();
    let version = store.get(&schema::key()).await.unwrap().unwrap().version;
    let two = Arrival::begin(&store, mark, Expect::Version(version)).await.unwrap();
    two.write(entries("two")).await.unwrap();
    for refused in
        [one.check().await, one.write(entries("late")).await, one.clear().await, one.finish().await.map(drop)]
    {
        assert!(matches!(refused, Err(ArrivalError::TakenOver)), "{refused:?}");
    }
    two.check().await.unwrap();
    two.finish().await.unwrap();
    assert_eq!(get(&store, "x/249").await.as_deref(), Some("two"));
    assert!(opens(&store).await);
}

/// It has heard nothing of the move yet. Many commits at once rest on the same record, and do not wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stood_still_beside_a_migration_acknowledges_nothing() {
    let etcd = Etcd::shared().await.unwrap();
    let address = |end: &str| etcd.address(&format!("stood-still-{}/{end}", std::process::id()));
    let store = federation(&address("from"), 10).await;
    let broker = schema::hold(store.clone()).await.unwrap();
    put(&broker, "x/broker", "before").await;
    let end = async |name: &str| End { store: open(&address(name)).await, address: address(name) };
    let (source, target) = (end("from").await, end("to").await);
    migrate(&source, &target, QUIET).await.unwrap();
    let late = (0..50).map(|n| broker.commit(vec![write(&format!("x/late-{n}"), Expect::Absent, Some("late"))]));
    for refused in futures_util::future::join_all(late).await {
        let Err(StoreError::Unavailable(cause)) = refused else { panic!("{refused:?}") };
        assert!(cause.to_string().contains("the federation has moved to etcd:"), "{cause}");
    }
    assert_eq!(list(&store, "x/late", None, 100).await, [""; 0]);
    assert_eq!(get(&target.store, "x/broker").await.as_deref(), Some("before"));
}
