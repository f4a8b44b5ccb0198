//! B1: what ops do.

use super::*;

/// B1.
#[tokio::test]
async fn ops_cut_off_and_let_in_again() {
    let world = World::new().await;
    let (agent, unused) = (world.enrol("alpha").await, world.claim("beta", false).await);
    let nobody = "nobody".parse().unwrap();
    assert_eq!(refused(world.enrolment.quarantine(&nobody, "x", world.now()).await), "InstanceUnknown");
    assert_eq!(refused(world.enrolment.release(&agent.name).await), "NotQuarantined");
    for agent in [&agent, &unused] {
        world.enrolment.quarantine(&agent.name, "a strange log", world.now()).await.unwrap();
        assert_eq!(refused(agent.call(&world).await), "Quarantined");
        world.enrolment.release(&agent.name).await.unwrap();
    }
    assert!(world.instance("alpha").is_active());
    // Nothing that was never confirmed is confirmed by that.
    assert!(!world.instance("beta").is_active());
    agent.call(&world).await.unwrap();
    unused.call(&world).await.unwrap();
    assert!(world.instance("beta").is_active());
}

/// N2: a clone that shows itself while ops have cut the instance off is found, and release does not free it.
#[tokio::test]
async fn an_alarm_takes_the_place_of_a_quarantine_by_ops() {
    let world = World::new().await;
    let clone = world.enrol("alpha").await;
    world.time.advance(12 * HOUR);
    let renewed = clone.with(&clone.renew(&world).await.unwrap());
    renewed.call(&world).await.unwrap();
    world.enrolment.quarantine(&clone.name, "a strange log", world.now()).await.unwrap();
    assert_eq!(refused(renewed.recover(&world).await), "Quarantined");
    assert_eq!(refused(clone.recover(&world).await), "GenerationOlder");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
}

/// B1.
#[tokio::test]
async fn an_evicted_instance_leaves_nothing_behind() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    for name in ["beta", "gamma"] {
        world.enrol(name).await;
    }
    for (relying_party, home) in [("alpha", "beta"), ("beta", "alpha"), ("beta", "gamma")] {
        let id = TrustEdgeId { relying_party: relying_party.parse().unwrap(), home: home.parse().unwrap() };
        world.registry.allow_trust(TrustEdge::new(id, START).unwrap()).await.unwrap();
    }
    world.token("alpha", true).await;
    let id = world.instance("alpha").id;
    assert_eq!(world.enrolment.evict(&agent.name).await.unwrap(), Evicted { trust_edges: 2 });
    assert_eq!(refused(agent.call(&world).await), "AgentUnknown");
    assert_eq!(refused(agent.recover(&world).await), "RecoveryRefused(Stranger)");
    assert_eq!(refused(world.enrolment.evict(&agent.name).await), "InstanceUnknown");
    let snapshot = world.registry.snapshot();
    let left: Vec<String> = snapshot.known_edges().map(|edge| edge.id.key()).collect();
    assert_eq!(left, ["beta.gamma"]);
    // One that another broker has put meanwhile, which had not heard of it.
    let late = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: agent.name.clone() };
    let edges = &world.registry.edges;
    let put = edges.put(&late.key(), &TrustEdge::new(late.clone(), START).unwrap(), Expect::Any).unwrap();
    world.registry.reached(edges.commit(vec![put]).await.unwrap()).await.unwrap();
    world.registry.forget_edges_of(&agent.name).await.unwrap();
    assert!(world.registry.snapshot().known_edge(&late).is_none(), "or it is of whoever comes under that name");
    let tokens = world.enrolment.list_tokens().await.unwrap();
    let open = tokens.iter().filter(|listed| listed.token.state == JoinTokenState::Issued).count();
    assert_eq!(open, 0);
    // The name is free, for another installation.
    world.enrol("alpha").await;
    assert_ne!(world.instance("alpha").id, id);
}

#[tokio::test]
async fn a_policy_changes_what_is_said_and_nothing_else() {
    let world = World::new().await;
    let agent = world.enrol("alpha").await;
    let wanted = PolicyChange { recovery: None, signing_key_choice: Some(SigningKeyChoice::Acknowledged) };
    world.enrolment.set_policy(&agent.name, wanted).await.unwrap();
    world.policy("alpha", RecoveryPolicy::Times(7)).await;
    let instance = world.instance("alpha");
    assert_eq!(instance.recovery, RecoveryPolicy::Times(7));
    assert_eq!(instance.relying_party.unwrap().signing_key_choice, SigningKeyChoice::Acknowledged);
}

/// N2: a stolen token raises the alarm for the identity that came by it, and for no other.
#[tokio::test]
async fn a_used_token_cannot_cut_off_the_identity_that_took_its_ones_place() {
    let world = World::new().await;
    let stolen = world.token("alpha", false).await;
    world.join(&stolen).await.unwrap().call(&world).await.unwrap();
    assert_eq!(refused(world.join(&stolen).await), "TokenReused");
    assert_eq!(world.cause("alpha"), Some(QuarantineCause::Alarm));
    world.time.advance(Duration::from_secs(60));
    let fresh = world.claim("alpha", true).await;
    fresh.call(&world).await.unwrap();
    assert_eq!(refused(world.join(&stolen).await), "TokenUsedUp");
    assert_eq!(world.cause("alpha"), None);
    fresh.call(&world).await.unwrap();
}

#[tokio::test]
async fn what_ops_said_of_accounts_outlives_a_new_identity() {
    let world = World::new().await;
    world.enrol("beta").await;
    let key = || world.instance("beta").relying_party.unwrap().policy.account_key;
    let by_name = ClientPolicyChange { account_key: Some(AccountKey::Username), ..ClientPolicyChange::default() };
    world.registry.set_client_policy("beta", &by_name).await.unwrap();
    world.claim("beta", true).await.call(&world).await.unwrap();
    assert_eq!(key(), AccountKey::Username);
}
