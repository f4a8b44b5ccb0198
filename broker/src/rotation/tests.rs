//! Rotations on a real store, with a clock that stands still and agents that say what a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use proptest::prelude::{ProptestConfig, proptest};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::authority::Authority;
use crate::clock::{Clock, Timestamp};
use crate::config::RotationPolicy;
use crate::keys::{self, KeyState, SigningAlgorithm};
use crate::registry::{
    ClientCredential, ClientId, ClientSecret, Instance, InstanceId, InstanceState, Liveness, QuarantineCause, Refusal,
    Registry, RelyingParty, Resource, Sighting, SigningKeyChoice,
};
use crate::rotation::ca::phase_of_authority;
use crate::rotation::{Foundations, Phase, RotationError, RotationSubject, Rotations, Settings, Urgency};
use crate::secret::KeyEncryptionKey;
use crate::storage::sled::SledStore;
use crate::storage::{Expect, Key, Page, Revision, Store, StoreError, Versioned, Watch, Write};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
const RS256: RotationSubject = RotationSubject::Keys(SigningAlgorithm::Rs256);

const POLICY: RotationPolicy = RotationPolicy {
    signing_keys_every: None,
    client_secrets_every: None,
    authority_every: None,
    acknowledge_within: Duration::from_secs(3600),
    grace_for_absent: Duration::from_secs(86_400),
    key_set_max_age: Duration::from_secs(300),
};

struct World {
    rotations: Arc<Rotations>,
    foundations: Foundations,
    _folder: tempfile::TempDir,
}

impl World {
    /// A federation of these relying parties, none of which has said anything yet.
    async fn new(names: &[&str], policy: RotationPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let kek = KeyEncryptionKey::from_text(KeyEncryptionKey::generate_text().unwrap().expose_secret()).unwrap();
        let kek = Arc::new(kek);
        let trust_domain = "test.example".parse().unwrap();
        let mut writes = keys::first_keys(&store, &kek, NOW).unwrap();
        writes.extend(Authority::first(&store, &kek, &trust_domain, NOW).unwrap());
        store.commit(writes).await.unwrap();
        let clock = Clock::manual(NOW).0;
        let (authority, follow) = Authority::open(&store, &kek, &trust_domain, clock).await.unwrap();
        tokio::spawn(follow);
        let (registry, keep_fresh) = Registry::open(store.clone()).await.unwrap();
        tokio::spawn(keep_fresh);
        for name in names {
            let instance = relying_party(name, &ClientSecret::generate(&kek, 1).unwrap());
            let write = registry.instances.put(name, &instance, Expect::Any).unwrap();
            registry.reached(store.commit(vec![write]).await.unwrap()).await.unwrap();
        }
        let foundations = Foundations { store, registry, liveness: Liveness::default(), authority, kek };
        let rotations = Self::broker(&foundations, policy);
        Self { rotations, foundations, _folder: folder }
    }

    fn broker(foundations: &Foundations, policy: RotationPolicy) -> Arc<Rotations> {
        Rotations::new(foundations.clone(), Settings { policy, longest_token: LONGEST }).0
    }

    fn hears(&self, name: &str, now: Timestamp, change: impl FnOnce(&mut Sighting)) {
        self.foundations.liveness.update(&name.parse().unwrap(), change, now);
    }

    fn connects(&self, name: &str, now: Timestamp) {
        self.hears(name, now, |seen| seen.online = true);
    }

    async fn states(&self) -> Vec<String> {
        let keys = self.rotations.signing_keys().await.unwrap().into_iter();
        let of_rs256 = keys.filter(|(_, key)| key.algorithm == SigningAlgorithm::Rs256);
        let name = |state| match state {
            KeyState::Pending => "pending",
            KeyState::Active => "active",
            KeyState::Retired { .. } => "retired",
        };
        of_rs256.map(|(_, key)| name(key.state).to_owned()).collect()
    }

    async fn kid(&self, wanted: KeyState) -> String {
        let keys = self.rotations.signing_keys().await.unwrap();
        let of = |state: KeyState| std::mem::discriminant(&state) == std::mem::discriminant(&wanted);
        let found = keys.into_iter().find(|(_, key)| key.algorithm == SigningAlgorithm::Rs256 && of(key.state));
        found.unwrap().0
    }

