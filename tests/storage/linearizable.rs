//! Histories of clients that work at once: there is an order of what they did in which each answer is right, and in which
//! nothing comes before what was answered earlier.
//!
//! Values are never used twice, so that a version stands for a value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use homeward_broker::storage::{Expect, Page, Store, StoreError, Version, Write};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

#[cfg(feature = "etcd")]
use crate::place::EtcdPlace;
use crate::place::{Place, SledPlace};
use crate::words::named;

/// So few that clients get into each other's way.
const KEYS: u8 = 3;

/// What a client wants to do next.
#[derive(Clone, Debug)]
enum Intent {
    Get(u8),
    List,
    /// Which keys, and what each takes for granted.
    Commit(BTreeMap<u8, (Hope, Deed)>),
}

#[derive(Clone, Copy, Debug)]
enum Hope {
    Nothing,
    Absent,
    /// That it is as this client has seen it last.
    Unchanged,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Put,
    Delete,
}

fn intents() -> impl Strategy<Value = Vec<Intent>> {
    let hope = prop_oneof![1 => Just(Hope::Nothing), 1 => Just(Hope::Absent), 3 => Just(Hope::Unchanged)];
    let deed = prop_oneof![4 => Just(Deed::Put), 1 => Just(Deed::Delete)];
    let writes = proptest::collection::btree_map(0..KEYS, (hope, deed), 1..3);
    let intent = prop_oneof![3 => (0..KEYS).prop_map(Intent::Get), 1 => Just(Intent::List), 4 => writes.prop_map(Intent::Commit)];
    proptest::collection::vec(intent, 6)
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Get(u8),
    List,
    Commit(Vec<(u8, Wanted, Option<u32>)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Anything,
    This(Option<u32>),
}

#[derive(Clone, Debug, PartialEq)]
enum Answered {
    Value(Option<u32>),
    All(Vec<(u8, u32)>),
    Done(bool),
}

/// The store as it should be, for one client after the other.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<u8, u32>);

impl SequentialSpec for Model {
    type Op = Asked;
    type Ret = Answered;

    fn invoke(&mut self, asked: &Asked) -> Answered {
        match asked {
            Asked::Get(key) => Answered::Value(self.0.get(key).copied()),
            Asked::List => Answered::All(self.0.clone().into_iter().collect()),
            Asked::Commit(writes) => {
                let holds = |(key, wanted, _): &(u8, Wanted, _)| match wanted {
                    Wanted::Anything => true,
                    Wanted::This(value) => self.0.get(key) == value.as_ref(),
                };
                let done = writes.iter().all(holds);
                for (key, _, value) in writes.iter().filter(|_| done) {
                    match value {
                        Some(value) => self.0.insert(*key, *value),
                        None => self.0.remove(key),
                    };
                }
                Answered::Done(done)
            }
        }
    }
}

type History = LinearizabilityTester<u32, Model>;

/// One that asks, one question after the other.
struct Client {
    store: Arc<dyn Store>,
    history: Arc<Mutex<History>>,
    /// Numbers of clients and values.
    next: Arc<AtomicU32>,
    /// In the history; another one once nobody knows what became of a question.
    name: u32,
    /// What it has seen last.
    known: BTreeMap<u8, (u32, Version)>,
}

impl Client {
    async fn work(mut self, intents: Vec<Intent>) {
        for intent in intents {
            let (asked, writes) = self.question(&intent);
            self.history.lock().unwrap().on_invoke(self.name, asked.clone()).unwrap();
            match self.ask(&asked, writes).await {
                Ok(answered) => {
                    self.history.lock().unwrap().on_return(self.name, answered).unwrap();
                }
                Err(StoreError::Unavailable(_)) => self.name = self.next.fetch_add(1, Ordering::Relaxed),
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn question(&self, intent: &Intent) -> (Asked, Vec<Write>) {
        let intended = match intent {
            Intent::Get(key) => return (Asked::Get(*key), Vec::new()),
            Intent::List => return (Asked::List, Vec::new()),
            Intent::Commit(intended) => intended,
        };
        let (mut asked, mut writes) = (Vec::new(), Vec::new());
        for (key, (hope, deed)) in intended {
            let (wanted, expect) = match (hope, self.known.get(key)) {
                (Hope::Nothing, _) => (Wanted::Anything, Expect::Any),
                (Hope::Unchanged, Some((value, version))) => (Wanted::This(Some(*value)), Expect::Version(*version)),
                (Hope::Absent, _) | (Hope::Unchanged, None) => (Wanted::This(None), Expect::Absent),
            };
            let value = matches!(deed, Deed::Put).then(|| self.next.fetch_add(1, Ordering::Relaxed));
            asked.push((*key, wanted, value));
            let value = value.map(|value| value.to_string().into_bytes());
            writes.push(Write { key: named(&format!("t/{key}")), expect, value });
        }
        (Asked::Commit(asked), writes)
    }

    async fn ask(&mut self, asked: &Asked, writes: Vec<Write>) -> Result<Answered, StoreError> {
        let read = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<u32>().unwrap();
        match asked {
            Asked::Get(key) => {
                let found = self.store.get(&named(&format!("t/{key}"))).await?;
                let found = found.map(|found| (read(&found.value), found.version));
                match found {
                    Some(found) => self.known.insert(*key, found),
                    None => self.known.remove(key),
                };
                Ok(Answered::Value(found.map(|(value, _)| value)))
            }
            Asked::List => {
                let page = self.store.list(Page { prefix: "t/".into(), after: None, limit: 100 }).await?;
                let entry = |(key, found): (homeward_broker::storage::Key, homeward_broker::storage::Versioned)| {
                    (key.id().parse().unwrap(), (read(&found.value), found.version))
                };
                self.known = page.into_iter().map(entry).collect();
                Ok(Answered::All(self.known.iter().map(|(key, (value, _))| (*key, *value)).collect()))
            }
            Asked::Commit(_) => match self.store.commit(writes).await {
                Ok(_) => Ok(Answered::Done(true)),
                Err(StoreError::Conflict) => Ok(Answered::Done(false)),
                Err(other) => Err(other),
            },
        }
    }
}

/// Lets clients work at once, spread over these ways to one store. Their history, when all are through.
async fn history(stores: &[Arc<dyn Store>], plans: Vec<Vec<Intent>>) -> History {
    let history = Arc::new(Mutex::new(History::default()));
    let next = Arc::new(AtomicU32::new(0));
    let clients = plans.into_iter().zip(stores.iter().cycle()).map(|(plan, store)| {
        let name = next.fetch_add(1, Ordering::Relaxed);
        let (store, history, next) = (store.clone(), history.clone(), next.clone());
        tokio::spawn(Client { store, history, next, name, known: BTreeMap::new() }.work(plan))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let history = history.lock().unwrap();
    history.clone()
}

fn plans(runner: &mut TestRunner, clients: usize) -> Vec<Vec<Intent>> {
    (0..clients).map(|_| intents().new_tree(runner).unwrap().current()).collect()
}

async fn histories_are_linearizable<P: Place>(rounds: usize, ways: usize) {
    let mut runner = TestRunner::default();
    for round in 0..rounds {
        let place = P::new().await;
        let mut stores = Vec::new();
        for _ in 0..ways {
            stores.push(place.open().await);
        }
        let history = history(&stores, plans(&mut runner, 4)).await;
        assert!(history.is_consistent(), "round {round}: {history:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sled() {
    histories_are_linearizable::<SledPlace>(60, 1).await;
}

#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_etcd_by_two_brokers() {
    histories_are_linearizable::<EtcdPlace>(60, 2).await;
}

/// Each broker begins at another member, and members die and stop meanwhile.
#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_three_members_of_which_one_is_lost() {
    let etcd = world::Etcd::three().await.unwrap();
    let mut runner = TestRunner::default();
    for round in 0..4 {
        let prefix = format!("round{round}");
        let mut stores = Vec::new();
        for index in 0..etcd.size() {
            stores.push(crate::place::open(&etcd.address_from(index, &prefix)).await);
        }
        // Many short histories one behind the other, so that some meet the fault.
        let histories = async {
            for part in 0..40 {
                let part_stores = &stores;
                let history = history(part_stores, plans(&mut runner, 4)).await;
                assert!(history.is_consistent(), "round {round}, {part}: {history:#?}");
                clear(&stores[0]).await;
            }
        };
        let fault = async {
            let leader = etcd.leader().await.unwrap();
            if round % 2 == 0 {
                etcd.kill(leader).unwrap();
            } else {
                etcd.pause(leader).await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            if round % 2 == 0 {
                etcd.start(leader).unwrap();
            } else {
                etcd.resume(leader).unwrap();
            }
            etcd.answers().await.unwrap();
        };
        tokio::join!(histories, fault);
    }
}

/// Empties the keys between two histories.
#[cfg(feature = "etcd")]
async fn clear(store: &Arc<dyn Store>) {
    let delete = |key| Write { key: named(&format!("t/{key}")), expect: Expect::Any, value: None };
    // What nobody knows the end of may still come: then the next history would begin with something.
    while store.commit((0..KEYS).map(delete).collect()).await.is_err() {}
}

/// The checker is worth something only if it finds what is wrong.
#[test]
fn a_stale_read_is_found() {
    let mut history = History::default();
    let write = |value| Asked::Commit(vec![(0, Wanted::Anything, Some(value))]);
    history.on_invret(1, write(1), Answered::Done(true)).unwrap();
    history.on_invret(1, write(2), Answered::Done(true)).unwrap();
    assert!(history.clone().on_invret(2, Asked::Get(0), Answered::Value(Some(2))).unwrap().is_consistent());
    assert!(!history.on_invret(2, Asked::Get(0), Answered::Value(Some(1))).unwrap().is_consistent());
    let twice = Asked::Commit(vec![(0, Wanted::This(None), Some(3))]);
    let mut history = History::default();
    history.on_invoke(1, twice.clone()).unwrap().on_invoke(2, twice).unwrap();
    history.on_return(1, Answered::Done(true)).unwrap().on_return(2, Answered::Done(true)).unwrap();
    assert!(!history.is_consistent());
}
