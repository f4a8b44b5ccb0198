//! N3: instances that slept.

use super::*;

/// N3.
#[tokio::test]
async fn an_instance_that_slept_past_its_certificate_comes_back_as_often_as_it_may() {
    let world = World::new().await;
    let mut agent = world.enrol("alpha").await;
    assert_eq!(refused(agent.recover(&world).await), "CertificateStillGood");
    for left in [2, 1, 0] {
        world.time.advance(30 * DAY);
        let (key, request_id) = (InstanceKey::generate().unwrap(), Uuid::new_v4());
        let request = agent.recovery(&world, &key, request_id);
        let recovered = world.enrolment.recover(request, world.now()).await.unwrap();
        assert_eq!(world.instance("alpha").recovery, RecoveryPolicy::Times(left));
        // The answer is lost: the same question with another challenge costs nothing.
        let request = agent.recovery(&world, &key, request_id);
        let again = world.enrolment.recover(request, world.now()).await.unwrap();
        assert_eq!(
            (again.chain, world.instance("alpha").recovery),
            (recovered.chain.clone(), RecoveryPolicy::Times(left))
        );
        agent = agent.with(&recovered);
        agent.call(&world).await.unwrap();
    }
    world.time.advance(2 * DAY);
    assert_eq!(refused(agent.recover(&world).await), "RecoveryRefused(UsedUp)");
    world.policy("alpha", RecoveryPolicy::Off).await;
    assert_eq!(refused(agent.recover(&world).await), "RecoveryRefused(Off)");
    world.policy("alpha", RecoveryPolicy::Always).await;
    agent.recover(&world).await.unwrap();
    assert_eq!(world.instance("alpha").recovery, RecoveryPolicy::Always);
}

/// N3: 90 days after it was last seen, or after its certificate's end if nobody knows when that was.
#[tokio::test]
async fn an_instance_that_was_away_for_too_long_needs_ops() {
    for (seen, away, expected) in [
        (None, 90 * DAY, None),
        (None, 92 * DAY, Some("RecoveryRefused(AbsentTooLong)")),
        (Some(START + 10 * DAY), 100 * DAY, None),
        (Some(START + 10 * DAY), 101 * DAY, Some("RecoveryRefused(AbsentTooLong)")),
    ] {
        let world = World::new().await;
        let agent = world.enrol("alpha").await;
        if let Some(seen) = seen {
            world.liveness.update(&agent.name, |_| {}, seen);
        }
        world.time.advance(away);
        let refusal = agent.recover(&world).await.err().map(|error| format!("{error:?}"));
        assert_eq!(refusal.as_deref(), expected, "{seen:?} {away:?}");
    }
}

/// N3: who has not signed learns nothing.
#[tokio::test]
async fn strangers_to_recovery_get_one_sentence() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.time.advance(2 * DAY);
    let mut answers = Vec::new();
    let unknown = Agent { name: "nobody".parse().unwrap(), ..agent.clone() };
    answers.push(unknown.recover(&world).await);
    let forged = Agent { recovery: Arc::new(RecoveryKey::generate().unwrap()), ..agent.clone() };
    answers.push(forged.recover(&world).await);
    let key = InstanceKey::generate().unwrap();
    let good = agent.recovery(&world, &key, Uuid::new_v4());
    let other_key = RecoveryRequest { csr: InstanceKey::generate().unwrap().csr().unwrap(), ..good.clone() };
    let other_request = RecoveryRequest { request_id: Uuid::new_v4(), ..good.clone() };
    let other_generation = RecoveryRequest { generation: 0, ..good.clone() };
    let other_challenge = agent.recovery(&world, &key, Uuid::new_v4()).challenge;
    let other_challenge = RecoveryRequest { challenge: other_challenge, ..good.clone() };
    for request in [other_key, other_request, other_generation, other_challenge] {
        answers.push(world.enrolment.recover(request, world.now()).await);
    }
    world.enrolment.quarantine(&agent.name, "a reason", world.now()).await.unwrap();
    answers.push(forged.recover(&world).await);
    for answer in answers {
        assert_eq!(
            answer.unwrap_err().to_string(),
            "the recovery is refused: ops can give the instance a new identity with a join token made with --replace"
        );
    }
    // The alarm needs the key: nobody was cut off by what strangers said.
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Ops));
}

