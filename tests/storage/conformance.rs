//! The contract of `homeward_broker::storage::Store`, one test a promise. `conformance!` makes them for a backend.

use std::sync::Arc;
use std::time::Duration;

use homeward_broker::clock::Timestamp;
use homeward_broker::storage::sled::{OpenError, SledStore};
use homeward_broker::storage::table::{Record, Table};
use homeward_broker::storage::{Expect, MAX_WRITES, Store, StoreError, WatchEvent, expiry};
use serde::{Deserialize, Serialize};

#[cfg(feature = "etcd")]
use crate::place::EtcdPlace;
use crate::place::{Place, SledPlace};
use crate::words::{get, list, put, version, write};

macro_rules! conformance {
    ($backend:ident, $place:ty: $($rule:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rule::<$place>().await;
                }
            )*
        }
    };
}

/// Every rule, for one more backend.
macro_rules! every_rule {
    ($backend:ident, $place:ty) => {
        conformance!($backend, $place:
            a_value_is_read_as_it_was_written
            an_expectation_that_does_not_hold_writes_nothing
            a_commit_is_all_or_nothing
            a_commit_rests_on_what_it_leaves_alone
            every_write_has_a_version_of_its_own
            of_racing_writers_exactly_one_wins
            racing_increments_are_all_counted
            the_longest_commit_fits_and_a_longer_one_does_not
            a_commit_that_writes_a_key_twice_is_refused
            what_is_too_long_for_a_commit_ends_with_its_last_part
            a_prefix_ends_where_the_next_table_begins
            pages_follow_each_other_in_key_order
            everything_is_what_was_written
            a_watch_sees_its_prefix_in_order_and_nothing_else
            a_watch_begins_behind_what_was_answered
            a_watch_that_lags_is_told_to_reload
            a_watch_ends_with_its_store
            everything_is_there_after_reopening
            revisions_go_on_after_reopening
            an_empty_commit_tells_the_revision
            the_sweeper_deletes_what_has_expired_and_nothing_else
        );
    };
}

every_rule!(sled, super::SledPlace);

#[cfg(feature = "etcd")]
every_rule!(etcd, super::EtcdPlace);

// What more members could change.
#[cfg(feature = "etcd")]
conformance!(etcd_of_three, crate::place::EtcdOfThree:
    of_racing_writers_exactly_one_wins
    racing_increments_are_all_counted
    a_watch_sees_its_prefix_in_order_and_nothing_else
    a_watch_begins_behind_what_was_answered
    everything_is_there_after_reopening
    revisions_go_on_after_reopening
);

async fn a_value_is_read_as_it_was_written<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    assert_eq!(get(&store, "t/a").await, None);
    put(&store, "t/a", "").await;
    assert_eq!(get(&store, "t/a").await.as_deref(), Some(""));
    put(&store, "t/a", &"x".repeat(100_000)).await;
    assert_eq!(get(&store, "t/a").await.map(|value| value.len()), Some(100_000));
    store.commit(vec![write("t/a", Expect::Any, None)]).await.unwrap();
    assert_eq!(get(&store, "t/a").await, None);
}

async fn an_expectation_that_does_not_hold_writes_nothing<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    put(&store, "t/a", "1").await;
    let stale = version(&store, "t/a").await;
    put(&store, "t/a", "2").await;
    for expect in [Expect::Absent, Expect::Version(stale)] {
        let refused = store.commit(vec![write("t/a", expect, Some("3"))]).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{expect:?}");
    }
    let refused = store.commit(vec![write("t/missing", Expect::Version(stale), Some("3"))]).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    assert_eq!(get(&store, "t/a").await.as_deref(), Some("2"));
    let current = version(&store, "t/a").await;
    store.commit(vec![write("t/a", Expect::Version(current), None)]).await.unwrap();
    store.commit(vec![write("t/a", Expect::Absent, Some("4"))]).await.unwrap();
    assert_eq!(get(&store, "t/a").await.as_deref(), Some("4"));
}