    async fn acknowledges_keys(&self, name: &str, now: Timestamp) {
        let kids = self.rotations.signing_keys().await.unwrap().into_iter().map(|(kid, _)| kid).collect();
        self.hears(name, now, |seen| seen.acknowledged.key_ids = kids);
    }

    /// Looks once, and gives phase, whether it has paused, and the remark.
    async fn look(&self, subject: &RotationSubject, now: Timestamp) -> (Phase, bool, String) {
        self.rotations.look(now).await.unwrap();
        let status = self.rotations.status(Some(subject), now).await.unwrap().remove(0).rotation;
        (status.phase, status.paused.is_some(), status.remark)
    }

    async fn begin(&self, subject: &RotationSubject, urgency: Urgency) {
        self.rotations.begin(subject.clone(), urgency, "uid=0", NOW).await.unwrap();
    }

    fn party(&self, name: &str) -> RelyingParty {
        let name: InstanceName = name.parse().unwrap();
        self.foundations.registry.snapshot().instance(&name).unwrap().relying_party.clone().unwrap()
    }

    async fn chooses(&self, name: &str, choice: SigningKeyChoice) {
        let registry = &self.foundations.registry;
        let changed = registry.instances.update(name, |instance| {
            let mut instance = instance.unwrap();
            instance.relying_party.as_mut().unwrap().signing_key_choice = choice;
            Ok::<_, StoreError>(instance)
        });
        registry.reached(changed.await.unwrap()).await.unwrap();
    }
}

fn relying_party(name: &str, secret: &ClientSecret) -> Instance {
    let id = InstanceId::generate();
    let value = json!({
        "name": name, "id": id, "display_name": name, "public_url": format!("https://{name}.example"),
        "state": "confirmed", "enrolled_at": NOW, "recovery_key": "",
        "certificate": {"serial": "", "der": "", "key": "", "request_id": uuid::Uuid::nil(), "issued_at": NOW,
            "not_after": NOW + 1000 * MINUTE, "generation": 1},
        "pending_certificate": null,
        "relying_party": {
            "client_id": ClientId::of(&name.parse().unwrap(), id), "secret": secret,
            "redirect_uris": [format!("https://{name}.example/cb")], "auth_method": "client_secret_basic",
            "id_token_alg": "RS256", "pkce_required": true,
        },
        "home": null,
    });
    serde_json::from_value(value).unwrap()
}

fn secret(name: &str) -> RotationSubject {
    RotationSubject::Secret(name.parse().unwrap())
}

