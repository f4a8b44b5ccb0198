//! Brokers on one store while the CA turns.

use homeward_certs::authority::Serial;
use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::{CsrPublicKey, InstanceKey};

use super::*;
use crate::storage::sled::SledStore;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

struct World {
    store: Arc<dyn Store>,
    sealing: Arc<SealingKeys>,
    domain: TrustDomain,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let (clock, _) = Clock::manual(NOW);
        let world = Self {
            store,
            sealing: SealingKeys::new_for_test(),
            domain: "example.org".parse().unwrap(),
            clock,
            _folder: folder,
        };
        let first = Authority::first(&world.store, &world.sealing, &world.domain, NOW).unwrap();
        world.store.commit(first).await.unwrap();
        world
    }

    async fn broker(&self) -> Arc<Authority> {
        let (authority, follow) =
            Authority::open(&self.store, &self.sealing, &self.domain, None, self.clock.clone()).await.unwrap();
        tokio::spawn(follow);
        authority
    }

    /// Takes a step by one broker and waits until the other has followed.
    async fn step(&self, step: CaStep, by: &Authority, other: &Authority) {
        let mut changes = other.changes();
        let revision = self.store.commit(by.transition(step, NOW).await.unwrap()).await.unwrap();
        changes.wait_for(|state| state.revision >= revision.as_u64()).await.unwrap();
        by.changes().wait_for(|state| state.revision >= revision.as_u64()).await.unwrap();
    }
}

fn issued_by(state: &CaState) -> SpkiPin {
    let key = CsrPublicKey::from_csr(&InstanceKey::generate().unwrap().csr().unwrap()).unwrap();
    let leaf = state.issue(&"alpha".parse().unwrap(), &key, NOW, DAY).unwrap();
    assert!(Serial::of_certificate(&leaf.certificate).is_some());
    let chain = state.chain(leaf.certificate, Some(&state.signer_pin().to_string()));
    SpkiPin::of_certificate(&chain[1]).unwrap()
}

fn roles(state: &CaState) -> Vec<(SpkiPin, bool, bool)> {
    state.authorities().iter().map(|ca| (ca.pin, ca.signs_instances, ca.signs_brokers)).collect()
}

#[tokio::test]
async fn all_brokers_follow_the_ca_through_its_turn() {
    let world = World::new().await;
    let (one, two) = (world.broker().await, world.broker().await);
    let first = one.state();
    let (old, first_bundle) = (first.signer_pin(), first.bundle.clone());
    assert_eq!((first.phase, first_bundle.version, two.state().signer_pin()), (None, 1, old));
    let leaf = two.leaf_pins();

    world.step(CaStep::Prepare, &one, &two).await;
    let prepared = two.state();
    let next = prepared.next_pin().unwrap();
    assert_eq!((prepared.phase, prepared.bundle.version), (Some(CaPhase::Prepared), 2));
    assert_eq!(prepared.bundle.pins(), [old, next]);
    assert_eq!((issued_by(&prepared), roles(&prepared)), (old, vec![(old, true, true), (next, false, false)]));
    assert_eq!(two.leaf_pins(), leaf);

    world.step(CaStep::ActivateClients, &two, &one).await;
    let activated = one.state();
    assert_eq!((issued_by(&activated), roles(&activated)), (next, vec![(next, true, false), (old, false, true)]));
    // What was signed before is still handed out with the CA that signed it.
    let chain = activated.chain(Vec::new(), Some(&old.to_string()));
    assert_eq!(SpkiPin::of_certificate(&chain[1]), Some(old));

    world.step(CaStep::ActivateServers, &one, &two).await;
    assert_eq!(roles(&two.state()), [(next, true, true), (old, false, false)]);
    leaf_of(&two, next, leaf[0]).await;

    world.step(CaStep::Retire, &two, &one).await;
    let retired = one.state();
    assert_eq!((retired.phase, retired.bundle.pins(), retired.signer_pin()), (None, vec![next], next));
    assert!(!retired.is_of_trusted(Some(&old.to_string())) && retired.is_of_signer(Some(&next.to_string())));
    // Whoever slept through all of it finds the way, and a broker that starts now shows the same one.
    let statements = retired.statements_after(1).to_vec();
    assert_eq!(first_bundle.follow(&statements), Ok(retired.bundle.clone()));
    assert_eq!(world.broker().await.state().statements_after(1), statements);
    assert_eq!((retired.statements_after(3), retired.statements_after(u64::MAX)), (&[][..], &[][..]));
}

