//! One trace follows a login through broker, browser, agent and back, as a collector of OpenTelemetry sees it.

#![expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use world::federation::Instance;
use world::{Browser, Collector, Federation, InstanceOptions};

use crate::town::{ALICE, PASSWORD, Town, user};

/// The agent sends its traces to the collector, too.
async fn instance(federation: &Federation, name: &str, options: InstanceOptions, collector: &Collector) -> Instance {
    let mut instance = federation.prepare(name, options).await.unwrap();
    let config = instance.folder.join("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}otlp = \"{}\"\n", collector.address())).unwrap();
    instance.enrol(&federation.token(name, &[]).await.unwrap()).await.unwrap();
    instance.run().await.unwrap();
    federation.in_sync(name).await.unwrap();
    instance
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_follows_a_login_through_broker_browser_and_agent() {
    let collector = Collector::start().await.unwrap();
    let settings = format!("[telemetry]\notlp = \"{}\"\n", collector.address());
    let federation = Federation::with_settings(&settings).await.unwrap();
    let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] };
    let alpha = instance(&federation, "alpha", home, &collector).await;
    let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let beta = instance(&federation, "beta", party, &collector).await;
    federation.allow("beta", "alpha", &["alpha.example"]).await.unwrap();
    federation.in_sync("beta").await.unwrap();
    let mut town = Town { federation, alpha, beta };
    let mut browser = Browser::new();
    assert_eq!(user(&town.sign_in(&mut browser).await)["name"], "Alice Archer");

    let decided = town.federation.ops_json(&["audit", "list", "--kind", "login_decided"]).await.unwrap();
    let transaction = decided[0]["transaction"].as_str().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let transaction = hex(&URL_SAFE_NO_PAD.decode(transaction).unwrap());
    // What is left is told when they stop.
    town.alpha.agent.take().unwrap().stop().await.unwrap();
    town.federation.stop_broker().await.unwrap();

    let all = collector.spans();
    let login: Vec<_> = all.iter().filter(|(_, span)| hex(&span.trace_id) == transaction).collect();
    let steps: BTreeSet<(&str, &str)> =
        login.iter().map(|(program, span)| (program.as_str(), span.name.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("homeward-agent", "the portal recognises the user"),
            ("homeward-broker", "back from the home"),
            ("homeward-broker", "the broker decides"),
            ("homeward-broker", "the home completes the ticket"),
            ("homeward-broker", "the home opens the ticket"),
        ]
        .into(),
        "{all:?}"
    );
    assert_eq!(all.len(), login.len(), "nothing but logins is told: {all:?}");
    // What the agent asked the broker for is within its own step; all others are steps of the login itself.
    let by_id: BTreeMap<_, _> = login.iter().map(|(program, span)| (span.span_id.clone(), program.as_str())).collect();
    for (_, span) in &login {
        match span.name.as_str() {
            "the home completes the ticket" => {
                assert_eq!(by_id.get(&span.parent_span_id), Some(&"homeward-agent"), "{span:?}");
            }
            _ => assert_eq!(hex(&span.parent_span_id), transaction[..16], "{span:?}"),
        }
    }
    let told = format!("{all:?}");
    for secret in [PASSWORD, "alice", "Archer", "hwj1.", "127.0.0.1", "localhost", "the-state"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    for cookie in browser.cookies_of("localhost") {
        let value: Value = cookie.split_once('=').map_or(cookie.as_str(), |(_, value)| value).into();
        assert!(!told.contains(value.as_str().unwrap()), "{cookie}");
    }
}

/// A login does not wait for a collector that is away, and a program not for long when it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_nobody_up() {
    let town = crate::town::town_with(&["session"], "[telemetry]\notlp = \"http://127.0.0.1:9\"\n").await;
    let began = tokio::time::Instant::now();
    assert_eq!(user(&town.sign_in(&mut Browser::new()).await)["name"], "Alice Archer");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    let mut federation = town.federation;
    // What is left is told for five seconds, and then it is lost.
    let began = tokio::time::Instant::now();
    federation.stop_broker().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}
