//! Rotations on a real store, with a clock that stands still and agents that say what a test wants.

mod brokers;
mod ca;
mod keys;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;

use crate::clock::{Clock, Timestamp};
use crate::config::RotationPolicy;
use crate::foundations::Foundations;
use crate::keys::{KeyState, SigningAlgorithm, first_keys};
use crate::registry::{self, ClientSecret, Instance, RelyingParty, Sighting, SigningKeyChoice};
use crate::rotation::ca::phase_of_authority;
use crate::rotation::{Phase, RotationSubject, Rotations, Settings, Urgency};
use crate::storage::{Expect, StoreError};

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
        let foundations = Foundations::new_in(&folder, &Clock::manual(NOW).0).await;
        let Foundations { store, registry, sealing, .. } = &foundations;
        store.commit(first_keys(store, sealing, NOW).unwrap()).await.unwrap();
        for name in names {
            let instance = relying_party(name, &ClientSecret::generate(sealing, 1).unwrap());
            let write = registry.instances.put(name, &instance, Expect::Any).unwrap();
            registry.reached(store.commit(vec![write]).await.unwrap()).await.unwrap();
        }
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
    let mut instance = registry::tests::instance(name, secret);
    (instance.enrolled_at, instance.certificate.issued_at) = (NOW, NOW);
    instance.certificate.not_after = NOW + 1000 * MINUTE;
    instance
}

fn secret_of(name: &str) -> RotationSubject {
    RotationSubject::Secret(name.parse().unwrap())
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
