//! The whole of applying, against a small application: it shows the client id of the file that its last reload read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
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

mod way_back;

const ISSUER: &str = "https://login.example";

/// A relying party on loopback, with its agent's files.
struct Instance {
    folder: tempfile::TempDir,
    broker: TestBroker,
    applier: Applier,
    seen: Site,
    site: Option<JoinHandle<()>>,
}

/// What the site does with its files.
#[derive(Clone)]
struct Site {
    credentials: PathBuf,
    /// The reload command writes here; the site then reads its credentials.
    reloaded: PathBuf,
    seen: Arc<Mutex<(String, Value)>>,
    /// Where its logins go.
    login_at: Arc<Mutex<String>>,
    /// What came to its callback.
    callbacks: Arc<Mutex<Vec<String>>>,
}

async fn config(State(site): State<Site>) -> Response {
    let reload = std::fs::read_to_string(&site.reloaded).unwrap_or_default();
    let mut seen = site.seen.lock().unwrap();
    if seen.0 != reload {
        let text = std::fs::read_to_string(&site.credentials).unwrap_or_else(|_| "{}".to_owned());
        *seen = (reload, serde_json::from_str(&text).unwrap());
    }
    let apps = seen.1.pointer("/openid_connect/APPS").cloned().unwrap_or_else(|| json!([]));
    let answer = Json(json!({"data": {"socialaccount": {"providers": apps}}}));
    ([(SET_COOKIE, "csrftoken=token; Secure")], answer).into_response()
}

/// Where allauth begins a login: it keeps the state in a session.
async fn begin(State(site): State<Site>, headers: HeaderMap) -> Response {
    let token = headers.get("x-csrftoken").and_then(|token| token.to_str().ok());
    if token != Some("token") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let issuer = site.login_at.lock().unwrap().clone();
    let to = format!("{issuer}/authorize?client_id=beta&state=of-this-login&code_challenge=x");
    ([(SET_COOKIE, "sessionid=s; Secure; HttpOnly")], Redirect::to(&to)).into_response()
}

/// Where it ends. What the site says at the token endpoint, the test's broker decides.
async fn callback(State(site): State<Site>, headers: HeaderMap, RawQuery(query): RawQuery) -> StatusCode {
    let cookies = headers[COOKIE].to_str().unwrap().to_owned();
    site.callbacks.lock().unwrap().push(format!("{} {cookies}", query.unwrap_or_default()));
    StatusCode::UNAUTHORIZED
}

impl Site {
    fn routes(self) -> Router {
        Router::new()
            .route("/_allauth/browser/v1/config", get(config))
            .route("/accounts/oidc/homeward/login/", post(begin))
            .route("/accounts/oidc/homeward/login/callback/", get(callback))
            .with_state(self)
    }
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
            login_at: Arc::new(Mutex::new(ISSUER.to_owned())),
            callbacks: Arc::default(),
        };
        let (routes, seen) = (site.clone().routes(), site.clone());
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
        let authority = TestAuthority::new(clock::now());
        let (url, _) = broker.serve(&authority).await;
        let connection = Broker::new(Arc::new(authority.enrol(&path("identity"), url))).unwrap();
        let standing = Arc::new(Standing::open(data.clone()).unwrap());
        let mut applier = Applier::open(&config, data, standing, application, connection).unwrap();
        applier.role.as_mut().unwrap().patience = Duration::from_secs(5);
        Self { folder, broker, applier, seen, site: Some(site) }
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
        issuer: ISSUER.to_owned(),
        client_id: client_id.to_owned(),
        client_secret: "canary-secret".to_owned(),
        secret_version,
    };
    Versioned { version: 1000 + secret_version, content }
}

#[tokio::test]
async fn a_revision_counts_when_the_application_uses_it() {
    let (mut beta, began) = (Instance::start("printf x >> $R").await, clock::now().unix_timestamp());
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    assert_eq!((beta.secret_version(), beta.client_id_on_disk().as_deref(), beta.reloads()), (1, Some("beta"), 1));
    let proved_at = beta.applier.standing.applied().proved_at;
    assert!(proved_at.is_some_and(|at| at >= began), "{proved_at:?}");
    beta.applier.standing.change(|applied| applied.proved_at = Some(7)).unwrap();
    // The same again under another version: nothing is written and nothing reloaded, and nothing proved anew.
    let again = Versioned { version: 7, ..wanted(1, "beta") };
    beta.applier.apply(&again).await.unwrap();
    assert_eq!(beta.applier.standing.applied().proved_at, Some(7));
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
    let mut beta = Instance::start("printf x >> $R; test $(wc -c < $R) -ne 2").await;
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
    beta.applier.role.as_mut().unwrap().patience = Duration::from_millis(1500);
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), beta.secret_version(), beta.client_id_on_disk()), ("PROOF_FAILED", 0, None));
}

