//! Both ends are embedded stores here; the program's tests move real federations.

use std::sync::Mutex;

use super::*;
use crate::storage::sled::SledStore;

const QUIET: &(dyn Fn(Progress) + Sync) = &|_| {};

struct Ends {
    source: End,
    target: End,
    _folders: [tempfile::TempDir; 2],
}

async fn ends(entries: usize) -> Ends {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let end = |folder: &tempfile::TempDir| End {
        store: Arc::new(SledStore::open(folder.path()).unwrap()),
        address: format!("sled:{}", folder.path().display()),
    };
    let (source, target) = (end(&folders[0]), end(&folders[1]));
    let record = SchemaRecord { epoch: 3, ..SchemaRecord::current() };
    source.store.commit(vec![record.write(&source.store, Expect::Absent).unwrap()]).await.unwrap();
    let entries = (0..entries).map(|id| entry(&format!("{id:06}"), &"x".repeat(id % 900)));
    let entries: Vec<_> = entries.collect();
    for batch in entries.chunks(100) {
        source.store.commit(batch.to_vec()).await.unwrap();
    }
    Ends { source, target, _folders: folders }
}

fn entry(id: &str, value: &str) -> Write {
    Write { key: Key::new("x", id), expect: Expect::Any, value: Some(value.as_bytes().to_vec()) }
}

async fn opened(end: &End) -> Result<SchemaRecord, String> {
    schema::open(&end.store, &[]).await.map_err(|error| error.to_string())
}

async fn contents(end: &End) -> BTreeMap<Key, Vec<u8>> {
    between(&end.store, None, None).await.unwrap()
}

#[tokio::test]
async fn a_federation_moves_whole_and_lives_at_one_place_only() {
    let Ends { source, target, _folders } = ends(1500).await;
    let before = contents(&source).await;
    let migrated = migrate(&source, &target, QUIET).await.unwrap();
    assert_eq!((migrated.entries, migrated.sha256.len()), (1500, 64));
    assert_eq!(contents(&target).await, before);
    assert_eq!(opened(&target).await.unwrap().epoch, 3);
    assert!(opened(&source).await.unwrap_err().contains("has moved to sled:"));
    // Once more: nothing to do, and said so.
    assert!(matches!(migrate(&source, &target, QUIET).await, Err(MigrationError::Done(_))));
    // The way back needs an empty place.
    assert!(matches!(migrate(&target, &source, QUIET).await, Err(MigrationError::Occupied(_))));
    let Ends { target: third, _folders, .. } = ends(0).await;
    migrate(&target, &third, QUIET).await.unwrap();
    assert_eq!(contents(&third).await, before);
    assert!(opened(&third).await.is_ok() && opened(&target).await.is_err());
}

/// Wherever a run is killed: neither end is open twice, and another run finishes it, also if the source was used between.
#[tokio::test]
async fn a_run_that_was_killed_is_finished_by_the_next() {
    for killed_after in [1, 2, 4, 6, 7, 9, 12, 13] {
        let Ends { source, target, _folders } = ends(1500).await;
        let (reported, enough) = (Mutex::new(0), tokio::sync::Notify::new());
        let report = |_| {
            let mut reported = reported.lock().unwrap();
            *reported += 1;
            if *reported == killed_after {
                enough.notify_one();
            }
        };
        let killed = tokio::select! {
            biased;
            () = enough.notified() => true,
            done = migrate(&source, &target, &report) => done.is_err(),
        };
        assert!(killed, "{killed_after}");
        assert!(opened(&target).await.unwrap_err().contains("was not finished"), "{killed_after}");
        if opened(&source).await.is_ok() {
            let delete = Write { value: None, ..entry("000003", "") };
            source.store.commit(vec![entry("000001", "changed"), entry("0000015", "new"), delete]).await.unwrap();
        }
        let before = contents(&source).await;
        migrate(&source, &target, QUIET).await.unwrap();
        assert_eq!(contents(&target).await, before, "{killed_after}");
        assert!(opened(&target).await.is_ok() && opened(&source).await.is_err());
    }
}

#[tokio::test]
async fn nothing_is_moved_over_another_federation_or_from_an_unfinished_one() {
    let Ends { source, target, _folders } = ends(3).await;
    let Ends { source: other, target: empty, _folders: _others } = ends(2).await;
    assert!(matches!(migrate(&source, &other, QUIET).await, Err(MigrationError::Occupied(_))));
    assert!(matches!(migrate(&empty, &target, QUIET).await, Err(MigrationError::Empty(_))));
    assert!(matches!(migrate(&source, &source, QUIET).await, Err(MigrationError::Same(_))));
    prepare(&source, &target, &opened(&source).await.unwrap()).await.unwrap();
    assert!(matches!(migrate(&other, &target, QUIET).await, Err(MigrationError::Occupied(_))));
    let from_unfinished = migrate(&target, &empty, QUIET).await;
    assert!(matches!(from_unfinished, Err(MigrationError::Schema(SchemaError::Arriving(_)))));
    assert!(opened(&source).await.is_ok() && opened(&other).await.is_ok());
}

fn presence_of(beats: u32) -> Write {
    Write { key: Key::new("broker", "b"), expect: Expect::Any, value: Some(beats.to_be_bytes().to_vec()) }
}

#[tokio::test]
async fn a_source_on_which_a_broker_lives_is_refused_and_a_dead_one_is_not() {
    let Ends { source, target, _folders } = ends(3).await;
    let store = source.store.clone();
    let beating = tokio::spawn(async move {
        for beats in 0.. {
            store.commit(vec![presence_of(beats)]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    while presence(&source.store).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(migrate(&source, &target, QUIET).await, Err(MigrationError::Live)));
    assert!(opened(&source).await.is_ok());
    beating.abort();
    migrate(&source, &target, QUIET).await.unwrap();
}

/// It opened the source after it was looked at, and before that said that the federation has moved.
#[tokio::test]
async fn a_broker_that_starts_in_between_keeps_its_federation() {
    let Ends { source, target, _folders } = ends(600).await;
    let store = source.store.clone();
    let report = |progress| {
        if progress == Progress::Copied(600) {
            let store = store.clone();
            tokio::spawn(async move { store.commit(vec![presence_of(1)]).await.unwrap() });
        }
    };
    // Whether it is there when the ends are compared, is up to the scheduler: a commit of the run itself comes behind it.
    let refused = migrate(&source, &target, &report).await;
    assert!(matches!(refused, Err(MigrationError::Live)), "{refused:?}");
    assert!(opened(&source).await.is_ok());
    assert!(opened(&target).await.is_err());
}