/// N3.
#[tokio::test]
async fn a_challenge_is_this_brokers_and_young() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.time.advance(2 * DAY);
    let key = InstanceKey::generate().unwrap();
    let good = agent.recovery(&world, &key, Uuid::new_v4());
    for challenge in [Vec::new(), b"AAAA".to_vec(), good.challenge[1..].to_vec(), vec![0xff; 512]] {
        let request = RecoveryRequest { challenge, ..good.clone() };
        assert_eq!(refused(world.enrolment.recover(request, world.now()).await), "ChallengeInvalid");
    }
    world.time.advance(Duration::from_secs(121));
    assert_eq!(refused(world.enrolment.recover(good, world.now()).await), "ChallengeInvalid");
}

/// N3: a certificate that got lost on its way is not one that the agent has; and one that it has need not be in use.
#[tokio::test]
async fn a_lost_renewal_is_no_obstacle_to_recovery() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.time.advance(23 * HOUR);
    let lost = agent.with(&agent.renew(&world).await.unwrap());
    world.time.advance(2 * HOUR);
    assert_eq!(refused(lost.recover(&world).await), "CertificateStillGood");
    let recovered = agent.with(&agent.recover(&world).await.unwrap());
    assert_eq!(recovered.generation, 3);
    recovered.call(&world).await.unwrap();
    world.time.advance(2 * DAY);
    recovered.recover(&world).await.unwrap();
}

/// Whoever slept through the turn has a certificate that has not expired and that nobody accepts.
#[tokio::test]
async fn an_instance_whose_ca_was_retired_comes_back_by_its_recovery_key() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    for step in [CaStep::Prepare, CaStep::ActivateClients, CaStep::ActivateServers] {
        world.turn(step).await;
    }
    assert_eq!(refused(agent.recover(&world).await), "CertificateStillGood");
    world.turn(CaStep::Retire).await;
    let recovered = agent.recover(&world).await.unwrap();
    assert_eq!((recovered.generation, recovered.bundle.version), (2, 3));
    let bundle = TrustBundle::new(1, recovered.chain[1..].to_vec()).unwrap();
    assert_eq!(world.enrolment.bundle_statements(1).len(), 2);
    assert!(bundle.trusts(&world.authority.state().signer_pin()));
}