async fn a_commit_is_all_or_nothing<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    put(&store, "t/taken", "1").await;
    let writes = vec![
        write("t/a", Expect::Absent, Some("1")),
        write("u/b", Expect::Any, Some("1")),
        write("t/taken", Expect::Absent, Some("2")),
    ];
    assert!(matches!(store.commit(writes).await, Err(StoreError::Conflict)));
    assert_eq!((get(&store, "t/a").await, get(&store, "u/b").await), (None, None));
    let writes = vec![write("t/a", Expect::Absent, Some("1")), write("t/taken", Expect::Any, None)];
    store.commit(writes).await.unwrap();
    assert_eq!((get(&store, "t/a").await, get(&store, "t/taken").await), (Some("1".into()), None));
}

async fn every_write_has_a_version_of_its_own<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        put(&store, "t/a", "same").await;
        seen.push(version(&store, "t/a").await);
        store.commit(vec![write("t/a", Expect::Any, None)]).await.unwrap();
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

async fn of_racing_writers_exactly_one_wins<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    for round in 0..20 {
        let key = format!("t/{round}");
        put(&store, &key, "issued").await;
        let seen = version(&store, &key).await;
        let racers = (0..8).map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                store.commit(vec![write(&key, Expect::Version(seen), Some("redeemed"))]).await.is_ok()
            })
        });
        let mut won = 0;
        for racer in racers.collect::<Vec<_>>() {
            won += usize::from(racer.await.unwrap());
        }
        assert_eq!(won, 1, "round {round}");
    }
}

async fn racing_increments_are_all_counted<P: Place>() {
    #[derive(Serialize, Deserialize)]
    struct Counter(u64);
    impl Record for Counter {
        const TABLE: &'static str = "counter";
    }
    let place = P::new().await;
    let table = Table::<Counter>::new(place.open().await);
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let table = table.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let add = |old: Option<Counter>| Ok::<_, StoreError>(Counter(old.map_or(1, |old| old.0 + 1)));
                    table.update("1", add).await.unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(table.get("1").await.unwrap().unwrap().record.0, 40);
}

async fn the_longest_commit_fits_and_a_longer_one_does_not<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let writes = |table: &str, count| {
        (0..count).map(|n| write(&format!("{table}/{n:03}"), Expect::Absent, Some("x"))).collect::<Vec<_>>()
    };
    store.commit(writes("t", MAX_WRITES)).await.unwrap();
    assert_eq!(list(&store, "t/", None, 1000).await.len(), MAX_WRITES);
    assert!(matches!(store.commit(writes("t", MAX_WRITES)).await, Err(StoreError::Conflict)));
    assert!(matches!(store.commit(writes("u", MAX_WRITES + 1)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(list(&store, "u/", None, 1000).await, [""; 0]);
}

async fn a_commit_rests_on_what_it_leaves_alone<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    put(&store, "held/1", "x").await;
    let before = version(&store, "held/1").await;
    let held = || write("held/1", Expect::Held(before), None);
    put(&store, "held/2", "x").await;
    let other = version(&store, "held/2").await;
    let other = || write("held/2", Expect::Held(other), None);
    let mut watch = store.watch("").await.unwrap();
    // Beside the longest commit, and beside others at the same time.
    let writes = (0..MAX_WRITES).map(|n| write(&format!("t/{n:03}"), Expect::Absent, Some("x")));
    store.commit(writes.chain([held(), other()]).collect()).await.unwrap();
    let many = (0..200).map(|n| store.commit(vec![write(&format!("u/{n}"), Expect::Absent, Some("x")), held()]));
    assert!(futures_util::future::join_all(many).await.iter().all(Result::is_ok));
    assert_eq!((version(&store, "held/1").await, get(&store, "held/1").await.as_deref()), (before, Some("x")));
    // Nobody hears of a change where there was none.
    for _ in 0..MAX_WRITES + 200 {
        let Some(WatchEvent::Changed { key, .. }) = watch.next().await else { panic!() };
        assert_ne!(key.as_str(), "held/1");
    }
    put(&store, "held/1", "x").await;
    let refused = store.commit(vec![write("v/1", Expect::Any, Some("x")), held()]).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    let twice = vec![write("held/1", Expect::Any, Some("x")), held()];
    assert!(matches!(store.commit(twice).await, Err(StoreError::Unavailable(_))));
    assert_eq!(get(&store, "v/1").await, None);
}

async fn what_is_too_long_for_a_commit_ends_with_its_last_part<P: Place>() {
    #[derive(Serialize, Deserialize)]
    struct Leaf(u64);
    impl Record for Leaf {
        const TABLE: &'static str = "leaf";
    }
    let place = P::new().await;
    let store = place.open().await;
    let table = Table::<Leaf>::new(store.clone());
    let leaves =
        || (0..3 * MAX_WRITES).map(|n| table.put(&format!("{n:04}"), &Leaf(1), Expect::Any).unwrap()).collect();
    let root = || vec![write("root/1", Expect::Absent, Some("x"))];
    let revision = table.commit_after(leaves(), root()).await.unwrap();
    assert_eq!(table.all().await.unwrap().len(), 3 * MAX_WRITES);
    assert_eq!(get(&store, "root/1").await.as_deref(), Some("x"));
    assert!(store.commit(Vec::new()).await.unwrap() >= revision);
    assert!(matches!(table.commit_after(leaves(), root()).await, Err(StoreError::Conflict)));
}

async fn a_commit_that_writes_a_key_twice_is_refused<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let twice = vec![write("t/a", Expect::Any, Some("1")), write("t/a", Expect::Any, None)];
    assert!(matches!(store.commit(twice).await, Err(StoreError::Unavailable(_))));
    assert_eq!(get(&store, "t/a").await, None);
}