/// Waits until a broker shows a leaf of another CA; the one before still counts for connections that saw it.
async fn leaf_of(broker: &Authority, ca: SpkiPin, before: SpkiPin) {
    let shown = async {
        while broker.leaf_pins()[0] == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), shown).await.unwrap();
    assert_eq!(broker.leaf_pins()[1], before);
    assert_eq!(broker.state().server_signer().pin(), ca);
}

#[tokio::test]
async fn a_turn_is_taken_back() {
    let world = World::new().await;
    let (one, two) = (world.broker().await, world.broker().await);
    let old = one.state().signer_pin();
    let (leaf, first) = (two.leaf_pins()[0], one.state().bundle.clone());
    for step in [CaStep::Prepare, CaStep::ActivateClients, CaStep::ActivateServers] {
        world.step(step, &one, &two).await;
    }
    let next = two.state().next_pin().unwrap();
    leaf_of(&two, next, leaf).await;
    let of_next = two.leaf_pins()[0];
    world.step(CaStep::RollBack, &one, &two).await;
    assert_eq!(roles(&two.state()), [(old, true, true), (next, false, false)]);
    leaf_of(&two, old, of_next).await;
    world.step(CaStep::FinishRollBack, &one, &two).await;
    let state = two.state();
    assert_eq!((state.phase, state.bundle.version, state.bundle.pins()), (None, 3, vec![old]));
    assert_eq!(first.follow(state.statements_after(1)), Ok(state.bundle.clone()));
}

/// Two brokers that decide at once move the CA once.
#[tokio::test]
async fn of_two_steps_at_once_one_is_taken() {
    let world = World::new().await;
    let (one, two) = (world.broker().await, world.broker().await);
    let first = one.transition(CaStep::Prepare, NOW).await.unwrap();
    let second = two.transition(CaStep::Prepare, NOW).await.unwrap();
    world.store.commit(first).await.unwrap();
    assert!(matches!(world.store.commit(second).await, Err(StoreError::Conflict)));
    let refused = two.transition(CaStep::Retire, NOW).await.unwrap_err();
    assert_eq!(refused.to_string(), "the CA cannot do the step retire: it is prepared");
}

/// The store of a broker that knew one CA and no statements.
#[tokio::test]
async fn an_older_store_gets_its_first_statement() {
    let world = World::new().await;
    let statements = Table::<StoredStatement>::new(world.store.clone());
    for (id, stored) in statements.all().await.unwrap() {
        let write = statements.delete(&id, Expect::Version(stored.version));
        world.store.commit(vec![write]).await.unwrap();
    }
    let broker = world.broker().await;
    let state = broker.state();
    let nothing = TrustBundle::new(0, state.bundle.certificates().map(<[u8]>::to_vec).collect()).unwrap();
    assert_eq!(nothing.follow(state.statements_after(0)), Ok(state.bundle.clone()));
}

#[test]
fn the_brokers_leaf_is_renewed_at_half_of_its_life() {
    let made =
        || CertificateAuthority::generate("example.org".parse().unwrap(), NOW.to_system_time(), 30 * DAY).unwrap();
    let ca = made();
    let leaf = BrokerLeaf::new(&ca, None, NOW).unwrap();
    let [first, _] = leaf.pins();
    leaf.refresh(&ca, NOW + 3 * DAY).unwrap();
    assert_eq!((leaf.pins(), leaf.fresh_for(NOW + 3 * DAY)), ([first, first], DAY / 2));
    leaf.refresh(&ca, NOW + 4 * DAY).unwrap();
    let [second, before] = leaf.pins();
    assert!(second != first && before == first);
    leaf.refresh(&made(), NOW + 4 * DAY).unwrap();
    assert_eq!(leaf.pins()[1], second);
}

#[tokio::test]
async fn a_ca_that_has_ended_is_a_problem_and_so_is_the_brokers_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = Clock::manual(Timestamp::from_secs(1_800_000_000));
    let authority = crate::foundations::Foundations::new_in(&folder, &clock).await.authority;
    assert_eq!(authority.problem(clock.now()), None);
    // Nobody keeps the leaf fresh any more: the task that does sleeps by another clock.
    hand.advance(Duration::from_secs(8 * 86_400));
    assert!(authority.problem(clock.now()).unwrap().contains("own certificate"));
    hand.advance(Duration::from_secs(6 * 365 * 86_400));
    assert!(authority.problem(clock.now()).unwrap().contains("CA has ended"));
}