#[tokio::test]
async fn files_that_cannot_be_written_change_nothing() {
    let mut beta = Instance::start("printf x >> $R").await;
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
        login_at: Arc::default(),
        callbacks: Arc::default(),
    };
    let routes = site.routes();
    let listener = TcpListener::bind(url).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let in_effect = |state: &StandingState| state.applied.proved && state.refusals.is_empty();
    standing.wait_for(in_effect).await.unwrap();
    drop(sender);
    working.await.unwrap();
}

#[tokio::test]
async fn a_secret_counts_when_the_broker_has_seen_the_application_use_it() {
    let mut beta = Instance::start("printf x >> $R").await;
    // At first an old worker answers.
    let right = (ProbeOutcome::Authenticated, 2);
    beta.presents(&[(ProbeOutcome::Authenticated, 1), right, (ProbeOutcome::Waiting, 0), right]);
    beta.applier.apply(&wanted(2, "beta")).await.unwrap();
    assert_eq!((beta.secret_version(), beta.reloads()), (2, 1));
    let callbacks = beta.seen.callbacks.lock().unwrap().clone();
    assert_eq!(callbacks.len(), 3, "two right ones in a row: {callbacks:?}");
    let expected = "code=hwp_code&state=of-this-login&iss=https%3A%2F%2Flogin.example csrftoken=token; sessionid=s";
    assert_eq!(callbacks[0], expected);
}

#[tokio::test]
async fn credentials_without_a_secret_are_put_into_effect_and_probed_like_others() {
    let mut beta = Instance::start("printf x >> $R").await;
    beta.applier.role.as_mut().unwrap().recipe.client_auth_method = ClientAuthMethod::Tls;
    beta.presents(&[(ProbeOutcome::Authenticated, 1)]);
    let mut without_secret = wanted(1, "beta");
    without_secret.content.client_secret = String::new();
    beta.applier.apply(&without_secret).await.unwrap();
    assert_eq!((beta.client_id_on_disk().as_deref(), beta.reloads()), (Some("beta"), 1));
    assert!(beta.applier.standing.applied().proved);
}

#[tokio::test]
async fn what_the_application_presents_instead_is_told_and_rolled_back() {
    let mut beta = Instance::start("printf x >> $R").await;
    beta.presents(&[(ProbeOutcome::Authenticated, 1)]);
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    beta.applier.role.as_mut().unwrap().patience = Duration::from_millis(1500);
    for (seen, reason) in
        [((ProbeOutcome::Authenticated, 1), "OLD_SECRET_PRESENTED"), ((ProbeOutcome::WrongSecret, 0), "SECRET_REFUSED")]
    {
        beta.presents(&[seen]);
        let error = beta.applier.apply(&wanted(2, "beta-two")).await.unwrap_err();
        assert_eq!((error.reason(), beta.secret_version()), (reason, 1));
        assert_eq!(beta.client_id_on_disk().as_deref(), Some("beta"), "the previous files are back");
    }
    assert_eq!(beta.reloads(), 5, "once each, and once more with the old files");
}