/// What a backend keeps for itself is nobody else's: a copy of a store is all that was written to it.
async fn everything_is_what_was_written<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let mut watch = store.watch("").await.unwrap();
    for key in ["a/1", "z/1", "m/1"] {
        put(&store, key, "x").await;
    }
    assert_eq!(list(&store, "", None, 10).await, ["a/1", "m/1", "z/1"]);
    for expected in ["a/1", "z/1", "m/1"] {
        let event = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
        let WatchEvent::Changed { key, .. } = event else { panic!("{event:?}") };
        assert_eq!(key.as_str(), expected);
    }
}

async fn a_prefix_ends_where_the_next_table_begins<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    for key in ["code/1", "code/2", "code-x/1", "codes/1", "cod/1", "session/1"] {
        put(&store, key, "x").await;
    }
    assert_eq!(list(&store, "code/", None, 10).await, ["code/1", "code/2"]);
    assert_eq!(list(&store, "nothing/", None, 10).await, [""; 0]);
}

async fn pages_follow_each_other_in_key_order<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    for key in ["t/c", "t/a", "t/b", "t/aa", "t/a-"] {
        put(&store, key, "x").await;
    }
    assert_eq!(list(&store, "t/", None, 2).await, ["t/a", "t/a-"]);
    assert_eq!(list(&store, "t/", Some("t/a-"), 2).await, ["t/aa", "t/b"]);
    assert_eq!(list(&store, "t/", Some("t/b"), 2).await, ["t/c"]);
    assert_eq!(list(&store, "t/", Some("t/c"), 2).await, [""; 0]);
}

async fn a_watch_sees_its_prefix_in_order_and_nothing_else<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    put(&store, "t/before", "x").await;
    let mut watch = store.watch("t/").await.unwrap();
    for n in 0..3 {
        let writes =
            vec![write(&format!("t/{n}"), Expect::Any, Some("x")), write(&format!("u/{n}"), Expect::Any, Some("x"))];
        store.commit(writes).await.unwrap();
    }
    let last = store.commit(vec![write("t/0", Expect::Any, None)]).await.unwrap();
    for expected in [("t/0", true), ("t/1", true), ("t/2", true), ("t/0", false)] {
        let event = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
        let WatchEvent::Changed { key, value, revision } = event else { panic!("{event:?}") };
        assert_eq!((key.as_str(), value.is_some()), expected);
        assert_eq!(revision == last, !expected.1);
    }
    let quiet = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

