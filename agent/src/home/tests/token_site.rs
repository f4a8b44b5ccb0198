//! Second factors, and applications that sign users in by a token: against a small one that answers as AList does (the
//! status is always 200, the meaning is in the body).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ::http::HeaderMap;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use homeward_proto::v1::UserEvent;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::portal::World;
use crate::home::Outcome;

const RECIPE: &str = r"
    name = 'tokens'
    title = 'Tokens'
    description = ''
    [home]
    identity = { home_user_id = 'me:/data/id', username = 'me:/data/username' }
    [[home.who_am_i]]
    name = 'me'
    path = '/api/me'
    headers = { Authorization = '${token}' }
    when = { pointer = '/code', equals = 200 }
    otherwise = 'disabled'
    [[home.who_am_i]]
    name = 'person'
    path = '/api/person'
    headers = { Authorization = '${token}' }
    when = { pointer = '/code', equals = 200 }
    otherwise = 'guest'
    [home.password]
    sign_out = { method = 'GET', path = '/api/logout', headers = { Authorization = '${token}' } }
    tries = { per_minute = 8 }
    [[home.password.steps]]
    method = 'POST'
    path = '/api/login'
    json = { username = '${username}', password = '${password}' }
    capture = { token = '/data/token' }
    outcomes = [
        { when = { pointer = '/code', equals = 200 }, outcome = 'ok' },
        { when = { pointer = '/code', equals = 402 }, outcome = 'second_factor_needed' },
        { when = { pointer = '/code', equals = 400 }, outcome = 'wrong' },
    ]
    [[home.password.second_factor.steps]]
    method = 'POST'
    path = '/api/login'
    json = { username = '${username}', password = '${password}', otp_code = '${code}' }
    capture = { token = '/data/token' }
    outcomes = [
        { when = { pointer = '/code', equals = 200 }, outcome = 'ok' },
        { when = { pointer = '/code', equals = 402 }, outcome = 'code_wrong' },
    ]
    [home.accounts]
    step = { method = 'GET', path = '/api/user/${home_user_id}' }
    removed = { status = 404 }
    disabled = { pointer = '/data/disabled', equals = true }
    active = { pointer = '/data/disabled', equals = false }
    [home.directory]
    step = { method = 'GET', path = '/api/find', query = { name = '${username}' } }
    identity = { home_user_id = '/data/0/id', username = '/data/0/username', groups = '/data/0/roles/*' }
";

/// What the application remembers.
#[derive(Clone, Default)]
struct Site {
    tokens: Arc<Mutex<BTreeSet<String>>>,
    codes: Arc<Mutex<Vec<String>>>,
    disabled: Arc<Mutex<bool>>,
}

impl Site {
    async fn start(&self) -> String {
        let routes = Router::new()
            .route("/api/login", post(login))
            .route("/api/me", get(me))
            .route("/api/person", get(person))
            .route("/api/logout", get(logout))
            .route("/api/user/{id}", get(user))
            .route("/api/find", get(find))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        url
    }

    fn sessions(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }
}