#[tokio::test]
async fn a_login_that_does_not_begin_or_goes_elsewhere_gets_no_code() {
    let mut beta = Instance::start("printf x >> $R").await;
    beta.applier.role.as_mut().unwrap().patience = Duration::from_millis(1500);
    beta.presents(&[(ProbeOutcome::Authenticated, 1)]);
    *beta.seen.login_at.lock().unwrap() = "https://evil.example".to_owned();
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), beta.client_id_on_disk()), ("PROBE_NOT_PRESENTED", None));
    assert!(error.to_string().contains("no redirect to https://login.example/authorize"), "{error}");
    assert!(beta.seen.callbacks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_is_made_registered_and_written_and_stays_the_same() {
    let mut beta = Instance::start("printf x >> $R").await;
    let role = beta.applier.role.as_mut().unwrap();
    let text = r#"name = "a"
        title = "A"
        description = ""
        [relying_party]
        callback_paths = ["/cb"]
        client_auth_method = "private_key_jwt"
        id_token_alg = "ES256"
        pkce = true
        [[relying_party.ways]]
        name = "files"
        description = ""
        [[relying_party.ways.files]]
        name = "key.json"
        format = "json"
        content = { pem = "${client_private_key_pem}", jwk = "${client_private_key_jwk}" }"#;
    role.recipe = crate::recipe::Recipe::parse(text).unwrap().relying_party.unwrap();
    role.way = Way::of(&role.recipe, &role.config);
    let mut wanted = wanted(3, "beta");
    wanted.content.private_key = true;
    wanted.content.client_secret = String::new();
    beta.applier.apply(&wanted).await.unwrap();
    beta.applier.apply(&Versioned { version: 1, ..wanted.clone() }).await.unwrap();
    let registered = beta.broker.keys.lock().unwrap().clone();
    assert_eq!((registered.len(), registered[0].secret_version, beta.reloads()), (1, 3, 1));
    let file = std::fs::read_to_string(beta.folder.path().join("credentials/current/key.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let written: Value = serde_json::from_str(file["jwk"].as_str().unwrap()).unwrap();
    let public: Value = serde_json::from_slice(&registered[0].jwk).unwrap();
    assert_eq!((&written["x"], &written["y"]), (&public["x"], &public["y"]));
    assert!(public.get("d").is_none() && file["pem"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[tokio::test]
async fn a_file_of_others_is_as_it_was_when_the_application_does_not_use_it() {
    let mut beta = Instance::start("true").await;
    let path = beta.folder.path().join("config.json");
    let old = "{ \"mine\": 1 }\n";
    way_back::put(&path, old);
    let role = beta.applier.role.as_mut().unwrap();
    role.patience = Duration::from_millis(1500);
    let text = "name = 'a'\ndescription = ''\n[[merge]]\nfile = '${config_file}'\nformat = 'json'\n\
                content = { client_id = '${client_id}', secret = '${client_secret}', jwks = '${jwks_uri}' }";
    role.recipe.ways = vec![toml::from_str(text).unwrap()];
    role.way = Way::of(&role.recipe, &role.config);
    way_back::tell(role, &[("config_file", &path)]);
    let kept = beta.folder.path().join("data").join(WAY_BACK);
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), beta.secret_version()), ("PROOF_FAILED", 0));
    assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), kept.exists()), (old, false));
    // Without a proof it stays, and nothing is kept for the way back.
    beta.applier.role.as_mut().unwrap().recipe.proof.0.clear();
    beta.presents(&[(ProbeOutcome::Authenticated, 1)]);
    beta.applier.role.as_mut().unwrap().recipe.probe = None;
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let expected = json!({"mine": 1, "client_id": "beta", "secret": "canary-secret", "jwks": format!("{ISSUER}/jwks")});
    assert_eq!((written, kept.exists()), (expected, false));
}

#[tokio::test]
async fn a_broker_that_is_away_makes_nobody_reload_twice() {
    let mut beta = Instance::start("printf x >> $R").await;
    beta.presents(&[(ProbeOutcome::Authenticated, 1)]);
    beta.applier.apply(&wanted(1, "beta")).await.unwrap();
    *beta.broker.away.lock().unwrap() = Some(tonic::Status::unavailable("draining"));
    for _ in 0..3 {
        let error = beta.applier.apply(&wanted(2, "beta-two")).await.unwrap_err();
        assert_eq!((error.reason(), beta.secret_version()), ("BROKER_AWAY", 1));
    }
    assert_eq!((beta.client_id_on_disk().as_deref(), beta.reloads()), (Some("beta-two"), 2), "the new files wait");
    // It is back, and says that the old secret is presented: the way back is still known.
    beta.applier.role.as_mut().unwrap().patience = Duration::from_millis(1500);
    *beta.broker.away.lock().unwrap() = None;
    let error = beta.applier.apply(&wanted(2, "beta-two")).await.unwrap_err();
    assert_eq!((error.reason(), beta.client_id_on_disk().as_deref()), ("OLD_SECRET_PRESENTED", Some("beta")));
    beta.presents(&[(ProbeOutcome::Authenticated, 2)]);
    beta.applier.apply(&wanted(2, "beta-two")).await.unwrap();
    assert_eq!((beta.client_id_on_disk().as_deref(), beta.reloads()), (Some("beta-two"), 4));
}
