//! Two brokers on one store, one of which has not heard yet what the other one did.

use super::*;

/// A second broker, which hears of nothing until it is let.
struct Deaf {
    enrolment: Enrolment,
    registry: Registry,
    hear: Box<dyn FnOnce()>,
}

async fn deaf(world: &World) -> Deaf {
    let (registry, keep_fresh) = Registry::open(world.store.clone()).await.unwrap();
    let Enrolment { authority, sealing, audit, settings, .. } = &world.enrolment;
    let foundations = Foundations {
        store: world.store.clone(),
        registry: registry.clone(),
        liveness: Liveness::default(),
        authority: authority.clone(),
        sealing: sealing.clone(),
        audit: audit.clone(),
    };
    let hear = Box::new(|| drop(tokio::spawn(keep_fresh)));
    Deaf { enrolment: Enrolment::new(foundations, settings.clone()), registry, hear }
}

#[tokio::test]
async fn an_agent_that_enrolled_at_one_broker_may_call_another_at_once() {
    let world = World::new().await;
    let other = deaf(&world).await;
    let agent = world.claim("alpha", false).await;
    assert!(other.registry.snapshot().instance(&agent.name).is_none());
    // Hearing is late, and the first call is there before.
    let called = other.enrolment.authenticate(&agent.name, &agent.serial, world.now());
    let hears = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (other.hear)();
    };
    let (called, ()) = tokio::join!(called, hears);
    assert!(called.unwrap().is_active());
    assert!(other.registry.snapshot().instance(&agent.name).unwrap().is_active(), "its stream is not ended at once");
    // Confirmed there, it is confirmed here.
    agent.call(&world).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_was_first_used_at_one_broker_counts_at_another_at_once() {
    let world = World::new().await;
    let agent = world.claim("alpha", false).await;
    let other = deaf(&world).await;
    agent.call(&world).await.unwrap();
    let id = other.registry.snapshot().instance(&agent.name).unwrap().relying_party.as_ref().unwrap().client_id.clone();
    assert!(other.registry.snapshot().client(id.as_str()).is_none(), "claimed, as far as it knows");
    let looked_up = other.registry.snapshot_with_client(id.as_str());
    let called = other.enrolment.authenticate(&agent.name, &agent.serial, world.now());
    let hears = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (other.hear)();
    };
    let (called, looked_up, ()) = tokio::join!(called, looked_up, hears);
    called.unwrap();
    assert!(looked_up.client(id.as_str()).is_some());
}

#[tokio::test]
async fn what_nobody_has_made_is_unknown_to_all_and_asked_for_so_often_only() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    let other = deaf(&world).await;
    let nobody = "nobody".parse().unwrap();
    let refused = other.enrolment.authenticate(&nobody, &agent.serial, world.now()).await;
    assert!(matches!(refused, Err(EnrolmentError::AgentUnknown)), "{refused:?}");
    let refused = other.enrolment.authenticate(&agent.name, "00", world.now()).await;
    assert!(matches!(refused, Err(EnrolmentError::CertificateReplaced)), "{refused:?}");
    for id in ["nobody-00000000", "nobody", "", "no body-0", "alpha-00000000"] {
        assert!(other.registry.snapshot_with_client(id).await.client(id).is_none());
    }
    // A flood of names is no flood of the store: beyond so many the snapshot has the last word.
    let late = world.enrol("late").await;
    let id = world.instance(late.name.as_str()).relying_party.unwrap().client_id;
    let asks = (0..200).map(async |_| {
        tokio::time::timeout(Duration::from_secs(1), other.registry.snapshot_with_client(id.as_str())).await.is_err()
    });
    let asked = futures_util::future::join_all(asks).await.into_iter().filter(|asked| *asked).count();
    assert!((1..100).contains(&asked), "{asked} asked the store, and wait for this broker to hear of it");
}
