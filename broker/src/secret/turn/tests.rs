use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use homeward_certs::proof::ProofKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::SEALED;
use crate::authority::Authority;
use crate::enrolment::{JoinTokenOrder, StoredJoinToken};
use crate::keys::first_keys;
use crate::registry::tests::{NOW, instance, name, upstream};
use crate::registry::{ClientSecret, Instance, RegisteredClient, SubjectKey, Upstream};
use crate::secret::ring::DataKey;
use crate::secret::{KekSource, KekSources, Purpose, Sealed, adopt};
use crate::storage::failing::{FailingStore, Fate};
use crate::storage::sled::SledStore;

/// Strangers hold what is sealed for so long.
const KEPT: Duration = Duration::from_secs(3600);

/// A store that dies after so many commits, as a broker does under kill -9: what was committed is there.
fn dies_after(commits: usize, store: &Arc<dyn Store>) -> Arc<dyn Store> {
    let left = AtomicUsize::new(commits);
    let one_less = move || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    FailingStore::new(store.clone(), move || one_less().map_or(Fate::FailsBefore, |_| Fate::Passes))
}

/// Key files, and what a store of the release before holds, all of it sealed with the bytes of the first.
struct Before {
    folder: TempDir,
    old: KekSource,
    new: KekSource,
    entries: Vec<(Key, Vec<u8>)>,
    stores: AtomicUsize,
}

impl Before {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|file| KekSource::File(folder.path().join(file)));
        old.create().await.unwrap();
        new.create().await.unwrap();
        let mut before = Self { folder, old, new, entries: Vec::new(), stores: AtomicUsize::new(0) };
        let keks = before.keks(&before.old, None).await;
        let sealing = Arc::new(SealingKeys::of(DataKey::new("any", keks.current.bytes_of_old().unwrap()).unwrap()));
        let store = before.store().await;
        store.commit(everything(&store, &sealing)).await.unwrap();
        before.entries = all(&store).await;
        before
    }

    /// A store of its own with all of it.
    async fn store(&self) -> Arc<dyn Store> {
        let number = self.stores.fetch_add(1, Ordering::SeqCst);
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&self.folder.path().join(number.to_string())).unwrap());
        let write = |(key, value): &(Key, Vec<u8>)| Write {
            key: key.clone(),
            expect: Expect::Absent,
            value: Some(value.clone()),
        };
        store.commit(self.entries.iter().map(write).collect()).await.unwrap();
        store
    }

    async fn keks(&self, current: &KekSource, previous: Option<&KekSource>) -> Arc<KeyEncryptionKeys> {
        let sources = KekSources { current: current.clone(), previous: previous.cloned() };
        KeyEncryptionKeys::load(sources).await.unwrap()
    }

    /// A broker as it is configured while the key is turned.
    async fn broker(&self, store: &Arc<dyn Store>) -> Broker {
        broker(store, self.keks(&self.new, Some(&self.old)).await).await
    }

    /// What the old key file opens, of everything that the store holds.
    async fn opened_by_old(&self, store: &Arc<dyn Store>) -> BTreeSet<String> {
        let keks = self.keks(&self.old, None).await;
        let key = SealingKeys::of(DataKey::new("any", keks.current.bytes_of_old().unwrap()).unwrap());
        let mut opened = BTreeSet::new();
        for (at, value) in all(store).await {
            let Some((_, record)) = value.split_first_chunk::<8>() else { continue };
            let record: Value = serde_json::from_slice(record).unwrap();
            for sealed in texts(&record).into_iter().filter_map(|text| Sealed::from_text(text).ok()) {
                opened.extend(
                    Purpose::ALL
                        .into_iter()
                        .filter(|purpose| key.open(*purpose, &sealed).is_ok())
                        .map(|purpose| format!("{purpose:?}")),
                );
                if let Ok(stored) = serde_json::from_value::<StoredDataKey>(record.clone()) {
                    opened.extend(keks.unwrap(at.id(), &stored).await.map(|_| "a data key".to_owned()));
                }
            }
        }
        opened
    }
}