fn token(headers: &HeaderMap) -> String {
    headers.get("authorization").map(|token| token.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn login(State(site): State<Site>, Json(body): Json<Value>) -> Json<Value> {
    let (username, password) = (body["username"].as_str().unwrap(), body["password"].as_str().unwrap());
    if password != "right" {
        return Json(json!({"code": 400, "message": "password is incorrect"}));
    }
    if username == "otto" {
        let code = body["otp_code"].as_str().unwrap_or_default();
        site.codes.lock().unwrap().push(code.to_owned());
        if code != "123456" {
            return Json(json!({"code": 402, "message": "Invalid 2FA code"}));
        }
    }
    site.tokens.lock().unwrap().insert(format!("token-of-{username}"));
    Json(json!({"code": 200, "data": {"token": format!("token-of-{username}")}}))
}

async fn me(State(site): State<Site>, headers: HeaderMap) -> Json<Value> {
    let token = token(&headers);
    if !site.tokens.lock().unwrap().contains(&token) || token == "token-of-dora" {
        return Json(json!({"code": 401}));
    }
    let username = token.trim_start_matches("token-of-");
    Json(json!({"code": 200, "data": {"id": username.len(), "username": username}}))
}

async fn person(headers: HeaderMap) -> Json<Value> {
    Json(json!({"code": if token(&headers) == "token-of-guest" { 403 } else { 200 }}))
}

async fn logout(State(site): State<Site>, headers: HeaderMap) -> Json<Value> {
    site.tokens.lock().unwrap().remove(&token(&headers));
    Json(json!({"code": 200}))
}

async fn user(State(site): State<Site>) -> Json<Value> {
    Json(json!({"code": 200, "data": {"disabled": *site.disabled.lock().unwrap()}}))
}

async fn find(axum::extract::RawQuery(query): axum::extract::RawQuery) -> Json<Value> {
    match query.unwrap_or_default().as_str() {
        "name=otto" => Json(json!({"data": [{"id": 4, "username": "otto", "roles": ["a", "b"]}]})),
        _ => Json(json!({"data": []})),
    }
}

/// The site and a portal in front of it.
async fn world() -> (Site, World) {
    let site = Site::default();
    let url = site.start().await;
    let world = World::of(&url, RECIPE, "methods = ['password']\nwatch_every = 1").await;
    (site, world)
}

/// One login in one browser.
struct Login<'a> {
    world: &'a World,
    cookie: String,
    token: String,
}

impl<'a> Login<'a> {
    async fn begin(world: &'a World) -> Self {
        let (cookie, token) = world.open_form("any").await;
        Self { world, cookie, token }
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
        let own = [("ticket", "any"), ("form_token", self.token.as_str())];
        let page = self.world.post(path, &self.cookie, &[&own, fields].concat()).await;
        (page.status(), page.text().await.unwrap())
    }

    async fn password(&self, username: &str, password: &str) -> (StatusCode, String) {
        self.post("/homeward/login", &[("username", username), ("password", password)]).await
    }

    async fn code(&self, code: &str) -> (StatusCode, String) {
        self.post("/homeward/code", &[("code", code)]).await
    }
}

#[tokio::test]
async fn a_code_is_asked_for_and_continues_the_sign_in() {
    let (site, world) = world().await;
    let login = Login::begin(&world).await;
    let (status, page) = login.password("otto", "right").await;
    assert!(status == 200 && page.contains("one-time-code") && page.contains("inputmode=\"numeric\""), "{page}");
    assert!(page.contains("otto") && !page.contains("right") && world.completed().is_empty());
    let (_, page) = login.code("000000").await;
    assert!(page.contains("That code is wrong") && page.contains("one-time-code"), "{page}");
    let (status, _) = login.code("123 456").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let [Outcome::Identity(otto)] = &world.completed()[..] else { panic!("no identity") };
    assert_eq!(
        (otto.username.as_str(), otto.home_user_id.as_str(), &otto.amr[..]),
        ("otto", "4", &["pwd", "mfa"].map(str::to_owned)[..])
    );
    assert_eq!(*site.codes.lock().unwrap(), ["", "000000", "123456"]);
    assert_eq!(site.sessions(), 0, "the session that checked the code is ended");
    let (_, page) = login.code("123456").await;
    assert!(page.contains("took too long") && world.completed().len() == 1, "no code is good twice");
}

#[tokio::test]
async fn three_wrong_codes_end_a_sign_in() {
    let (site, world) = world().await;
    let login = Login::begin(&world).await;
    login.password("otto", "right").await;
    for code in ["1", "2"] {
        assert!(login.code(code).await.1.contains("That code is wrong"));
    }
    let (_, page) = login.code("3").await;
    assert!(page.contains("Log in again") && page.contains("current-password"), "{page}");
    let (_, page) = login.code("123456").await;
    assert!(page.contains("took too long"), "{page}");
    assert_eq!(site.codes.lock().unwrap().len(), 4, "the application hears of no more");
    assert!(world.completed().is_empty());
}

#[tokio::test]
async fn a_code_is_of_the_browser_that_gave_the_password() {
    let (site, world) = world().await;
    let (login, other) = (Login::begin(&world).await, Login::begin(&world).await);
    login.password("otto", "right").await;
    let (_, page) = other.code("123456").await;
    assert!(page.contains("took too long"), "{page}");
    let stolen = Login { world: &world, cookie: other.cookie, token: login.token.clone() };
    assert_eq!(stolen.code("123456").await.0, StatusCode::FORBIDDEN);
    assert_eq!(site.codes.lock().unwrap().len(), 1, "the application hears of neither");
    assert_eq!(login.code("123456").await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_the_application_says_of_a_signed_in_user_counts() {
    let (site, world) = world().await;
    let login = Login::begin(&world).await;
    for (username, sentence) in [("dora", "This account cannot log in"), ("guest", "for everybody who visits")] {
        let (_, page) = login.password(username, "right").await;
        assert!(page.contains(sentence), "{page}");
        assert_eq!(site.sessions(), 0, "{username}");
    }
    let (_, page) = login.password("alice", "wrong").await;
    assert!(page.contains("wrong") && world.completed().is_empty(), "{page}");
    assert_eq!(login.password("alice", "right").await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn giving_up_a_code_ends_the_sign_in() {
    let (site, world) = world().await;
    let login = Login::begin(&world).await;
    login.password("otto", "right").await;
    assert_eq!(login.post("/homeward/cancel", &[]).await.0, StatusCode::SEE_OTHER);
    assert!(login.code("123456").await.1.contains("took too long"));
    assert_eq!(site.codes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_disabled_later_is_reported() {
    let (site, world) = world().await;
    let login = Login::begin(&world).await;
    login.password("alice", "right").await;
    assert_eq!(world.heard().await, None, "alice may log in");
    *site.disabled.lock().unwrap() = true;
    assert_eq!(world.heard().await, Some(("5".to_owned(), UserEvent::Disabled)));
    assert_eq!(world.heard().await, None, "once");
}

#[tokio::test]
async fn a_user_is_looked_up_without_a_login() {
    let (_, world) = world().await;
    let otto = world.directory.look_up("otto").await.unwrap().unwrap();
    assert_eq!((otto.home_user_id.as_str(), otto.groups.len()), ("4", 2));
    assert!(world.directory.look_up("nobody").await.unwrap().is_none());
}
