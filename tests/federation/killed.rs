//! kill -9, clones and long absence: what an identity must survive. The ids in comments are the numbered steps of the
//! enrolment notes.

use std::time::Duration;

use serde_json::Value;
use world::federation::Instance;
use world::{Federation, InstanceOptions};

fn relying_party() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

async fn shown(federation: &Federation, name: &str) -> Value {
    federation.ops_json(&["instance", "show", name]).await.unwrap()
}

/// Waits until ops see this of an instance.
async fn becomes(federation: &Federation, name: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let shown = shown(federation, name).await;
        if seen(&shown) {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} is not {what}: {}", shown(federation, name).await)
}

/// E2 to E8: the agent dies at any moment of its enrolment, and the same token brings it in.
#[tokio::test]
async fn an_enrolment_survives_kill_9_of_the_agent_at_any_moment() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    let mut cut_short = 0;
    for millis in [3, 8, 15, 25, 40, 60, 90] {
        // The process is killed when the future that waits for it is dropped.
        if tokio::time::timeout(Duration::from_millis(millis), beta.enrol(&token)).await.is_err() {
            cut_short += 1;
        }
    }
    assert!(cut_short > 0, "nothing was killed");
    // A killed process holds its lock until the kernel has cleared it away.
    let mut last = beta.enrol(&token).await;
    for _ in 0..50 {
        match &last {
            Err(refused) if refused.to_string().contains("another homeward-agent") => {}
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        last = beta.enrol(&token).await;
    }
    if let Err(refused) = last {
        assert!(refused.to_string().contains("enrolled"), "{refused}");
    }
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
}

/// N1, N2, N3: with certificates of a few seconds both sides die again and again, in the middle of renewals, of first uses
/// and of recoveries.
#[tokio::test]
async fn renewals_survive_kill_9_of_both_sides() {
    let settings = "[lifetimes]\ninstance_certificate = 10";
    let mut federation = Federation::with_settings(settings).await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    federation.ops(&["instance", "policy", "beta", "--recovery", "always"]).await.unwrap();
    let before = shown(&federation, "beta").await["certificate_generation"].as_u64().unwrap();
    for round in 0..12_u64 {
        tokio::time::sleep(Duration::from_millis(900 + 137 * round)).await;
        if round % 2 == 0 {
            beta.agent.take().unwrap().kill().await.unwrap();
            beta.run().await.unwrap();
        } else {
            federation.kill_broker().await.unwrap();
            federation.serve().await.unwrap();
        }
    }
    let after = becomes(&federation, "beta", "back with a later certificate", |shown| {
        shown["online"] == true && shown["certificate_generation"].as_u64() > Some(before + 1)
    })
    .await;
    assert_eq!(after["state"], "confirmed", "{after}");
    federation.in_sync("beta").await.unwrap();
}

/// N2: a snapshot of the machine is started beside the machine. Whoever renews second gives the pair away.
#[tokio::test]
async fn an_agent_that_was_cloned_is_noticed_and_its_instance_quarantined() {
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 30").await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    let clone = beta.clone_agent().unwrap();
    // The original renews; the copy stays behind with the certificate before.
    becomes(&federation, "beta", "renewed", |shown| shown["certificate_generation"].as_u64() > Some(1)).await;
    let mut running = clone.run().await.unwrap();
    let quarantined = becomes(&federation, "beta", "quarantined", |shown| shown["state"] == "quarantined").await;
    assert!(!quarantined["quarantine_reason"].as_str().unwrap().is_empty(), "{quarantined}");
    for agent in [&mut running, beta.agent.as_mut().unwrap()] {
        assert_eq!(agent.ended().await.unwrap().code(), Some(78), "{}", agent.log());
    }
    let refused = federation.ops(&["instance", "release", "beta"]).await.unwrap_err().to_string();
    assert!(refused.contains("--replace"), "{refused}");
    let token = federation.token("beta", &["--replace"]).await.unwrap();
    replace(&mut beta, &token).await;
    federation.in_sync("beta").await.unwrap();
}

async fn replace(instance: &mut Instance, token: &str) {
    instance.command(&["enrol", "--replace", "--token-file", "-"], Some(token)).await.unwrap();
    instance.run().await.unwrap();
}

/// N3: thirty days asleep, with certificates of a day. The recovery key brings it back without ops.
#[tokio::test]
async fn an_agent_that_slept_for_thirty_days_comes_back_by_its_recovery_key() {
    let mut federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    let before = shown(&federation, "beta").await;
    beta.agent.take().unwrap().stop().await.unwrap();
    federation.broker.take().unwrap().stop().await.unwrap();
    federation.serve_off_by("+30 days").await.unwrap();
    beta.run_off_by("+30 days").await.unwrap();
    let after = federation.in_sync("beta").await.unwrap();
    assert_eq!(after["client_id"], before["client_id"]);
    assert!(after["certificate_generation"].as_u64() > before["certificate_generation"].as_u64(), "{after}");
}

/// N3: where the policy says never, it needs ops.
#[tokio::test]
async fn an_agent_that_may_not_recover_says_what_to_do() {
    let mut federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    federation.ops(&["instance", "policy", "beta", "--recovery", "off"]).await.unwrap();
    beta.agent.take().unwrap().stop().await.unwrap();
    federation.broker.take().unwrap().stop().await.unwrap();
    federation.serve_off_by("+30 days").await.unwrap();
    beta.run_off_by("+30 days").await.unwrap();
    let agent = beta.agent.as_mut().unwrap();
    assert_eq!(agent.ended().await.unwrap().code(), Some(78));
    assert!(agent.log().contains("--replace"), "{}", agent.log());
}
