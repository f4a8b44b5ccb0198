//! One trace follows a login through broker, browser, agent and back, as a collector of OpenTelemetry sees it.

#![expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opentelemetry_proto::tonic::trace::v1::Span;
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
    // A stranger names the trace of somebody else's login: his own is begun, and that one stays as it is.
    let parent = format!("00-{transaction}-00f067aa0ba902b7-01");
    let stranger = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let begun = stranger.get(town.client().authorize(&[])).header("traceparent", &parent).send();
    assert!(begun.await.unwrap().status().is_redirection());
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
            ("homeward-broker", "login"),
            ("homeward-broker", "the application redeems the code"),
            ("homeward-broker", "the broker decides"),
            ("homeward-broker", "the home completes the ticket"),
            ("homeward-broker", "the home opens the ticket"),
        ]
        .into(),
        "{all:?}"
    );
    // The whole, which all others but one are within; nobody's parent is missing.
    let whole = login.iter().find(|(_, span)| span.name == "login").map(|(_, span)| span).unwrap();
    assert_eq!((hex(&whole.span_id), whole.parent_span_id.len()), (transaction[..16].to_owned(), 0), "{whole:?}");
    assert!(format!("{:?}", whole.attributes).contains("\"done\""), "{whole:?}");
    let begins = |span: &Span| span.start_time_unix_nano / 1_000_000;
    for (_, span) in &login {
        let redeemed = span.name == "the application redeems the code";
        assert!(begins(whole) <= begins(span), "{span:?} {whole:?}");
        assert_eq!(whole.end_time_unix_nano <= span.start_time_unix_nano, redeemed, "{span:?} {whole:?}");
    }
    // What the agent asked the broker for is within its own step; all others are steps of the login itself.
    let by_id: BTreeMap<_, _> = login.iter().map(|(program, span)| (span.span_id.clone(), program.as_str())).collect();
    for (_, span) in &login {
        match span.name.as_str() {
            "the home completes the ticket" => {
                assert_eq!(by_id.get(&span.parent_span_id), Some(&"homeward-agent"), "{span:?}");
            }
            "login" => {}
            _ => assert_eq!(hex(&span.parent_span_id), transaction[..16], "{span:?}"),
        }
    }
    let of_stranger: BTreeSet<_> = all.iter().map(|(_, span)| hex(&span.trace_id)).collect();
    assert_eq!(of_stranger.len(), 2, "nothing but logins is told: {all:?}");
    assert!(all.iter().all(|(_, span)| hex(&span.parent_span_id) != "00f067aa0ba902b7"), "{all:?}");
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

/// A collector behind TLS is told by whoever believes its CA, and learns nothing of whoever does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_is_believed_by_its_ca() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, ca) = Collector::behind_tls(folder.path()).await.unwrap();
    let at = collector.address();
    for (settings, told) in [
        (format!("[telemetry]\notlp = \"{at}\"\notlp_ca_file = \"{}\"\n", ca.display()), true),
        (format!("[telemetry]\notlp = \"{at}\"\n"), false),
    ] {
        let before = collector.spans().len();
        let mut federation = Federation::with_settings(&settings).await.unwrap();
        let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
        let beta = federation.instance("beta", party).await.unwrap();
        Browser::new().open(&beta.site.at("/sign-in-with-homeward")).await.unwrap();
        federation.stop_broker().await.unwrap();
        assert_eq!(collector.spans().len() > before, told, "{settings}");
        let log = std::fs::read_to_string(&federation.log).unwrap();
        // The last try may take as long as the end waits for it.
        let lost = ["takes no traces", "trusts no CA", "did not reach the collector"];
        assert_eq!(lost.iter().any(|said| log.contains(said)), !told, "{log}");
    }
}

/// A collector that takes the connection and never answers: nobody waits for it, and one line of the log says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_holds_nobody_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let town = crate::town::town_with(&["session"], &format!("[telemetry]\notlp = \"http://{at}\"\n")).await;
    let began = tokio::time::Instant::now();
    assert_eq!(user(&town.sign_in(&mut Browser::new()).await)["name"], "Alice Archer");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    let mut federation = town.federation;
    let began = tokio::time::Instant::now();
    federation.stop_broker().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    let log = std::fs::read_to_string(&federation.log).unwrap();
    assert!(log.matches("takes no traces").count() <= 1 && !log.contains("BatchSpanProcessor"), "{log}");
}
