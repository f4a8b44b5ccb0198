//! Rotations with real programs: keys, secrets and the CA turn under logins that go on, and everything is killed in the
//! middle of it. The ids in comments are the numbered steps of the enrolment notes.

use std::time::Duration;

use serde_json::Value;
use world::applicant::Applicant;
use world::{Browser, Federation, InstanceOptions};

use crate::town::{Town, town_with, user};

/// Short enough for a test, long enough for two agents on a busy machine.
const SETTINGS: &str = "[rotation]\nkey_set_max_age = 1\nacknowledge_within = 30\ngrace_for_absent = 10\n";

const PATIENCE: Duration = Duration::from_secs(150);

impl Town {
    async fn alice_logs_in(&self) {
        let page = self.sign_in(&mut Browser::new()).await;
        assert_eq!(user(&page)["preferred_username"], "alice@alpha", "{}", page.body);
    }
}

async fn status(federation: &Federation, subject: &str) -> Value {
    let all = federation.ops_json(&["rotation", "status", subject]).await.unwrap();
    all[0].clone()
}

/// Waits until a rotation is in one of these phases, and says which.
async fn reaches(federation: &Federation, subject: &str, phases: &[&str]) -> String {
    let wait = async {
        loop {
            let phase = status(federation, subject).await["phase"].as_str().unwrap_or_default().to_owned();
            if phases.contains(&phase.as_str()) {
                return phase;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(phase) => phase,
        Err(_) => panic!("{subject} does not reach {phases:?}: {}", status(federation, subject).await),
    }
}

async fn keys(federation: &Federation, algorithm: &str) -> Vec<(String, String)> {
    let all = federation.ops_json(&["keys", "list"]).await.unwrap();
    let of = all.as_array().unwrap().iter().filter(|key| key["algorithm"] == algorithm);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of.map(|key| (text(&key["key_id"]), text(&key["state"]))).collect()
}

async fn published(federation: &Federation) -> Vec<String> {
    let jwks = Browser::new().get(&format!("{}/jwks", federation.issuer().unwrap())).await.unwrap();
    let jwks: Value = serde_json::from_str(&jwks.body).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// K: published, acknowledged, then used; the old one stays for its tokens; logins never stop.
#[tokio::test]
async fn a_signing_key_turns_when_the_relying_party_has_proved_that_it_can_verify_with_it() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    let old = keys(federation, "ES256").await[0].0.clone();
    federation.ops(&["keys", "rotate", "--algorithm", "ES256"]).await.unwrap();
    let pending = keys(federation, "ES256").await;
    assert_eq!(pending.iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), ["active", "pending"]);
    assert!(published(federation).await.contains(&pending[1].0), "a pending key is published at once");
    town.alice_logs_in().await;
    reaches(federation, "keys/ES256", &["active"]).await;
    assert_eq!(
        keys(federation, "ES256").await,
        [(pending[1].0.clone(), "active".into()), (old.clone(), "retired".into())]
    );
    assert_eq!(published(federation).await[1], pending[1].0, "the keys that sign are the first");
    assert!(published(federation).await.contains(&old));
    town.alice_logs_in().await;
    let shown = federation.ops_json(&["instance", "show", "beta"]).await.unwrap();
    assert!(shown["acknowledged_key_ids"].to_string().contains(&pending[1].0), "{shown}");
}

#[tokio::test]
async fn a_compromised_key_is_replaced_at_once_and_logins_go_on() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    let old = keys(federation, "ES256").await[0].0.clone();
    let said = federation.ops(&["keys", "rotate", "--algorithm", "ES256", "--compromised"]).await.unwrap();
    assert!(said.contains("accepted no longer") && said.contains("beta"), "{said}");
    assert!(!published(federation).await.contains(&old));
    town.alice_logs_in().await;
}

/// K: two valid, written, reloaded, proved by the application's own token request; then the old one is refused.
#[tokio::test]
async fn a_client_secret_turns_on_the_applications_own_proof() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    let secret = || std::fs::read_to_string(town.beta.folder.join("credentials/current/homeward.json")).unwrap();
    let before = secret();
    federation.ops(&["secret", "rotate", "--instance", "beta"]).await.unwrap();
    assert_eq!(reaches(federation, "secret/beta", &["done", "rolled back"]).await, "done");
    assert_ne!(secret(), before);
    let shown = status(federation, "secret/beta").await;
    assert!(shown["reason"].as_str().unwrap().contains("presented the new credential"), "{shown}");
    town.alice_logs_in().await;
}