/// One of every kind of record that holds something sealed.
fn everything(store: &Arc<dyn Store>, sealing: &Arc<SealingKeys>) -> Vec<Write> {
    let mut writes = first_keys(store, sealing, NOW).unwrap();
    writes.extend(Authority::first(store, sealing, &"example.org".parse().unwrap(), NOW).unwrap());
    writes.push(SubjectKey::first(store, sealing).unwrap());
    let secret = |version| ClientSecret::generate(sealing, version).unwrap();
    for text in ["alpha", "beta"] {
        let mut instance = instance(text, &secret(1));
        let party = instance.relying_party.as_mut().unwrap();
        party.next_credential = Some(crate::registry::ClientCredential::Secret(secret(2)));
        if text == "beta" {
            let client: RegisteredClient = serde_json::from_value(json!({
                "name": "gamma", "display_name": "", "public_url": "", "relying_party": party, "metadata": {},
                "registration_token": crate::secret::SecretHash::of("x"), "registered_at": NOW,
            }))
            .unwrap();
            writes.push(Table::<RegisteredClient>::new(store.clone()).put("gamma", &client, Expect::Any).unwrap());
        }
        writes.push(Table::<Instance>::new(store.clone()).put(text, &instance, Expect::Any).unwrap());
    }
    let order = JoinTokenOrder {
        instance: name("delta"),
        lifetime: Duration::from_secs(60),
        replace: false,
        creator: String::new(),
        note: String::new(),
    };
    let token = StoredJoinToken::new(order, &ProofKey::from_bytes([1; 32]), sealing, NOW).unwrap();
    writes.push(Table::<StoredJoinToken>::new(store.clone()).put("1", &token, Expect::Any).unwrap());
    let staff = upstream("staff", "https://id.example", sealing);
    writes.push(Table::<Upstream>::new(store.clone()).put("staff", &staff, Expect::Any).unwrap());
    writes
}

