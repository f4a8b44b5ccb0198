//! The whole of applying, against a small application: it shows the client id of the file that its last reload read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use homeward_proto::v1::{GetProbeResponse, ProbeOutcome, Resource};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::raw::RawConfig;
use crate::resources::standing::State as StandingState;
use crate::resources::wanted::Wanted;
use crate::test_authority::TestAuthority;
use crate::test_broker::TestBroker;

/// A relying party on loopback, with its agent's files.
struct Instance {
    folder: tempfile::TempDir,
    broker: TestBroker,
    applier: Applier,
    site: Option<JoinHandle<()>>,
}

/// What the site does with its files.
#[derive(Clone)]
struct Site {
    credentials: PathBuf,
    /// The reload command writes here; the site then reads its credentials.
    reloaded: PathBuf,
    seen: Arc<Mutex<(String, Value)>>,
}

async fn config(State(site): State<Site>) -> Json<Value> {
    let reload = std::fs::read_to_string(&site.reloaded).unwrap_or_default();
    let mut seen = site.seen.lock().unwrap();
    if seen.0 != reload {
        let text = std::fs::read_to_string(&site.credentials).unwrap_or_else(|_| "{}".to_owned());
        *seen = (reload, serde_json::from_str(&text).unwrap());
    }
    let apps = seen.1.pointer("/openid_connect/APPS").cloned().unwrap_or_else(|| json!([]));
    Json(json!({"data": {"socialaccount": {"providers": apps}}}))
}

impl Instance {
    /// `reload` is a shell line for brevity; `$R` is the file that makes the site read its credentials.
    async fn start(reload: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let site = Site {
            credentials: path("credentials/current/homeward_allauth.json"),
            reloaded: path("reloaded"),
            seen: Arc::default(),
        };
        let routes = Router::new().route("/_allauth/browser/v1/config", get(config)).with_state(site);
        let site = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let line = reload.replace("$R", path("reloaded").to_str().unwrap());
        let text = format!(
            "public_url = 'https://beta.example'\ndata_dir = '{}'\nrecipe = 'django-allauth'\n[app]\nurl = '{url}'\n\
             [relying_party]\ncredentials_dir = '{}'\nreload = ['sh', '-c', {line:?}]",
            path("data").display(),
            path("credentials").display(),
        );
        let config = Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap();
        let data = PrivateDir::open(&config.data_dir).unwrap();
        let application = Application::new(config.app_url.clone(), &config.public_url).unwrap();
        let broker = TestBroker::default();
        let authority = TestAuthority::new(crate::clock::now());
        let (url, _) = broker.serve(&authority).await;
        let connection = Broker::new(Arc::new(authority.enrol(&path("identity"), url))).unwrap();
        let standing = Arc::new(Standing::open(data.clone()).unwrap());
        let mut applier = Applier::open(&config, data, standing, application, connection).unwrap();
        applier.role.as_mut().unwrap().patience = Duration::from_secs(5);
        Self { folder, broker, applier, site: Some(site) }
    }

    fn client_id_on_disk(&self) -> Option<String> {
        let file = self.folder.path().join("credentials/current/homeward_allauth.json");
        let content: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).unwrap();
        content.pointer("/openid_connect/APPS/0/client_id")?.as_str().map(str::to_owned)
    }

    fn secret_version(&self) -> u64 {
        self.applier.standing.applied().secret_version
    }

    /// What the broker sees of each probe from now on.
    fn presents(&self, outcomes: &[(ProbeOutcome, u64)]) {
        let answer = |&(outcome, secret_version): &(ProbeOutcome, u64)| GetProbeResponse {
            outcome: outcome.into(),
            secret_version,
        };
        *self.broker.probes.lock().unwrap() = outcomes.iter().map(answer).collect();
    }

    fn reloads(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("reloaded")).unwrap_or_default().len()
    }

    async fn stop_site(&mut self) {
        let site = self.site.take().unwrap();
        site.abort();
        let _ = site.await;
    }
}

fn wanted(secret_version: u64, client_id: &str) -> Versioned<ClientCredentials> {
    let content = ClientCredentials {
        private_key: false,
        issuer: "https://login.example".to_owned(),
        client_id: client_id.to_owned(),
        client_secret: "canary-secret".to_owned(),
        secret_version,
    };
    Versioned { version: 1000 + secret_version, content }
}