/// An application that takes the new files, reloads, and still presents the old secret: the broker sees it, the new secret
/// is taken back with the reason, and logins never stop.
#[tokio::test]
async fn a_secret_that_the_application_does_not_read_is_taken_back_and_logins_go_on() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    town.beta.site.read_no_secret_again().unwrap();
    federation.ops(&["secret", "rotate", "--instance", "beta"]).await.unwrap();
    town.alice_logs_in().await;
    assert_eq!(reaches(federation, "secret/beta", &["done", "rolled back"]).await, "rolled back");
    let shown = status(federation, "secret/beta").await;
    assert!(shown["reason"].as_str().unwrap().contains("OLD_SECRET_PRESENTED"), "{shown}");
    town.alice_logs_in().await;
}

/// R1, R2: who joins while the CA turns gets both pins with its token, and goes on with everybody else.
#[tokio::test]
async fn an_agent_that_joins_while_the_ca_turns_goes_on_with_the_others() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    let party = || InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let early = federation.token("early", &[]).await.unwrap();
    federation.ops(&["ca", "rotate"]).await.unwrap();
    let middle = federation.token("middle", &[]).await.unwrap();
    assert_eq!(Applicant::new(&middle).unwrap().token.pins.len(), 2, "both pins while the CA turns");
    let mut joined = Vec::new();
    for (name, token) in [("early", early), ("middle", middle)] {
        let mut instance = federation.prepare(name, party()).await.unwrap();
        instance.enrol(&token).await.unwrap();
        instance.run().await.unwrap();
        joined.push(instance);
    }
    reaches(federation, "ca", &["done"]).await;
    for name in ["alpha", "beta", "early", "middle"] {
        let shown = federation.in_sync(name).await.unwrap();
        assert_eq!(shown["state"], "confirmed", "{shown}");
    }
    let late = federation.token("late", &[]).await.unwrap();
    assert_eq!(Applicant::new(&late).unwrap().token.pins.len(), 1);
    town.alice_logs_in().await;
}

/// The broker is killed whenever a rotation has just moved, the agents at odd moments. It all ends well.
#[tokio::test]
async fn rotations_survive_kill_9_of_broker_and_agent_at_each_phase() {
    let mut town = town_with(&["session"], SETTINGS).await;
    for (begin, subject, phases) in [
        (&["keys", "rotate", "--algorithm", "ES256"][..], "keys/ES256", &["published", "active"][..]),
        (&["secret", "rotate", "--instance", "beta"], "secret/beta", &["offered", "done"]),
        (&["ca", "rotate"], "ca", &["prepared", "clients activated", "servers activated", "done"]),
    ] {
        town.federation.ops(begin).await.unwrap();
        for (index, phase) in phases.iter().enumerate() {
            let later = phases.get(index..).unwrap();
            let reached = reaches(&town.federation, subject, later).await;
            if reached != *phase {
                continue;
            }
            town.federation.kill_broker().await.unwrap();
            if index % 2 == 0 {
                town.beta.agent.take().unwrap().kill().await.unwrap();
                town.beta.run().await.unwrap();
            }
            town.federation.serve().await.unwrap();
        }
        reaches(&town.federation, subject, phases.get(phases.len() - 1..).unwrap()).await;
        if let Err(error) = town.federation.in_sync("beta").await {
            panic!("after {subject}: {error}\n{}", town.beta.agent.as_ref().unwrap().log());
        }
        // So many lost streams in a minute make an agent patient; one that starts anew does not wait.
        town.alpha.agent.take().unwrap().kill().await.unwrap();
        town.alpha.run().await.unwrap();
        town.federation.in_sync("alpha").await.unwrap();
        town.alice_logs_in().await;
    }
}

/// RB: taken back after the new CA has signed; everybody ends with a certificate of the old one, and nobody is lost.
#[tokio::test]
async fn a_turn_of_the_ca_can_be_taken_back_until_the_end() {
    let town = town_with(&["session"], SETTINGS).await;
    let federation = &town.federation;
    let before = federation.ops_json(&["ca", "show"]).await.unwrap();
    federation.ops(&["ca", "rotate"]).await.unwrap();
    reaches(federation, "ca", &["clients activated", "servers activated"]).await;
    federation.ops(&["ca", "rollback"]).await.unwrap();
    reaches(federation, "ca", &["rolled back"]).await;
    let after = federation.ops_json(&["ca", "show"]).await.unwrap();
    assert_eq!(after["certificates"][0]["pin"], before["certificates"][0]["pin"]);
    assert_eq!(after["certificates"].as_array().unwrap().len(), 1);
    town.alice_logs_in().await;
}