#[tokio::test]
async fn a_key_signs_when_it_is_acknowledged_and_was_published_long_enough() {
    let world = World::new(&["beta"], POLICY).await;
    world.connects("beta", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    assert_eq!(world.states().await, ["active", "pending"]);
    assert_eq!(world.look(&RS256, NOW + 20 * MINUTE).await.0, Phase::Published, "nobody has acknowledged");
    world.acknowledges_keys("beta", NOW).await;
    let next = world.kid(KeyState::Pending).await;
    assert_eq!(world.look(&RS256, NOW + 9 * MINUTE).await.0, Phase::Published, "caches may be old");
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    assert_eq!(
        (world.kid(KeyState::Active).await, world.states().await),
        (next, vec!["active".into(), "retired".into()])
    );
    let end = NOW + 10 * MINUTE + LONGEST;
    assert_eq!(world.look(&RS256, end - Duration::from_secs(1)).await.0, Phase::Active);
    assert_eq!(world.look(&RS256, end).await.0, Phase::Done);
    assert_eq!(world.states().await, ["active"]);
}

#[tokio::test]
async fn a_connected_agent_that_does_not_acknowledge_pauses_the_turn_until_it_does() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    world.connects("beta", NOW);
    world.connects("gamma", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let late = NOW + 61 * MINUTE;
    assert_eq!(world.look(&RS256, NOW + 59 * MINUTE).await, (Phase::Published, false, String::new()));
    assert!(world.look(&RS256, late).await.1, "paused");
    let shown = world.rotations.status(Some(&RS256), late).await.unwrap().remove(0);
    assert!(shown.next_step().contains("gamma"), "{}", shown.next_step());
    assert!(world.look(&RS256, late + 500 * MINUTE).await.1, "it does not go on by itself");
    world.rotations.resume(&RS256, late).await.unwrap();
    assert!(!world.look(&RS256, late + MINUTE).await.1);
    world.acknowledges_keys("gamma", late).await;
    assert_eq!(world.look(&RS256, late + MINUTE).await.0, Phase::Active);
}

#[tokio::test]
async fn the_absent_are_waited_for_and_then_left_behind_by_name() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    world.connects("beta", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let day = Duration::from_secs(86_400);
    assert_eq!(world.look(&RS256, NOW + day - MINUTE).await.0, Phase::Published);
    assert_eq!(world.look(&RS256, NOW + day).await.0, Phase::Active);
    let shown = world.rotations.status(Some(&RS256), NOW + day).await.unwrap().remove(0);
    assert_eq!(shown.rotation.left_behind, ["gamma".parse().unwrap()]);
}

#[tokio::test]
async fn whoever_chose_acknowledged_keys_holds_up_nobody_and_keeps_the_old_key_alive() {
    let world = World::new(&["beta"], POLICY).await;
    world.chooses("beta", SigningKeyChoice::Acknowledged).await;
    world.connects("beta", NOW);
    world.acknowledges_keys("beta", NOW).await;
    world.begin(&RS256, Urgency::Planned).await;
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    // Long after the last token that the old key signed for others.
    let later = NOW + 10 * MINUTE + 5 * LONGEST;
    for minutes in 0..300 {
        world.look(&RS256, NOW + 10 * MINUTE + minutes * MINUTE).await;
    }
    assert_eq!(world.look(&RS256, later).await.0, Phase::Active);
    assert_eq!(world.states().await, ["active", "retired"]);
    world.acknowledges_keys("beta", later).await;
    // A token that it signed a moment ago lives to the end.
    assert_eq!(world.look(&RS256, later + LONGEST).await.0, Phase::Active);
    assert_eq!(world.look(&RS256, later + 3 * LONGEST).await.0, Phase::Done);
    assert_eq!(world.states().await, ["active"]);
}

#[tokio::test]
async fn a_compromised_key_is_gone_at_once_and_it_is_said_what_breaks() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    let old = world.kid(KeyState::Active).await;
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let pending = world.kid(KeyState::Pending).await;
    world.begin(&RS256, Urgency::Compromised).await;
    assert_eq!((world.kid(KeyState::Active).await, world.states().await), (pending, vec!["active".to_owned()]));
    let remark = world.look(&RS256, NOW).await.2;
    assert!(remark.contains(&old) && remark.contains("gamma") && !remark.contains("beta"), "{remark}");
}

#[tokio::test]
async fn keys_are_taken_back_before_and_after_the_new_one_signs() {
    let world = World::new(&[], POLICY).await;
    let old = world.kid(KeyState::Active).await;
    world.begin(&RS256, Urgency::Planned).await;
    world.rotations.roll_back(&RS256, NOW).await.unwrap();
    assert_eq!(world.states().await, ["active"]);
    world.begin(&RS256, Urgency::Planned).await;
    let again = world.rotations.begin(RS256, Urgency::Planned, "", NOW).await;
    assert!(matches!(again, Err(RotationError::AlreadyTurning(_))));
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    world.rotations.roll_back(&RS256, NOW + 11 * MINUTE).await.unwrap();
    assert_eq!(
        (world.kid(KeyState::Active).await, world.states().await),
        (old, vec!["active".into(), "retired".into()])
    );
    world.rotations.look(NOW + 11 * MINUTE + LONGEST).await.unwrap();
    assert_eq!(world.states().await, ["active"]);
    assert!(matches!(world.rotations.roll_back(&RS256, NOW).await, Err(RotationError::NotTurning(_))));
}