async fn all(store: &Arc<dyn Store>) -> Vec<(Key, Vec<u8>)> {
    let page = Page { prefix: String::new(), after: None, limit: 1000 };
    store.list(page).await.unwrap().into_iter().map(|(key, found)| (key, found.value)).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(entries) => entries.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// A broker that follows the store until it is dropped.
struct Broker {
    turn: KeyTurn,
    follow: tokio::task::JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

impl std::ops::Deref for Broker {
    type Target = KeyTurn;

    fn deref(&self) -> &KeyTurn {
        &self.turn
    }
}

/// A broker that has just started.
async fn broker(store: &Arc<dyn Store>, keks: Arc<KeyEncryptionKeys>) -> Broker {
    adopt(store, &keks, SEALED, NOW).await.unwrap();
    let (sealing, follow) = SealingKeys::load(store, keks.clone(), "one").await.unwrap();
    let follow = tokio::spawn(follow);
    let known = TurnFoundations { store: store.clone(), sealing, keks, tables: SEALED, kept: KEPT.into() };
    Broker { turn: KeyTurn { pause: Duration::from_millis(20), ..KeyTurn::new(known) }, follow }
}

async fn run(turn: &KeyTurn) -> Result<Turned, SealingKeyError> {
    turn.run(&Clock::manual(NOW).0, &|_| ()).await
}

#[tokio::test]
async fn a_store_of_the_release_before_opens_and_turns_to_a_key_that_the_old_file_does_not_open() {
    let before = Before::new().await;
    let store = before.store().await;
    let sealed = ["AuthorityKey", "ClientSecret", "JoinToken", "SigningKey", "SubjectKey", "UpstreamSecret"];
    assert_eq!(before.opened_by_old(&store).await, sealed.map(str::to_owned).into());
    let turn = before.broker(&store).await;
    let token = turn.known.sealing.seal_value(Purpose::RefreshToken, &7_u8).unwrap();
    assert!(before.opened_by_old(&store).await.contains("a data key"));

    assert_eq!(run(&turn).await.unwrap(), Turned::Now);
    assert_eq!(before.opened_by_old(&store).await, BTreeSet::new());
    assert_eq!(turn.known.sealing.open_value::<u8>(Purpose::RefreshToken, &token).unwrap(), 7);
    assert_eq!(run(&turn).await.unwrap(), Turned::Before);

    let alone = broker(&store, before.keks(&before.new, None).await).await;
    assert_eq!(alone.known.sealing.open_value::<u8>(Purpose::RefreshToken, &token).unwrap(), 7);
    let status = alone.status().await.unwrap();
    assert_eq!((status.records, status.stale, status.unreadable), (9, 0, 0));
    let refused =
        SealingKeys::load(&store, before.keks(&before.old, None).await, "one").await.err().unwrap().to_string();
    assert!(refused.contains("the configuration names local:"), "{refused}");
}

#[tokio::test]
async fn a_turn_cut_short_at_any_commit_goes_on() {
    let before = Before::new().await;
    for commits in 0.. {
        let store = before.store().await;
        adopt(&store, &before.keks(&before.old, None).await, SEALED, NOW).await.unwrap();
        let dying = dies_after(commits, &store);
        let killed = before.broker(&dying).await;
        let mut tokens = vec![killed.known.sealing.seal_value(Purpose::Ticket, &1_u8).unwrap()];
        let finished = run(&killed).await.is_ok();
        tokens.push(killed.known.sealing.seal_value(Purpose::Ticket, &1_u8).unwrap());

        // The next process, with the same configuration.
        let turn = before.broker(&store).await;
        let opens = |token: &String| turn.known.sealing.open_value::<u8>(Purpose::Ticket, token).is_ok();
        assert!(tokens.iter().all(opens), "after {commits} commits");
        assert_eq!(turn.status().await.unwrap().unreadable, 0, "after {commits} commits");
        let turned = run(&turn).await.unwrap();
        assert_eq!(turned == Turned::Before, finished, "after {commits} commits");
        assert!(tokens.iter().all(opens), "after {commits} commits and the rest");
        assert_eq!(before.opened_by_old(&store).await, BTreeSet::new(), "after {commits} commits and the rest");
        let states: Vec<_> = turn.status().await.unwrap().keys.into_iter().map(|(_, key)| key.state).collect();
        let gone = DataKeyState::Retired { gone_at: Some(NOW + KEPT) };
        assert!(states.len() == 2 && states.contains(&DataKeyState::Active) && states.contains(&gone), "{states:?}");
        if finished {
            // Add, activate, wrap, nine records, retire.
            assert_eq!(commits, 13);
            return;
        }
    }
}

#[tokio::test]
async fn a_broker_that_does_not_know_the_new_key_stops_the_turn() {
    let before = Before::new().await;
    let store = before.store().await;
    let late = broker(&store, before.keks(&before.old, None).await).await;
    let mut turn = before.broker(&store).await;
    turn.turn.pause = Duration::from_millis(500);
    let refused = run(&turn).await.unwrap_err();
    assert!(
        matches!(&refused, SealingKeyError::NotKnownEverywhere(known) if *known == format!("one, which has {}", late.keks()))
    );
    assert_eq!(turn.status().await.unwrap().keys.len(), 1);
}

#[tokio::test]
async fn who_cannot_open_a_pending_data_key_says_so_once() {
    let before = Before::new().await;
    let store = before.store().await;
    let _late = broker(&store, before.keks(&before.old, None).await).await;
    let mut turn = before.broker(&store).await;
    turn.turn.pause = Duration::from_secs(2);
    let turning = tokio::spawn(async move { run(&turn).await.is_err() });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let said = store.commit(Vec::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    // To ask is a commit, too.
    let now = store.commit(Vec::new()).await.unwrap();
    assert!(now.as_u64() <= said.as_u64() + 1, "it objects again and again: {said:?}, {now:?}");
    assert!(turning.await.unwrap());
}

#[tokio::test]
async fn two_that_turn_at_once_make_one_new_data_key_and_all_brokers_take_it_in() {
    let before = Before::new().await;
    let store = before.store().await;
    let (one, other) = (before.broker(&store).await, before.broker(&store).await);
    let (first, second) = tokio::join!(run(&one), run(&other));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    assert_eq!(one.status().await.unwrap().keys.len(), 2);
    let sealed = one.known.sealing.seal(Purpose::Code, b"x").unwrap();
    assert!(other.known.sealing.open(Purpose::Code, &sealed).is_ok());
}

#[tokio::test]
async fn a_retired_data_key_goes_when_nothing_can_be_sealed_with_it_any_more() {
    let before = Before::new().await;
    let store = before.store().await;
    let turn = before.broker(&store).await;
    let old = SealingKeys::of(
        DataKey::new("any", turn.known.keks.previous.as_ref().unwrap().bytes_of_old().unwrap()).unwrap(),
    );
    let token = turn.known.sealing.seal_value(Purpose::RefreshToken, &7_u8).unwrap();
    run(&turn).await.unwrap();
    // A broker that was cut off for all of the turn.
    let late = instance("late", &ClientSecret::generate(&old, 1).unwrap());
    let table = Table::<Instance>::new(store.clone());
    table.commit(vec![table.put("late", &late, Expect::Absent).unwrap()]).await.unwrap();
    assert_eq!(turn.status().await.unwrap().stale, 1);

    turn.forget(NOW + KEPT - Duration::from_secs(1)).await.unwrap();
    assert_eq!(turn.status().await.unwrap().keys.len(), 2);
    turn.forget(NOW + KEPT).await.unwrap();
    let alone = broker(&store, before.keks(&before.new, None).await).await;
    let status = alone.status().await.unwrap();
    assert_eq!((status.keys.len(), status.stale, status.unreadable), (1, 0, 0));
    assert!(alone.known.sealing.open_value::<u8>(Purpose::RefreshToken, &token).is_err());
}

#[tokio::test]
async fn a_key_that_opens_nothing_is_refused_and_nothing_is_written() {
    let before = Before::new().await;
    let (store, wrong) = (before.store().await, before.keks(&before.new, None).await);
    let refused = adopt(&store, &wrong, SEALED, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("opens nothing in the store"), "{refused}");
    assert_eq!(all(&store).await.len(), before.entries.len());
    let empty: Arc<dyn Store> = Arc::new(SledStore::open(&before.folder.path().join("empty")).unwrap());
    let refused = adopt(&empty, &wrong, SEALED, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("homeward-broker init"), "{refused}");
    let refused = SealingKeys::load(&empty, wrong, "one").await.err().unwrap().to_string();
    assert!(refused.contains("homeward-broker init"), "{refused}");
}

#[tokio::test]
async fn a_turn_that_another_key_took_over_begins_anew() {
    let before = Before::new().await;
    let store = before.store().await;
    adopt(&store, &before.keks(&before.old, None).await, SEALED, NOW).await.unwrap();
    // Cut short with a pending data key, and once more when it is active.
    for commits in [1, 1] {
        let dying = dies_after(commits, &store);
        let killed = before.broker(&dying).await;
        run(&killed).await.unwrap_err();
    }
    let third = KekSource::File(before.folder.path().join("third"));
    third.create().await.unwrap();
    // The old key is not needed: everything but retired data keys is sealed by the new one. They need it, and say so.
    let keks = before.keks(&third, Some(&before.new)).await;
    let refused = SealingKeys::load(&store, keks, "one").await.err().unwrap().to_string();
    assert!(refused.contains("name that one"), "{refused}");
    let goes_on = before.broker(&store).await;
    run(&goes_on).await.unwrap();
    drop(goes_on);
    let turn = broker(&store, before.keks(&third, Some(&before.new)).await).await;
    run(&turn).await.unwrap();
    let keys = turn.status().await.unwrap().keys;
    let third = turn.keks().current.id();
    assert!(keys.len() == 3 && keys.iter().all(|(_, key)| key.wrapped_by == *third), "{keys:?}");
}
