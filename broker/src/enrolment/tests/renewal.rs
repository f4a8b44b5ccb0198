//! N1, N2: one certificate after the other, and two machines with the same.

use super::*;

/// N1, N2.
#[tokio::test]
async fn a_renewal_is_answered_once_and_again_and_counts_when_it_is_used() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    assert_eq!(refused(agent.renew(&world).await), "RateLimited");
    world.time.advance(12 * HOUR);
    let key = InstanceKey::generate().unwrap();
    let request = agent.renewal(&key);
    let renewed = world.enrolment.renew(&agent.name, request.clone(), world.now()).await.unwrap();
    let again = world.enrolment.renew(&agent.name, request.clone(), world.now()).await.unwrap();
    assert_eq!((&again.chain, again.generation), (&renewed.chain, 2));
    let other_request = RenewalRequest { request_id: Uuid::new_v4(), ..request.clone() };
    let refusal = world.enrolment.renew(&agent.name, other_request, world.now()).await;
    assert_eq!(refused(refusal), "RecoverySignature");

    agent.call(&world).await.unwrap();
    let next = agent.with(&renewed);
    next.call(&world).await.unwrap();
    assert_eq!(refused(agent.call(&world).await), "CertificateReplaced");
    // An agent that was killed before it noted the answer that it uses already.
    let late = world.enrolment.renew(&agent.name, request.clone(), world.now()).await.unwrap();
    assert_eq!(late.chain, renewed.chain);
    assert_eq!(world.cause("alpha"), None);
    world.time.advance(12 * HOUR);
    let unsigned = RenewalRequest { proof: None, request_id: Uuid::new_v4(), ..request };
    assert_eq!(refused(world.enrolment.renew(&agent.name, unsigned, world.now()).await), "KeyNotNew");
}

/// N2: whoever is behind shows that there are two.
#[tokio::test]
async fn of_two_machines_with_the_same_keys_both_are_cut_off() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    let clone = agent.clone();
    world.time.advance(12 * HOUR);
    let renewed = agent.with(&agent.renew(&world).await.unwrap());
    renewed.call(&world).await.unwrap();

    // The certificate of the other one is refused, and it says what it has before it gives up.
    assert_eq!(refused(clone.call(&world).await), "CertificateReplaced");
    assert_eq!(refused(clone.recover(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
    for machine in [&renewed, &clone] {
        assert_eq!(refused(machine.call(&world).await), "Quarantined");
        assert_eq!(refused(machine.recover(&world).await), "Quarantined");
    }
    let name = "alpha".parse().unwrap();
    assert_eq!(refused(world.enrolment.release(&name).await), "QuarantinedByAlarm(InstanceName(\"alpha\"))");
    world.enrolment.quarantine(&name, "ops have heard of it", world.now()).await.unwrap();
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));

    let fresh = world.claim("alpha", true).await;
    fresh.call(&world).await.unwrap();
    // The old keys raise no alarm any more: they are a stranger's.
    assert_eq!(refused(clone.recover(&world).await), "RecoveryRefused(Stranger)");
    assert_eq!(world.cause("alpha"), None);
}

/// N2: also when both have renewed before either has used what it got.
#[tokio::test]
async fn a_clone_that_renews_first_is_found_all_the_same() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.time.advance(12 * HOUR);
    let renewed = agent.with(&agent.renew(&world).await.unwrap());
    world.time.advance(2 * HOUR);
    let cloned = agent.with(&agent.renew(&world).await.unwrap());
    assert_eq!((renewed.generation, cloned.generation), (2, 3));
    cloned.call(&world).await.unwrap();
    assert_eq!(refused(renewed.call(&world).await), "CertificateReplaced");
    assert_eq!(refused(renewed.recover(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
}

/// N2: over a connection with the right certificate, but with an older record of it.
#[tokio::test]
async fn a_renewal_by_an_older_generation_is_an_alarm_and_by_an_unknown_one_is_none() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.time.advance(12 * HOUR);
    let renewed = agent.with(&agent.renew(&world).await.unwrap());
    renewed.call(&world).await.unwrap();
    world.time.advance(12 * HOUR);
    let ahead = Agent { generation: 3, ..renewed.clone() };
    assert_eq!(refused(ahead.renew(&world).await), "GenerationUnknown");
    let forged = Agent { recovery: Arc::new(RecoveryKey::generate().unwrap()), ..agent.clone() };
    assert_eq!(refused(forged.renew(&world).await), "RecoverySignature");
    assert_eq!(world.cause("alpha"), None);
    assert_eq!(refused(agent.renew(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
}

/// R2: who is asked to come does not hear that it comes too often, and gets no certificate of the CA of before.
#[tokio::test]
async fn renewals_follow_the_ca_through_its_turn() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    let old = world.authority.state().signer_pin();
    world.time.advance(2 * HOUR);
    let key = InstanceKey::generate().unwrap();
    let request = agent.renewal(&key);
    let first = world.enrolment.renew(&agent.name, request.clone(), world.now()).await.unwrap();
    world.turn(CaStep::Prepare).await;
    assert_eq!(world.token("beta", false).await.pins.len(), 2);
    assert_eq!(refused(agent.renew(&world).await), "RateLimited");
    world.turn(CaStep::ActivateClients).await;

    // The answer was lost, and the CA has turned: the same question has a newer answer.
    let again = world.enrolment.renew(&agent.name, request.clone(), world.now()).await.unwrap();
    assert_ne!(again.chain, first.chain);
    let next = world.authority.state().signer_pin();
    assert_eq!(SpkiPin::of_certificate(&again.chain[1]), Some(next));
    assert_eq!((again.generation, again.bundle.version), (3, 2));
    let repeated = world.enrolment.renew(&agent.name, request, world.now()).await.unwrap();
    assert_eq!(repeated.chain, again.chain);
    assert_eq!(refused(agent.renew(&world).await), "RateLimited");
    let agent = agent.with(&again);
    agent.call(&world).await.unwrap();
    assert_eq!(world.instance("alpha").certificate.authority, Some(next.to_string()));

    // And back: as quickly.
    world.turn(CaStep::RollBack).await;
    let back = agent.renew(&world).await.unwrap();
    assert_eq!(SpkiPin::of_certificate(&back.chain[1]), Some(old));
}