async fn a_watch_begins_behind_what_was_answered<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let _older = store.watch("t/").await.unwrap();
    for round in 0..50 {
        put(&store, "t/before", "x").await;
        let mut watch = store.watch("t/").await.unwrap();
        let after = store.commit(vec![write("t/after", Expect::Any, Some("x"))]).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
        let WatchEvent::Changed { key, revision, .. } = event else { panic!("{event:?}") };
        assert_eq!((key.as_str(), revision), ("t/after", after), "round {round}");
    }
}

/// One after the other: commits of one moment may share a revision, and a place in the backlog.
async fn a_watch_that_lags_is_told_to_reload<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let mut watch = store.watch("t/").await.unwrap();
    for n in 0..1500 {
        put(&store, &format!("t/{n}"), "x").await;
    }
    assert_eq!(watch.next().await, Some(WatchEvent::Reload));
}

async fn a_watch_ends_with_its_store<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let mut watch = store.watch("t/").await.unwrap();
    drop(store);
    let end = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
    assert_eq!(end, Ok(None));
}

async fn everything_is_there_after_reopening<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    for n in 0..500 {
        put(&store, &format!("t/{n:03}"), "x").await;
    }
    drop(store);
    let store = place.open().await;
    assert_eq!(list(&store, "t/", None, 1000).await.len(), 500);
    put(&store, "t/000", "y").await;
    assert_eq!(get(&store, "t/000").await.as_deref(), Some("y"));
}

async fn revisions_go_on_after_reopening<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let before = store.commit(vec![write("t/a", Expect::Any, Some("1"))]).await.unwrap();
    let seen = version(&store, "t/a").await;
    drop(store);
    let store = place.open().await;
    assert_eq!(version(&store, "t/a").await, seen);
    let after = store.commit(vec![write("t/a", Expect::Version(seen), Some("2"))]).await.unwrap();
    assert!(after > before);
}

async fn an_empty_commit_tells_the_revision<P: Place>() {
    let place = P::new().await;
    let store = place.open().await;
    let last = store.commit(vec![write("t/a", Expect::Any, Some("1"))]).await.unwrap();
    assert!(store.commit(Vec::new()).await.unwrap() >= last);
}

async fn the_sweeper_deletes_what_has_expired_and_nothing_else<P: Place>() {
    #[derive(Serialize, Deserialize)]
    struct Handle(Option<Timestamp>);
    impl Record for Handle {
        const TABLE: &'static str = "handle";

        fn expires_at(&self) -> Option<Timestamp> {
            self.0
        }
    }
    let place = P::new().await;
    let store = place.open().await;
    let table = Table::<Handle>::new(store.clone());
    let mut writes = Vec::new();
    for n in 0..300 {
        let record = Handle((n % 3 != 0).then(|| Timestamp::from_secs(n)));
        writes.push(table.put(&format!("{n:03}"), &record, Expect::Absent).unwrap());
    }
    for part in writes.chunks(MAX_WRITES) {
        table.commit(part.to_vec()).await.unwrap();
    }
    put(&store, "handles/1", "of another table").await;
    let deleted = expiry::sweep(store.as_ref(), "handle", Timestamp::from_secs(150)).await.unwrap();
    assert_eq!(deleted, 100);
    let left = table.all().await.unwrap();
    assert_eq!(left.len(), 200);
    assert!(left.iter().all(|(_, handle)| handle.record.0.is_none_or(|at| at > Timestamp::from_secs(150))));
    assert_eq!(get(&store, "handles/1").await.as_deref(), Some("of another table"));
}

#[tokio::test]
async fn a_second_process_on_one_folder_is_refused() {
    let place = SledPlace::new().await;
    let _first = place.open().await;
    let second = SledStore::open(&place.folder().join("store"));
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_come_together_share_a_flush() {
    let place = SledPlace::new().await;
    let store = Arc::new(SledStore::open(&place.folder().join("store")).unwrap());
    let before = store.flushes();
    let commits: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store.commit(vec![write(&format!("t/{n}"), Expect::Absent, Some("x"))]).await.unwrap();
            })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    let flushes = store.flushes() - before;
    assert!(flushes < 100, "{flushes} flushes for 200 commits");
}