#[tokio::test]
async fn an_old_secret_closes_when_the_new_one_is_proved() {
    let world = World::new(&["beta"], POLICY).await;
    let beta = secret("beta");
    world.connects("beta", NOW);
    world.begin(&beta, Urgency::Planned).await;
    assert_eq!(world.party("beta").credentials().map(ClientCredential::version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.look(&beta, NOW + MINUTE).await.0, Phase::Offered);
    world.hears("beta", NOW, |seen| seen.acknowledged.secret_version = 2);
    assert_eq!(world.look(&beta, NOW + MINUTE).await.0, Phase::Done);
    assert_eq!(world.party("beta").credentials().map(ClientCredential::version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_secret_that_the_application_refuses_is_taken_back_and_a_silent_one_closes_the_old() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    for name in ["beta", "gamma"] {
        world.connects(name, NOW);
        world.begin(&secret(name), Urgency::Planned).await;
    }
    let refusal = Refusal {
        reason: "OLD_SECRET_PRESENTED".into(),
        detail: "the application still presents the old one".into(),
        version: 0,
        since: NOW + MINUTE,
    };
    world.hears("beta", NOW, |seen| drop(seen.refusals.insert(Resource::ClientCredentials, refusal)));
    assert_eq!(world.look(&secret("beta"), NOW + 59 * MINUTE).await.0, Phase::Offered);
    let (phase, _, remark) = world.look(&secret("beta"), NOW + 60 * MINUTE).await;
    assert!(phase == Phase::RolledBack && remark.contains("OLD_SECRET_PRESENTED"), "{phase:?} {remark}");
    let versions = |name| world.party(name).credentials().map(ClientCredential::version).collect::<Vec<_>>();
    assert_eq!((versions("beta"), versions("gamma")), (vec![1], vec![2]));
    // A number that was taken back is given to no other secret: an old acknowledgement must not prove a new one.
    world.begin(&secret("beta"), Urgency::Planned).await;
    assert_eq!(world.party("beta").wanted_credential().version(), 3);
}

#[tokio::test]
async fn what_is_planned_begins_and_nothing_else() {
    let every = Some(Duration::from_secs(86_400));
    let world = World::new(&["beta"], RotationPolicy { signing_keys_every: every, ..POLICY }).await;
    let day = Duration::from_secs(86_400);
    world.rotations.look(NOW + day - MINUTE).await.unwrap();
    assert!(world.rotations.status(None, NOW + day).await.unwrap().is_empty());
    let plan = world.rotations.plan(NOW).await.unwrap();
    let planned: Vec<_> = plan.iter().map(|planned| (planned.subject.to_string(), planned.at)).collect();
    assert_eq!(planned, [("keys/RS256".to_owned(), NOW + day), ("keys/ES256".to_owned(), NOW + day)]);
    world.rotations.look(NOW + day).await.unwrap();
    let begun = world.rotations.status(None, NOW + day).await.unwrap();
    assert_eq!(begun.len(), 2);
    assert!(begun.iter().all(|status| status.rotation.creator == "schedule"));
}

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

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
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

/// Everything that an agent can say for its instance, said.
async fn everybody_goes_along(world: &World, now: Timestamp) {
    world.acknowledges_keys("beta", now).await;
    let (bundle, secret) =
        (world.foundations.authority.state().bundle.version, world.party("beta").wanted_credential().version());
    let signer = world.foundations.authority.state().signer_pin().to_string();
    world.hears("beta", now, |seen| {
        seen.acknowledged.bundle_version = bundle;
        seen.acknowledged.secret_version = secret;
    });
    let registry = &world.foundations.registry;
    let renewed = registry.instances.update("beta", |instance| {
        let mut instance = instance.unwrap();
        instance.certificate.authority = Some(signer.clone());
        instance.certificate.not_after = now + 1000 * MINUTE;
        Ok::<_, StoreError>(instance)
    });
    registry.reached(renewed.await.unwrap()).await.unwrap();
}

/// R0–R4, RB, K: the broker dies before or after any commit of a rotation, another one goes on from what is stored, and the
/// rotation ends as if nothing had happened.
#[tokio::test]
async fn a_rotation_goes_on_after_a_broker_that_died_at_any_commit() {
    for subject in [RS256, secret("beta"), RotationSubject::Authority] {
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

/// RB: from each phase but the last.
#[tokio::test]
async fn the_ca_can_be_taken_back_from_every_phase_but_the_last() {
    for steps in 0..3 {
        let world = World::new(&["beta"], POLICY).await;
        world.connects("beta", NOW);
        let old = world.foundations.authority.state().signer_pin();
        let mut now = NOW;
        world.begin(&RotationSubject::Authority, Urgency::Planned).await;
        settle(&world).await;
        for _ in 0..steps {
            now = now + 5 * MINUTE;
            everybody_goes_along(&world, now).await;
            world.rotations.look(now).await.unwrap();
            settle(&world).await;
        }
        world.rotations.roll_back(&RotationSubject::Authority, now).await.unwrap();
        settle(&world).await;
        everybody_goes_along(&world, now).await;
        assert_eq!(world.look(&RotationSubject::Authority, now + MINUTE).await.0, Phase::RolledBack, "after {steps}");
        settle(&world).await;
        let state = world.foundations.authority.state();
        assert_eq!((state.signer_pin(), state.authorities().len()), (old, 1), "after {steps}");
    }
}

/// A broker that has not read yet what it has just written must not take an empty gate for an open one.
#[tokio::test]
async fn a_compromised_ca_gives_its_notice_to_whoever_reads_slowly_too() {
    let world = World::new(&["beta"], POLICY).await;
    world.connects("beta", NOW);
    let known = &world.foundations;
    let (domain, clock) = ("test.example".parse().unwrap(), Clock::manual(NOW).0);
    let (authority, _never_read) = Authority::open(&known.store, &known.kek, &domain, clock).await.unwrap();
    let behind = World::broker(&Foundations { authority, ..known.clone() }, POLICY);
    let ca = RotationSubject::Authority;
    behind.begin(ca.clone(), Urgency::Compromised, "uid=0", NOW).await.unwrap();
    behind.look(NOW).await.unwrap();
    let status = behind.status(Some(&ca), NOW).await.unwrap().remove(0);
    assert_eq!(status.rotation.phase, Phase::Prepared);
}

#[tokio::test]
async fn a_secret_that_leaked_closes_for_an_instance_that_is_cut_off_too() {
    let world = World::new(&["beta"], POLICY).await;
    let registry = &world.foundations.registry;
    let cut_off = registry.instances.update("beta", |instance| {
        let state = InstanceState::Quarantined { reason: String::new(), since: NOW, cause: QuarantineCause::Ops };
        Ok::<_, StoreError>(Instance { state, ..instance.unwrap() })
    });
    registry.reached(cut_off.await.unwrap()).await.unwrap();
    let planned = world.rotations.begin(secret("beta"), Urgency::Planned, "uid=0", NOW).await;
    assert!(matches!(planned, Err(RotationError::UnknownInstance(_))));
    world.begin(&secret("beta"), Urgency::Compromised).await;
    assert_eq!(world.party("beta").credential.version(), 2);
}

/// Waits until the CA's picture is that of the store.
async fn settle(world: &World) {
    for _ in 0..200 {
        let rotation = world.rotations.status(Some(&RotationSubject::Authority), NOW).await.unwrap();
        let wanted = rotation.first().and_then(|status| phase_of_authority(status.rotation.phase));
        if world.foundations.authority.state().phase == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the CA does not follow the store");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever ops and agents do, in whatever order: one key of each algorithm signs, and no key that signed goes
    /// before its tokens, but by the order that says so.
    #[test]
    fn one_key_signs_at_any_time(steps in proptest::collection::vec((0_u8..6, 0_u64..5000), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(&["beta"], POLICY).await;
            let mut now = NOW;
            for (step, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                match step {
                    0 => drop(world.rotations.begin(RS256, Urgency::Planned, "", now).await),
                    1 => drop(world.rotations.begin(RS256, Urgency::Compromised, "", now).await),
                    2 => drop(world.rotations.roll_back(&RS256, now).await),
                    3 => drop(world.rotations.force(&RS256, now).await),
                    4 => world.acknowledges_keys("beta", now).await,
                    _ => world.rotations.look(now).await.unwrap(),
                }
                let states = world.states().await;
                assert_eq!(states.iter().filter(|state| *state == "active").count(), 1, "{states:?}");
                assert!(states.iter().filter(|state| *state == "pending").count() <= 1, "{states:?}");
            }
        });
    }
}
