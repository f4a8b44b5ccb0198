//! Client credentials turn.

use super::*;
use crate::registry::{ClientCredential, InstanceState, QuarantineCause, Refusal, Resource};
use crate::rotation::RotationError;

#[tokio::test]
async fn an_old_secret_closes_when_the_new_one_is_proved() {
    let world = World::new(&["beta"], POLICY).await;
    let beta = secret_of("beta");
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
        world.begin(&secret_of(name), Urgency::Planned).await;
    }
    let refusal = Refusal {
        reason: "OLD_SECRET_PRESENTED".into(),
        detail: "the application still presents the old one".into(),
        version: 0,
        since: NOW + MINUTE,
    };
    world.hears("beta", NOW, |seen| drop(seen.refusals.insert(Resource::ClientCredentials, refusal)));
    assert_eq!(world.look(&secret_of("beta"), NOW + 59 * MINUTE).await.0, Phase::Offered);
    let (phase, _, remark) = world.look(&secret_of("beta"), NOW + 60 * MINUTE).await;
    assert!(phase == Phase::RolledBack && remark.contains("OLD_SECRET_PRESENTED"), "{phase:?} {remark}");
    let versions = |name| world.party(name).credentials().map(ClientCredential::version).collect::<Vec<_>>();
    assert_eq!((versions("beta"), versions("gamma")), (vec![1], vec![2]));
    // A number that was taken back is given to no other secret: an old acknowledgement must not prove a new one.
    world.begin(&secret_of("beta"), Urgency::Planned).await;
    assert_eq!(world.party("beta").wanted_credential().version(), 3);
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
    let planned = world.rotations.begin(secret_of("beta"), Urgency::Planned, "uid=0", NOW).await;
    assert!(matches!(planned, Err(RotationError::UnknownInstance(_))));
    world.begin(&secret_of("beta"), Urgency::Compromised).await;
    assert_eq!(world.party("beta").credential.version(), 2);
}
