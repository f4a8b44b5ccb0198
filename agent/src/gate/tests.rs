//! A browser at the gate, from the page that it wants to the answer that nginx gets.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use axum::body::Body;
use axum::response::Response;
use homeward_proto::v1::ClientCredentials;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::clock;
use crate::config::raw::RawConfig;
use crate::test_provider::TestProvider;

struct World {
    op: TestProvider,
    client: Arc<GateClient>,
    ended: Arc<EndedSessions>,
    router: axum::Router,
    _folder: tempfile::TempDir,
}

async fn world(recipe: &str, gate: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let data = PrivateDir::open(&folder.path().join("data")).unwrap();
    let key = folder.path().join("key");
    let private = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&key);
    private.unwrap().write_all(b"a-private-key-of-a-client\n").unwrap();
    let text = format!(
        "public_url = 'https://beta.example'\ndata_dir = '{}'\nrecipe = '{recipe}'\n[app]\nurl = 'http://127.0.0.1:1'\n\
         [relying_party]\n{}",
        data.path().display(),
        gate.replace("$KEY", &key.display().to_string())
    );
    let config = Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap();
    let op = TestProvider::start().await;
    let client = GateClient::open(&config, data.clone()).unwrap().unwrap();
    let ended = Arc::new(EndedSessions::open(data.clone()).unwrap());
    let gate = Gate::open(&config, &data, Some(client.clone()), Some(ended.clone())).unwrap().unwrap();
    World { op, client, ended, router: http::router(gate), _folder: folder }
}

impl World {
    fn adopt(&self) {
        let credentials = ClientCredentials {
            issuer: self.op.issuer.clone(),
            client_id: "beta".to_owned(),
            client_secret: "s3cret".to_owned(),
            secret_version: 1,
            private_key: false,
        };
        let candidate = self.client.candidate(&credentials);
        self.client.adopt(&credentials, candidate).unwrap();
        assert!(self.client.uses(&credentials));
    }

    async fn ask(&self, method: &str, path: &str, cookies: &str) -> Response {
        let request = ::http::Request::builder().method(method).uri(path).header("cookie", cookies);
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str, cookies: &str) -> Response {
        self.ask("GET", path, cookies).await
    }

    /// Through the provider; the session's cookie, and where it went.
    async fn log_in(&self, path: &str) -> (String, String) {
        let begun = self.get(path, "").await;
        assert_eq!(begun.status(), 303);
        let cookie = set_cookies(&begun).remove(0);
        let query = self.op.log_in(&location(&begun).parse().unwrap());
        let stolen = self.get(&format!("/homeward/gate/callback?{query}"), "").await;
        assert_eq!(stolen.status(), 400, "without the cookie of the browser that asked");
        let back = self.get(&format!("/homeward/gate/callback?{query}"), &cookie).await;
        assert_eq!(back.status(), 303);
        (set_cookies(&back).remove(0), location(&back))
    }
}