#[tokio::test]
async fn a_revision_counts_when_the_application_uses_it() {
    let beta = Instance::start("printf x >> $R").await;
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    assert_eq!((beta.secret_version(), beta.client_id_on_disk().as_deref(), beta.reloads()), (1, Some("beta"), 1));
    // The same again under another version: nothing is written and nothing reloaded.
    let again = Versioned { version: 7, ..wanted(1, "beta") };
    beta.applier.apply(&again).await.unwrap();
    assert_eq!(beta.applier.standing.applied().versions.of(Resource::ClientCredentials), Some(7));
    assert_eq!(beta.reloads(), 1);
    beta.applier.apply(&wanted(3, "beta-two")).await.unwrap();
    assert_eq!((beta.client_id_on_disk().as_deref(), beta.reloads()), (Some("beta-two"), 2));
    let applied = std::fs::read_to_string(beta.folder.path().join("data/applied.json")).unwrap();
    assert!(!applied.contains("canary"), "the secret is in the application's files only");
}

#[tokio::test]
async fn an_application_that_is_down_is_left_alone() {
    let mut beta = Instance::start("printf x >> $R").await;
    beta.stop_site().await;
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), beta.client_id_on_disk(), beta.reloads()), ("APPLICATION_DOWN", None, 0));
}

#[tokio::test]
async fn a_failed_reload_puts_the_old_files_back() {
    let beta = Instance::start("printf x >> $R; test $(wc -c < $R) -ne 2").await;
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    let error = beta.applier.apply(&wanted(2, "beta-two")).await.unwrap_err();
    assert_eq!((error.reason(), beta.secret_version()), ("RELOAD_FAILED", 1));
    assert_eq!(
        (beta.client_id_on_disk().as_deref(), beta.reloads()),
        (Some("beta"), 3),
        "reloaded once more, with the old"
    );
    assert!(!error.to_string().contains("canary"));
}

#[tokio::test]
async fn a_reload_that_changes_nothing_is_noticed_and_rolled_back() {
    let mut beta = Instance::start("true").await;
    beta.applier.role.as_mut().unwrap().patience = Duration::from_millis(600);
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), beta.secret_version(), beta.client_id_on_disk()), ("PROOF_FAILED", 0, None));
}

#[tokio::test]
async fn files_that_cannot_be_written_change_nothing() {
    let beta = Instance::start("printf x >> $R").await;
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    let link = beta.folder.path().join("credentials/.current.next/in the way");
    std::fs::create_dir_all(link).unwrap();
    let error = beta.applier.apply(&wanted(2, "beta-two")).await.unwrap_err();
    assert_eq!(
        (error.reason(), beta.client_id_on_disk().as_deref(), beta.reloads()),
        ("WRITE_FAILED", Some("beta"), 1)
    );
}

#[tokio::test]
async fn what_failed_is_tried_again_until_it_works() {
    let mut beta = Instance::start("printf x >> $R").await;
    let role = beta.applier.role.as_ref().unwrap();
    let url: std::net::SocketAddr = role.application.url().as_str()[7..].trim_end_matches('/').parse().unwrap();
    beta.stop_site().await;
    let (sender, wanted_now) = tokio::sync::watch::channel(Wanted::default());
    let mut standing = beta.applier.standing.watch();
    let folder = beta.folder;
    let working = tokio::spawn(worker::run(beta.applier, wanted_now));
    sender.send_modify(|now| now.credentials = Some(wanted(1, "beta")));
    let down = |state: &StandingState| state.refusals.values().any(|refusal| refusal.reason == "APPLICATION_DOWN");
    standing.wait_for(down).await.unwrap();
    // The application comes back, and nobody has to say so.
    let site = Site {
        credentials: folder.path().join("credentials/current/homeward_allauth.json"),
        reloaded: folder.path().join("reloaded"),
        seen: Arc::default(),
    };
    let routes = Router::new().route("/_allauth/browser/v1/config", get(config)).with_state(site);
    let listener = TcpListener::bind(url).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let in_effect = |state: &StandingState| state.applied.proved && state.refusals.is_empty();
    standing.wait_for(in_effect).await.unwrap();
    drop(sender);
    working.await.unwrap();
}
