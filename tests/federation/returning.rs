//! Agents that come back to a broker that has changed, and applications that have a key instead of a secret. The ids in
//! comments are the numbered steps of the enrolment notes.

use std::time::{Duration, SystemTime};

use homeward_certs::authority::CertificateAuthority;
use serde_json::{Value, json};
use world::federation::Instance;
use world::{Federation, InstanceOptions};

/// Nobody who is away is waited for long.
const SETTINGS: &str = "[rotation]\nkey_set_max_age = 1\nacknowledge_within = 10\ngrace_for_absent = 1\n";

fn relying_party() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

/// Waits until a rotation is in this phase.
async fn reaches(federation: &Federation, subject: &str, phase: &str) {
    let mut seen = Value::Null;
    for _ in 0..600 {
        seen = federation.ops_json(&["rotation", "status", subject]).await.unwrap()[0].clone();
        if seen["phase"] == phase {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{subject} does not reach {phase}: {seen}")
}

async fn stop(instance: &mut Instance) {
    instance.agent.take().unwrap().stop().await.unwrap();
}

/// What the agent trusts, as it is on disk.
#[expect(clippy::disallowed_methods, reason = "nobody else reads the file, and nothing is lost with it")]
fn change_bundle(instance: &Instance, bundle: &Value) {
    let file = instance.folder.join("agent/identity.json");
    let mut identity: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    identity["bundle"] = bundle.clone();
    std::fs::write(&file, identity.to_string()).unwrap();
}

/// N4: the CA has turned while the agent was away. Signed statements lead it to the new one, and the recovery key to a
/// certificate of it.
#[tokio::test]
async fn an_agent_that_slept_through_a_turn_of_the_ca_finds_its_broker_again() {
    // The rotation waits for certificates that have not expired, whoever is away.
    let settings = format!("{SETTINGS}[lifetimes]\ninstance_certificate = 15\n");
    let federation = Federation::with_settings(&settings).await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    stop(&mut beta).await;
    federation.ops(&["ca", "rotate"]).await.unwrap();
    reaches(&federation, "ca", "done").await;
    beta.run().await.unwrap();
    let shown = federation.in_sync("beta").await.unwrap();
    assert!(shown["trust_bundle_version"].as_u64() > Some(1), "{shown}");
    let log = beta.agent.as_ref().unwrap().log();
    assert!(log.contains("signed statements lead to it"), "{log}");
    let status = beta.command(&["status", "--output", "json"], None).await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["connected"], &status["dismissed"]), (&json!(true), &Value::Null), "{status}");
}

/// N4: where no statement leads, nothing is trusted but what the operator says.
#[tokio::test]
async fn an_agent_whose_chain_is_cut_is_told_whom_to_trust_by_its_operator() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    stop(&mut beta).await;
    let day = Duration::from_secs(86_400);
    let stranger =
        CertificateAuthority::generate("test.example".parse().unwrap(), SystemTime::UNIX_EPOCH, 36_500 * day);
    change_bundle(&beta, &json!({"version": 7, "certificates": [stranger.unwrap().certificate()]}));
    beta.run().await.unwrap();
    let told = async {
        while !beta.agent.as_ref().unwrap().log().contains("homeward-agent rebootstrap --pin sha256/") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("the log says what to do");
    stop(&mut beta).await;
    let wrong = format!("sha256/{}=", "A".repeat(43));
    let refused = beta.command(&["rebootstrap", "--pin", &wrong], None).await.unwrap_err().to_string();
    assert!(refused.contains("not the broker that this agent was told to trust"), "{refused}");
    let shown = federation.ops_json(&["ca", "show"]).await.unwrap();
    let pin = shown["certificates"][0]["pin"].as_str().unwrap();
    beta.command(&["rebootstrap", "--pin", pin], None).await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
}

/// B1: cut off, the agent ends and says so to whoever asks; the application keeps its files. Released, it goes on.
#[tokio::test]
async fn an_agent_that_was_sent_away_is_dead_until_ops_release_it() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    beta.command(&["status"], None).await.unwrap();
    federation.ops(&["instance", "quarantine", "beta", "--reason", "a drill"]).await.unwrap();
    let agent = beta.agent.as_mut().unwrap();
    assert_eq!(agent.ended().await.unwrap().code(), Some(78), "{}", agent.log());
    let dead = beta.command(&["status"], None).await.unwrap_err().to_string();
    assert!(dead.contains("has sent this agent away") && dead.contains("quarantine"), "{dead}");
    assert!(beta.folder.join("credentials/current/homeward.json").is_file());
    federation.ops(&["instance", "release", "beta"]).await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
    // The broker knows of it a moment before the agent has noted it.
    let noted = async {
        while beta.command(&["status"], None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap();
}

/// A site without a secret: its agent makes the key, and another one when ops turn the credential.
#[tokio::test]
async fn an_application_with_a_key_logs_in_and_its_key_turns() {
    let federation = Federation::with_settings(SETTINGS).await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    beta.use_private_key().unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    beta.enrol(&token).await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
    let written = || std::fs::read_to_string(beta.folder.join("credentials/current/homeward.json")).unwrap();
    let before = written();
    assert!(before.contains("BEGIN PRIVATE KEY") && !before.contains("client_secret"));
    federation.ops(&["secret", "rotate", "--instance", "beta"]).await.unwrap();
    reaches(&federation, "secret/beta", "done").await;
    assert_ne!(written(), before);
    federation.in_sync("beta").await.unwrap();
    let log = beta.agent.as_ref().unwrap().log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("acknowledged without a probe"), "{log}");
}
