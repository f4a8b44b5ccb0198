//! Stores of every kind, opened and refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::sled::SledStore;

const PAGE: usize = 10;

fn raw(id: usize, value: &str) -> Write {
    Write { key: Key::new("x", &format!("{id:04}")), expect: Expect::Any, value: Some(value.as_bytes().to_vec()) }
}

async fn old_store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    store.commit((0..95).map(|id| raw(id, "old")).collect()).await.unwrap();
    store
}

/// Adds one to each value's length, so that whatever is done twice is seen. Fails at a page, if wanted.
fn lengthen<'a>(store: &'a Arc<dyn Store>, pages: &'a AtomicUsize, fails_at: usize) -> Step<'a> {
    Step::new(2, move |after| {
        Box::pin(async move {
            if pages.fetch_add(1, Ordering::SeqCst) == fails_at {
                return Err("killed".into());
            }
            let after = after.map(|id| Key::new("x", &id));
            let found = store.list(Page { prefix: "x/".to_owned(), after, limit: PAGE }).await?;
            let after = (found.len() == PAGE).then(|| found[PAGE - 1].0.id().to_owned());
            let writes = found.into_iter().map(|(key, found)| {
                let value = Some([found.value.as_slice(), b"+"].concat());
                Write { key, expect: Expect::Version(found.version), value }
            });
            Ok(StepPage { writes: writes.collect(), after })
        })
    })
}

/// What has nothing to write.
fn empty<'a>() -> Step<'a> {
    Step::new(3, |_| Box::pin(async { Ok(StepPage::default()) }))
}

async fn values(store: &Arc<dyn Store>) -> Vec<String> {
    let found = store.list(Page { prefix: "x/".to_owned(), after: None, limit: 1000 }).await.unwrap();
    found.into_iter().map(|(_, found)| String::from_utf8(found.value).unwrap()).collect()
}

#[tokio::test]
async fn an_interrupted_upgrade_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, pages) = (old_store(&folder).await, AtomicUsize::new(0));
    for fails_at in [3, 5] {
        let step = lengthen(&store, &pages, fails_at);
        assert!(matches!(open(&store, &[step]).await, Err(SchemaError::Step(_))));
    }
    assert!(values(&store).await.iter().any(|value| value == "old"));
    let step = lengthen(&store, &pages, usize::MAX);
    assert_eq!(open(&store, &[step, empty()]).await.unwrap(), SchemaRecord::current());
    assert_eq!(values(&store).await, ["old+"; 95]);
    // Ten pages, and the two that failed.
    assert_eq!(pages.load(Ordering::SeqCst), 12);
}

#[tokio::test]
async fn of_several_starters_each_page_is_done_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, pages) = (old_store(&folder).await, AtomicUsize::new(0));
    let starters = (0..4).map(|_| async {
        let step = lengthen(&store, &pages, usize::MAX);
        open(&store, &[step, empty()]).await
    });
    for opened in futures_util::future::join_all(starters).await {
        assert_eq!(opened.unwrap().version, CURRENT);
    }
    assert_eq!(values(&store).await, ["old+"; 95]);
}

#[tokio::test]
async fn what_must_not_be_opened_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let refusal = async || open(&store, &[]).await.unwrap_err().to_string();
    assert!(refusal().await.contains("homeward-broker init"));
    let current = SchemaRecord::current();
    for (record, says) in [
        (SchemaRecord { version: 4, ..current.clone() }, "written by a newer broker (schema 4, this one knows 3)"),
        (SchemaRecord { arriving: Some("sled:/a".to_owned()), ..current.clone() }, "from sled:/a was not finished"),
        (SchemaRecord { moved_to: Some("etcd:b".to_owned()), ..current.clone() }, "has moved to etcd:b"),
    ] {
        store.commit(vec![record.write(&store, Expect::Any).unwrap()]).await.unwrap();
        let refusal = refusal().await;
        assert!(refusal.contains(says) && !refusal.contains('\n'), "{refusal}");
    }
}

/// Whatever it has heard of the move: it stood still.
#[tokio::test]
async fn a_broker_that_stood_still_writes_nothing_after_the_move() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let current = SchemaRecord::current();
    store.commit(vec![current.write(&store, Expect::Absent).unwrap()]).await.unwrap();
    let held = hold(store.clone()).await.unwrap();
    held.commit(vec![raw(1, "before")]).await.unwrap();
    let moved = SchemaRecord { moved_to: Some("etcd:b".to_owned()), ..current.clone() };
    store.commit(vec![moved.write(&store, Expect::Any).unwrap()]).await.unwrap();
    for _ in 0..2 {
        let refused = held.commit(vec![raw(1, "after")]).await;
        let Err(StoreError::Unavailable(cause)) = refused else { panic!("{refused:?}") };
        assert!(cause.to_string().contains("has moved to etcd:b"), "{cause}");
    }
    assert_eq!(values(&store).await, ["before"]);
    // The migration was given up: it goes on, and conflicts are conflicts as ever.
    store.commit(vec![current.write(&store, Expect::Any).unwrap()]).await.unwrap();
    held.commit(vec![raw(1, "again")]).await.unwrap();
    let stale = Write { expect: Expect::Absent, ..raw(1, "x") };
    assert!(matches!(held.commit(vec![stale]).await, Err(StoreError::Conflict)));
    assert_eq!(values(&store).await, ["again"]);
}

/// A login of a user with linked homes, for one, rests on his links.
#[tokio::test]
async fn a_commit_that_rests_on_something_itself_is_held_too() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let current = SchemaRecord::current().write(&store, Expect::Absent).unwrap();
    store.commit(vec![current, raw(0, "own")]).await.unwrap();
    let version = store.get(&Key::new("x", "0000")).await.unwrap().unwrap().version;
    let rests = Write { expect: Expect::Held(version), value: None, ..raw(0, "") };
    let held = hold(store.clone()).await.unwrap();
    held.commit(vec![raw(1, "x"), rests]).await.unwrap();
    assert_eq!(values(&store).await, ["own", "x"]);
}

/// A broker that got in just before the federation moved.
#[tokio::test]
async fn a_broker_hears_that_the_federation_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let current = SchemaRecord::current();
    store.commit(vec![current.write(&store, Expect::Absent).unwrap()]).await.unwrap();
    let gone = tokio::spawn(gone(store.clone()));
    let moved = SchemaRecord { moved_to: Some("etcd:b".to_owned()), ..current };
    store.commit(vec![moved.write(&store, Expect::Any).unwrap()]).await.unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap().unwrap();
    assert!(matches!(gone, SchemaError::Moved(to) if to == "etcd:b"));
}
