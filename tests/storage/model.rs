//! Random histories of one client, beside a model that is a map: get, list, commit, watch, and closing and opening again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::storage::{Expect, Page, Revision, Store, StoreError, Version, Watch, WatchEvent, Write};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

#[cfg(feature = "etcd")]
use crate::place::EtcdPlace;
use crate::place::{Place, SledPlace};
use crate::words::{named, write};

/// Keys that are beginnings of each other, in tables whose names are.
const KEYS: [&str; 7] = ["t/a", "t/a-", "t/aa", "t/b", "t-x/a", "ta/a", "u/a"];

const PREFIXES: [&str; 5] = ["", "t", "t/", "t/a", "u/"];

#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    List { prefix: usize, after: Option<usize>, limit: usize },
    Watch(usize),
    Commit(BTreeMap<usize, (Hope, Option<u8>)>),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Hope {
    Nothing,
    Absent,
    Current,
    /// One that the key had once, or another has.
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let hope = prop_oneof![1 => Just(Hope::Nothing), 1 => Just(Hope::Absent), 3 => Just(Hope::Current), 1 => Just(Hope::Stale)];
    let value = proptest::option::weighted(0.7, 0..4_u8);
    let writes = proptest::collection::btree_map(key.clone(), (hope, value), 0..5);
    let list = (0..PREFIXES.len(), proptest::option::of(key.clone()), 0..5_usize)
        .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit });
    let step = prop_oneof![
        3 => key.prop_map(Step::Get),
        3 => list,
        1 => (0..PREFIXES.len()).prop_map(Step::Watch),
        8 => writes.prop_map(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What should be there, and what watches should say.
struct Model {
    entries: BTreeMap<&'static str, (Vec<u8>, Version)>,
    /// Versions that keys no longer have.
    stale: Vec<Version>,
    revision: Revision,
    watches: Vec<Watched>,
}

struct Watched {
    prefix: &'static str,
    watch: Watch,
    expected: Vec<(String, Option<Vec<u8>>, Revision)>,
}

impl Model {
    async fn take(&mut self, store: &Arc<dyn Store>, step: &Step) {
        match step {
            Step::Get(key) => {
                let found = store.get(&named(KEYS[*key])).await.unwrap();
                assert_eq!(found.map(|found| (found.value, found.version)), self.entries.get(KEYS[*key]).cloned());
            }
            Step::List { prefix, after, limit } => {
                // A page goes on behind a key of its own.
                let after = after.map(|key| KEYS[key]).filter(|key| key.starts_with(PREFIXES[*prefix]));
                let page = Page { prefix: PREFIXES[*prefix].into(), after: after.map(named), limit: *limit };
                let found = store.list(page).await.unwrap();
                let found =
                    found.into_iter().map(|(key, found)| (key.as_str().to_owned(), (found.value, found.version)));
                let behind =
                    |key: &&&str| key.starts_with(PREFIXES[*prefix]) && after.is_none_or(|after| **key > after);
                let expected = self.entries.iter().filter(|(key, _)| behind(key)).take(*limit);
                let expected = expected.map(|(key, entry)| ((*key).to_owned(), entry.clone()));
                assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
            Step::Watch(prefix) => {
                let prefix = PREFIXES[*prefix];
                let watch = store.watch(prefix).await.unwrap();
                self.watches.push(Watched { prefix, watch, expected: Vec::new() });
            }
            Step::Commit(writes) => self.commit(store, writes).await,
            Step::Reopen => unreachable!("by who has the place"),
        }
    }

    async fn commit(&mut self, store: &Arc<dyn Store>, intended: &BTreeMap<usize, (Hope, Option<u8>)>) {
        let (mut writes, mut holds) = (Vec::new(), true);
        for (key, (hope, value)) in intended {
            let current = self.entries.get(KEYS[*key]).map(|(_, version)| *version);
            let expect = match hope {
                Hope::Nothing => Expect::Any,
                Hope::Absent => Expect::Absent,
                Hope::Current => current.map_or(Expect::Absent, Expect::Version),
                Hope::Stale => self.stale.last().copied().map_or(Expect::Any, Expect::Version),
            };
            holds &= match expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Version(version) | Expect::Held(version) => current == Some(version),
            };
            writes.push(Write { key: named(KEYS[*key]), expect, value: value.map(|value| vec![value; 3]) });
        }
        match store.commit(writes.clone()).await {
            Ok(revision) => {
                assert!(holds, "{writes:?} against {:?}", self.entries);
                assert!(revision > self.revision || writes.is_empty() && revision >= self.revision);
                self.revision = revision;
                self.written(store, intended).await;
            }
            Err(StoreError::Conflict) => assert!(!holds, "{writes:?} against {:?}", self.entries),
            Err(other) => panic!("{other}"),
        }
    }

    /// Takes in what was committed, with the versions that the store has given it.
    async fn written(&mut self, store: &Arc<dyn Store>, intended: &BTreeMap<usize, (Hope, Option<u8>)>) {
        for (key, (_, value)) in intended {
            let key = KEYS[*key];
            let old = self.entries.remove(key);
            self.stale.extend(old.as_ref().map(|(_, version)| *version));
            if let Some(value) = value {
                let found = store.get(&named(key)).await.unwrap().unwrap();
                assert_eq!(found.value, [*value; 3]);
                assert!(!self.stale.contains(&found.version), "{key} has a version that was another value's");
                self.entries.insert(key, (found.value, found.version));
            }
            if old.is_some() || value.is_some() {
                let value = value.map(|value| vec![value; 3]);
                for watched in self.watches.iter_mut().filter(|watched| key.starts_with(watched.prefix)) {
                    watched.expected.push((key.to_owned(), value.clone(), self.revision));
                }
            }
        }
    }

    /// Every watch has said what it should, and nothing else, up to a last change of each.
    async fn told(&mut self, store: &Arc<dyn Store>) {
        for Watched { prefix, mut watch, expected } in self.watches.drain(..) {
            let last = format!("{}{}/last", prefix.replace('/', ""), if prefix.is_empty() { "zz" } else { "" });
            let last = if prefix.contains('/') { format!("{prefix}last") } else { last };
            store.commit(vec![write(&last, Expect::Any, Some("x"))]).await.unwrap();
            let mut seen = Vec::new();
            loop {
                let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
                let WatchEvent::Changed { key, value, revision } = event else { panic!("{event:?}") };
                if key.as_str() == last {
                    break;
                }
                // Where a backend tells the deletion of what was not there, and where it tells of other watches' ends.
                if KEYS.contains(&key.as_str()) {
                    seen.push((key.as_str().to_owned(), value, revision));
                }
            }
            let deletion_of_nothing =
                |change: &(String, Option<Vec<u8>>, Revision)| change.1.is_none() && !expected.contains(change);
            seen.retain(|change| !deletion_of_nothing(change));
            // Within one commit, each has an order of its own.
            let sorted = |mut changes: Vec<(String, Option<Vec<u8>>, Revision)>| {
                changes.sort_by(|one, other| (one.2, &one.0).cmp(&(other.2, &other.0)));
                changes
            };
            assert!(seen.is_sorted_by_key(|change| change.2), "{seen:?}");
            assert_eq!(sorted(seen), sorted(expected));
            store.commit(vec![write(&last, Expect::Any, None)]).await.unwrap();
        }
        self.revision = store.commit(Vec::new()).await.unwrap();
    }
}

async fn history<P: Place>(steps: &[Step]) {
    let place = P::new().await;
    let mut store = place.open().await;
    let revision = store.commit(Vec::new()).await.unwrap();
    let mut model = Model { entries: BTreeMap::new(), stale: Vec::new(), revision, watches: Vec::new() };
    for step in steps {
        if let Step::Reopen = step {
            model.told(&store).await;
            drop(store);
            store = place.open().await;
        } else {
            model.take(&store, step).await;
        }
    }
    model.told(&store).await;
}

fn histories_agree_with_the_model<P: Place>(cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    // One that stays, so that the etcd that places share does.
    let _place = runtime.block_on(P::new());
    let held = |steps: Vec<Step>| -> Result<(), TestCaseError> {
        runtime.block_on(history::<P>(&steps));
        Ok(())
    };
    TestRunner::new(config).run(&steps(), held).unwrap();
}

#[test]
fn on_sled() {
    histories_agree_with_the_model::<SledPlace>(80);
}

#[cfg(feature = "etcd")]
#[test]
fn on_etcd() {
    histories_agree_with_the_model::<EtcdPlace>(120);
}