fn location(response: &Response) -> String {
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// Names and values only.
fn set_cookies(response: &Response) -> Vec<String> {
    let all = response.headers().get_all("set-cookie").iter();
    all.map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nginx_learns_who_is_there_until_the_session_ends() {
    let world = world("nginx-auth-request", "").await;
    assert_eq!(world.get("/homeward/gate/login?next=/page", "").await.status(), 503, "no credentials yet");
    world.adopt();
    world.op.script.lock().unwrap().userinfo =
        Some(json!({"sub": "alice-1", "preferred_username": "alice@alpha", "groups": ["Ops"], "name": "Alicé"}));
    assert_eq!(world.get("/homeward/gate/check", "").await.status(), 401);
    let (cookie, to) = world.log_in("/homeward/gate/login?next=/page?a=1&b=2").await;
    assert_eq!(to, "https://beta.example/page?a=1&b=2");
    assert!(cookie.starts_with("__Host-homeward-gate="), "{cookie}");
    let checked = world.get("/homeward/gate/check", &cookie).await;
    assert_eq!(checked.status(), 204);
    let header = |name: &str| checked.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("x-homeward-user").as_deref(), Some("alice@alpha"));
    assert_eq!(header("x-homeward-name").as_deref(), Some("Alic%C3%A9"));
    assert_eq!(header("x-homeward-groups").as_deref(), Some("Ops"));
    assert_eq!(header("x-homeward-email"), None);
    assert_eq!(world.get("/homeward/gate/check", &cookie.replace('=', "=A")).await.status(), 401, "forged");
    world.ended.end(Which::Subject("alice-1".to_owned()), clock::now()).unwrap();
    assert_eq!(world.get("/homeward/gate/check", &cookie).await.status(), 401, "ended by the broker");
}

#[tokio::test]
async fn a_logout_ends_the_session_and_goes_on_to_the_broker() {
    let world = world("nginx-auth-request", "").await;
    world.adopt();
    let (cookie, _) = world.log_in("/homeward/gate/login").await;
    assert_eq!(world.get("/homeward/gate/logout", &cookie).await.status(), 200, "a GET only asks");
    assert_eq!(world.get("/homeward/gate/check", &cookie).await.status(), 204);
    let out = world.ask("POST", "/homeward/gate/logout", &cookie).await;
    let to = location(&out);
    assert!(
        to.starts_with(&format!("{}/logout?client_id=beta&post_logout_redirect_uri=https", world.op.issuer)),
        "{to}"
    );
    assert_eq!(world.get("/homeward/gate/check", &cookie).await.status(), 401, "also a copy of the cookie is over");
}

#[tokio::test]
async fn the_form_of_another_site_logs_nobody_out() {
    let world = world("nginx-auth-request", "").await;
    world.adopt();
    // Browsers leave a Lax cookie out of it.
    let out = world.ask("POST", "/homeward/gate/logout", "").await;
    assert_eq!((location(&out).as_str(), set_cookies(&out).len()), ("https://beta.example/", 0));
}

#[tokio::test]
async fn however_many_logins_begin_at_once_their_cookies_fit_into_a_line() {
    let world = world("nginx-auth-request", "").await;
    world.adopt();
    let mut jar = std::collections::BTreeMap::new();
    let path = format!("/homeward/gate/login?next=/{}", "x".repeat(490));
    let mut last = None;
    for _ in 0..30 {
        let line = jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let begun = world.get(&path, &line).await;
        let (name, value) =
            set_cookies(&begun).remove(0).split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
        last = Some((world.op.log_in(&location(&begun).parse().unwrap()), format!("{name}={value}")));
        jar.insert(name, value);
    }
    let length: usize = jar.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    assert!(jar.len() == 3 && length < 4000, "{} cookies, {length} bytes", jar.len());

    // Two windows: the second answer has no login of its own any more, and its user is in all the same.
    let (query, cookie) = last.unwrap();
    let callback = format!("/homeward/gate/callback?{query}");
    assert_eq!(world.ask("HEAD", &callback, &cookie).await.status(), 405, "HEAD uses nothing up");
    let back = world.get(&callback, &cookie).await;
    assert!(location(&back).ends_with("xxx"));
    let again = world.get(&callback, &set_cookies(&back).remove(0)).await;
    assert_eq!(location(&again), "https://beta.example/");
}

#[tokio::test]
async fn scripts_begin_no_logins_and_a_callback_counts_once() {
    let world = world("nginx-auth-request", "").await;
    world.adopt();
    let request = ::http::Request::get("/homeward/gate/login?next=/").header("sec-fetch-mode", "cors");
    let refused = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((refused.status().as_u16(), set_cookies(&refused).len()), (401, 0));
    for bad in ["", "code=c", "code=c&state=made-up", "code=c&state=s&state=t"] {
        assert_eq!(world.get(&format!("/homeward/gate/callback?{bad}"), "").await.status(), 400, "{bad}");
    }
    let begun = world.get("/homeward/gate/login", "").await;
    let cookie = set_cookies(&begun).remove(0);
    let query = world.op.log_in(&location(&begun).parse().unwrap());
    let denied = query.replace("code=c-1", "error=access_denied");
    assert_eq!(world.get(&format!("/homeward/gate/callback?{denied}"), &cookie).await.status(), 403);
}

#[tokio::test]
async fn clients_of_django_simple_sso_log_in_with_one_login() {
    use super::simple_sso::signed::SigningKey;

    let gate = "[gate]\nclients = [{ public_key = 'pub-1', private_key_file = '$KEY', redirect = 'https://app.example/client/' }]";
    let world = world("django-simple-sso", gate).await;
    world.adopt();
    let key = SigningKey::new("a-private-key-of-a-client");
    let post = async |path: &str, body: Value| {
        let signed = key.sign(&body.to_string(), clock::now());
        let request = ::http::Request::post(path).header("x-services-public-key", "pub-1");
        let answer = world.router.clone().oneshot(request.body(Body::from(signed)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let token = async || {
        let asked = json!({"redirect_to": "https://app.example/client/authenticate/?next=%2F"});
        let (status, signed) = post("/homeward/sso/request-token/", asked).await;
        assert_eq!(status, 200, "{signed}");
        let answer: Value = serde_json::from_str(key.open(&signed, clock::now()).unwrap()).unwrap();
        answer["request_token"].as_str().unwrap().to_owned()
    };
    let first = token().await;
    let (cookie, to) = world.log_in(&format!("/homeward/sso/authorize/?token={first}")).await;
    assert_eq!(to, format!("https://beta.example/homeward/sso/authorize/?token={first}"));
    let authorize = async |token: &str| world.get(&format!("/homeward/sso/authorize/?token={token}"), &cookie).await;
    let back = authorize(&first).await;
    assert!(location(&back).starts_with("https://app.example/client/authenticate/?next=%2F&access_token="));
    assert_eq!(authorize(&first).await.status(), 403, "a request token is good once");
    let again = location(&authorize(&token().await).await);
    let address: Url = again.parse().unwrap();
    let access = address.query_pairs().find(|(name, _)| name == "access_token").unwrap().1.into_owned();
    let payload = key.open(&access, clock::now()).unwrap();
    let access: String = serde_json::from_slice(&base64_of(payload)).unwrap();
    let (status, signed) = post("/homeward/sso/verify/", json!({"access_token": access})).await;
    assert_eq!(status, 200);
    let user: Value = serde_json::from_str(key.open(&signed, clock::now()).unwrap()).unwrap();
    assert_eq!((&user["username"], &user["is_staff"]), (&json!("alice@alpha"), &json!(false)));
    let (status, text) = post("/homeward/sso/verify/", json!({"access_token": access})).await;
    assert!(status == 400 && text.starts_with("Token used already"), "{text}");
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}
