//! What those see who watch: metrics of the real programs, held against documents, dashboard and alerts; and alerts that fire
//! when something really breaks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use world::federation::Instance;
use world::process::Running;
use world::prometheus::promtool;
use world::{Browser, Federation, InstanceOptions};

use crate::town::{ALICE, town_with, user};

/// Nobody but Prometheus comes there.
pub(crate) const METRICS: &str = "[telemetry]\nmetrics = \"127.0.0.1:0\"\n";

/// What only a broker tells that speaks TLS itself, as those of acme.rs do.
const OF_TLS: [&str; 3] = [
    "homeward_acme_failed_tries",
    "homeward_public_certificate_expiry_timestamp_seconds",
    "homeward_public_certificate_issued_timestamp_seconds",
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

fn watched_at(program: &Running) -> String {
    program.announcement["metrics"].as_str().unwrap().to_owned()
}

pub(crate) async fn metrics(program: &Running) -> String {
    let answer = reqwest::get(format!("http://{}/metrics", watched_at(program))).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// Of all lines `# TYPE name kind`.
fn names(metrics: &str) -> BTreeSet<String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

/// Names of metrics in queries, and of what a histogram consists of the histogram's.
fn named(queries: &str) -> BTreeSet<String> {
    let words = queries.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("homeward_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

/// Of the tables in docs/telemetry.md.
fn documented() -> BTreeSet<String> {
    let text = text("docs/telemetry.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let first = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()));
    first.filter(|name| !name.starts_with('/')).collect()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/homeward.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

fn queries_of_dashboard() -> Vec<String> {
    let targets = panels().into_iter().filter_map(|panel| panel["targets"].as_array().cloned()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "20s")).collect()
}

fn queries_of_alerts() -> Vec<String> {
    let lines = text("deploy/prometheus/alerts.yml");
    let queries = lines.lines().filter_map(|line| line.trim().strip_prefix("expr: '")?.strip_suffix('\''));
    queries.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_measured_is_what_documents_dashboard_and_alerts_name() {
    let town = town_with(&["session"], METRICS).await;
    assert_eq!(user(&town.sign_in(&mut Browser::new()).await)["name"], "Alice Archer");
    let broker = metrics(town.federation.broker.as_ref().unwrap()).await;
    let home = metrics(town.alpha.agent.as_ref().unwrap()).await;
    for said in [&broker, &home] {
        promtool(&["check", "metrics"], Some(said)).await.unwrap();
        for secret in ["alice", "Archer", "hwj1.", "wonderland"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    for told in [
        "homeward_ready 1\n",
        "homeward_instance_online{name=\"alpha\"} 1\n",
        "homeward_instance_home_ready{name=\"alpha\"} 1\n",
        "homeward_instances{state=\"active\"} 2\n",
        "homeward_logins_total{relying_party=\"beta\",outcome=\"done\"} 1\n",
        "homeward_home_answers_total{home=\"alpha\",outcome=\"done\"} 1\n",
        "homeward_audit_events_total{event=\"token_replayed\",outcome=\"refused\",reason=\"invalid_grant\"} 0\n",
        "homeward_audit_events_total{event=\"clone_alarm\",outcome=\"done\",reason=\"\"} 0\n",
        "homeward_audit_events_total{event=\"tokens_issued\",outcome=\"done\",reason=\"\"} 1\n",
        "homeward_http_requests_total{method=\"POST\",route=\"/token\",status=\"200\"} 1\n",
        "homeward_grpc_requests_total{code=\"Ok\",method=\"homeward.v1.LoginService/CompleteTicket\"} 1\n",
        "homeward_signing_keys{algorithm=\"ES256\",state=\"active\"} 1\n",
        "homeward_store_errors_total{operation=\"commit\",reason=\"unavailable\"} 0\n",
    ] {
        assert!(broker.contains(told), "{told} {broker}");
    }
    for told in [
        "homeward_agent_connected 1\n",
        "homeward_agent_identity_good 1\n",
        "homeward_agent_home_ready 1\n",
        "homeward_agent_home_logins_total{outcome=\"identity\"} 1\n",
    ] {
        assert!(home.contains(told), "{told} {home}");
    }
    assert_eq!(
        reqwest::get(format!("http://{}/readyz", watched_at(town.alpha.agent.as_ref().unwrap())))
            .await
            .unwrap()
            .status(),
        200
    );

    let told = names(&broker).union(&names(&home)).cloned().collect::<BTreeSet<_>>();
    let measured: BTreeSet<String> = told.into_iter().chain(OF_TLS.map(str::to_owned)).collect();
    assert_eq!(documented(), measured, "docs/telemetry.md");
    for queries in [queries_of_dashboard(), queries_of_alerts()] {
        assert!(queries.len() > 20);
        let unknown: Vec<_> = named(&queries.join(" ")).difference(&measured).cloned().collect();
        assert_eq!(unknown, [""; 0], "there are no such metrics");
    }

    // An instance that is gone is told no more, nor is any name that a stranger tries.
    town.federation.ops(&["instance", "evict", "alpha", "--yes"]).await.unwrap();
    let issuer = town.federation.issuer().unwrap();
    reqwest::get(format!("{issuer}/made-up/by-a-stranger")).await.unwrap();
    let broker = metrics(town.federation.broker.as_ref().unwrap()).await;
    assert!(!broker.contains("\"alpha\"") && broker.contains("\"beta\""), "{broker}");
    assert!(!broker.contains("made-up") && broker.contains("route=\"none\",status=\"404\""), "{broker}");
}

/// A metric that nobody looks at tells nobody anything.
#[test]
fn every_metric_is_in_a_panel() {
    let shown = named(&queries_of_dashboard().join(" "));
    let unseen: Vec<_> = documented().difference(&shown).cloned().collect();
    assert_eq!(unseen, [""; 0], "deploy/grafana/homeward.json shows no such metrics");
}

/// What Grafana would draw over something else, leave out, or not take.
#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let (panels, mut ids, mut taken) = (panels(), BTreeSet::new(), BTreeSet::new());
    for panel in &panels {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: another panel has its id");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} stands beside the page");
        let fields = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        fields.for_each(|field| assert!(taken.insert(field), "{title} lies on another panel"));
        let kind = panel["type"].as_str().unwrap();
        assert!(["row", "stat", "table", "timeseries"].contains(&kind), "{title}: {kind}");
        if kind == "row" {
            continue;
        }
        let (targets, mut names) = (panel["targets"].as_array().unwrap(), BTreeSet::new());
        assert!(!targets.is_empty() && !panel["fieldConfig"]["defaults"]["unit"].is_null(), "{title}");
        for target in targets {
            assert!(names.insert(target["refId"].as_str().unwrap()), "{title}: two queries have one name");
            assert_eq!(target["datasource"], panel["datasource"], "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}: whose Prometheus is that?");
        }
    }
    assert!(panels.len() > 40);
}

#[tokio::test]
async fn each_alert_is_proved_and_says_what_to_do() {
    let folder = repository("deploy/prometheus");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    promtool(&["check", "rules", &file("alerts.yml")], None).await.unwrap();
    promtool(&["check", "config", &file("scrape.yml")], None).await.unwrap();
    promtool(&["test", "rules", &file("alerts.test.yml")], None).await.unwrap();
    let (rules, tests) = (text("deploy/prometheus/alerts.yml"), text("deploy/prometheus/alerts.test.yml"));
    let help = text("docs/troubleshooting.md");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), queries_of_alerts().len());
    for alert in alerts {
        assert!(tests.contains(&format!("  - name: {alert}\n")), "{alert} has no test");
        assert!(
            help.contains(&format!("\n### {alert}\n")),
            "docs/troubleshooting.md does not say what to do about {alert}"
        );
        assert!(rules.contains(&format!("docs/troubleshooting.md#{}\n", alert.to_lowercase())), "{alert}");
    }
}

/// Agents die, a certificate nears its end, the store goes, the broker dies: each is seen by a Prometheus that watches the
/// real programs with the rules of deploy/, where only the time is left out for which something must last.
#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_fire_when_things_break() {
    let etcd = world::Etcd::one().await.unwrap();
    let settings = format!("{METRICS}[lifetimes]\ninstance_certificate = 30\n");
    let world = world::World::new().unwrap();
    let mut federation = Federation::founded_on(world, &etcd.address("homeward"), &settings).await.unwrap();
    federation.serve().await.unwrap();
    let mut town = crate::town::settled(federation, &["session"]).await;
    let broker = town.federation.broker.as_ref().unwrap();
    let agents = [&town.alpha, &town.beta].map(|site: &Instance| watched_at(site.agent.as_ref().unwrap()));
    let [alpha, beta] = agents.map(|at| ("homeward-agent", at));
    let rules = text("deploy/prometheus/alerts.yml");
    let at_once: String = rules
        .lines()
        .map(|line| if line.trim().starts_with("for: ") { "        for: 0s\n".to_owned() } else { format!("{line}\n") })
        .collect();
    let targets = [("homeward-broker", watched_at(broker)), alpha, beta];
    let prometheus = world::Prometheus::watching(&targets, &at_once).await.unwrap();
    town.sign_in(&mut Browser::new()).await;
    let seen = async {
        while prometheus.series("homeward_logins_total + on() group_left() sum(up) == 4").await.unwrap() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), seen).await.unwrap();
    let before = prometheus.firing().await.unwrap();
    let broken = ["HomewardInstanceOffline", "HomewardAgentDown", "HomewardBrokerNotReady", "HomewardBrokerDown"];
    assert!(broken.iter().all(|alert| !before.contains(*alert)), "{before:?}");
    let mut shown = 0;
    for query in queries_of_dashboard() {
        shown += usize::from(prometheus.series(&query).await.unwrap() > 0);
    }
    assert!(shown > 25, "the dashboard is empty: {shown}");

    let (client, mut browser) = (town.client(), Browser::new());
    town.sign_in(&mut browser).await;
    for _ in 0..7 {
        let answer = client.answer(&mut browser, &client.authorize(&[])).await;
        assert_eq!(client.redeem(&answer["code"]).await.0, 200);
        assert_eq!(client.redeem(&answer["code"]).await.0, 400);
    }
    prometheus.fires(&["HomewardTokensReplayed"]).await.unwrap();

    town.alpha.agent.take().unwrap().kill().await.unwrap();
    let alone = ["HomewardInstanceOffline", "HomewardAgentDown", "HomewardManyInstancesOffline"];
    prometheus.fires(&alone).await.unwrap();
    prometheus.fires(&["HomewardInstanceCertificateEnds"]).await.unwrap();
    etcd.kill(0).unwrap();
    prometheus.fires(&["HomewardBrokerNotReady"]).await.unwrap();
    town.federation.kill_broker().await.unwrap();
    prometheus.fires(&["HomewardBrokerDown", "HomewardAgentDisconnected"]).await.unwrap();
}

/// A log for programs: each line is one object, and says what it says to people.
#[tokio::test]
async fn a_log_for_programs_is_one_object_a_line() {
    let federation = Federation::with_settings("[telemetry]\nlog = \"json\"\n").await.unwrap();
    let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] };
    federation.instance("alpha", home).await.unwrap();
    let log = std::fs::read_to_string(&federation.log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let running = lines.iter().find(|line| line["message"] == "the broker is running").unwrap();
    assert_eq!((running["level"].as_str(), running["trust_domain"].as_str()), (Some("INFO"), Some("test.example")));
    assert!(running["timestamp"].as_str().unwrap().ends_with('Z'));
}