/// After a restore no certificate counts; who has the recovery key and none older than the backup's comes back, once.
#[tokio::test]
async fn a_restored_instance_comes_back_by_its_recovery_key_and_its_clone_does_not() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    world.policy("alpha", RecoveryPolicy::Times(0)).await;
    restore(&world, "alpha").await;
    assert_eq!(refused(agent.call(&world).await), "CertificateReplaced");
    // It was renewed seven times since the backup; a number that leaves no room for others is none.
    let renewed = Agent { generation: agent.generation + 7, ..agent.clone() };
    let absurd = Agent { generation: u64::MAX, ..agent.clone() };
    assert_eq!(refused(absurd.recover(&world).await), "GenerationUnknown");
    let back = renewed.with(&renewed.recover(&world).await.unwrap());
    assert_eq!(back.generation, START.as_secs().unsigned_abs() + 1);
    back.call(&world).await.unwrap();
    assert_eq!((world.instance("alpha").restored_at, world.cause("alpha")), (None, None));
    // From here on all is as ever: the other copy gives itself away.
    assert_eq!(refused(renewed.recover(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
}

async fn restore(world: &World, name: &str) {
    let restored = Instance { restored_at: Some(world.now()), pending_certificate: None, ..world.instance(name) };
    write(world, &restored).await;
}

async fn write(world: &World, instance: &Instance) {
    let write = world.registry.instances.put(instance.name.as_str(), instance, Expect::Any).unwrap();
    world.registry.reached(world.store.commit(vec![write]).await.unwrap()).await.unwrap();
}

/// A backup knows the fifth certificate. One machine has had so many since, and another one a copy from some time: whoever
/// of them comes back first, and whatever it says that it has, the other one's coming shows that there are two.
#[tokio::test]
async fn after_a_restore_two_machines_with_the_same_keys_are_found_whoever_comes_first() {
    for (first, second) in [(5, 5), (5, 6), (5, 7), (5, 12), (6, 7), (7, 5), (12, 5), (12, 12), (1_000_000, 12)] {
        let world = World::new().await;
        let agent = world.enrol("alpha").await;
        let mut known = world.instance("alpha");
        known.certificate.generation = 5;
        write(&world, &known).await;
        restore(&world, "alpha").await;
        let [first, second] = [first, second].map(|generation| Agent { generation, ..agent.clone() });
        // Who has a stale certificate and nothing else cuts nobody off.
        let stranger = Agent { recovery: Arc::new(RecoveryKey::generate().unwrap()), ..first.clone() };
        assert_eq!(refused(stranger.call(&world).await), "CertificateReplaced");
        assert_eq!(refused(stranger.recover(&world).await), "RecoveryRefused(Stranger)");

        let back = first.with(&first.recover(&world).await.unwrap());
        back.call(&world).await.unwrap();
        assert_eq!(refused(stranger.recover(&world).await), "RecoveryRefused(Stranger)");
        assert_eq!(world.cause("alpha"), None);
        let case = format!("{} {}", first.generation, second.generation);
        assert_eq!(refused(second.recover(&world).await), "GenerationOlder", "{case}");
        assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm), "{case}");
        assert_eq!(refused(back.call(&world).await), "Quarantined", "{case}");
    }
}

/// Also if both have asked before either used what it got, and over a second restore of the same backup.
#[tokio::test]
async fn two_machines_that_come_back_at_once_are_found_and_so_they_are_after_another_restore() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    restore(&world, "alpha").await;
    let one = agent.with(&agent.recover(&world).await.unwrap());
    let backup = world.instance("alpha");
    one.call(&world).await.unwrap();
    world.time.advance(DAY);
    // Of before the first restore: it does not know of that.
    let again = Instance { certificate: backup.certificate, ..world.instance("alpha") };
    write(&world, &again).await;
    restore(&world, "alpha").await;
    let two = agent.with(&agent.recover(&world).await.unwrap());
    let one = one.with(&one.recover(&world).await.unwrap());
    assert!(one.generation > two.generation);
    assert_eq!(refused(two.call(&world).await), "CertificateReplaced");
    one.call(&world).await.unwrap();
    assert_eq!(refused(two.recover(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
}

/// One that ops have not released says no more than that, and ops may release it later.
#[tokio::test]
async fn a_restored_instance_that_nobody_has_released_waits_for_ops() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    let (since, cause) = (world.now(), QuarantineCause::Restored);
    let state = InstanceState::Quarantined { reason: String::new(), since, cause };
    let restored = Instance { restored_at: Some(since), state, ..world.instance("alpha") };
    let write = world.registry.instances.put("alpha", &restored, Expect::Any).unwrap();
    world.registry.reached(world.store.commit(vec![write]).await.unwrap()).await.unwrap();
    assert_eq!(
        (refused(agent.call(&world).await), refused(agent.recover(&world).await)),
        ("Quarantined".into(), "Quarantined".into())
    );
    world.enrolment.release(&agent.name).await.unwrap();
    let back = agent.with(&agent.recover(&world).await.unwrap());
    back.call(&world).await.unwrap();
}
