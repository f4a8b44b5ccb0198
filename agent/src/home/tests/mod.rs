//! Both home methods, and the whole [`portal`], against a small application that answers as django-allauth does: its CSRF
//! check, its Secure cookies, its status codes.

mod portal;
mod slow;
mod token_site;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use ::http::{HeaderMap, StatusCode};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::directory::password::SignIn;
use super::session::After;
use super::*;
use crate::conversation::Conversation;
use crate::recipe::Recipe;

const SESSION: &str = "/_allauth/browser/v1/auth/session";
const LOGIN: &str = "/_allauth/browser/v1/auth/login";
const EMAIL: &str = "/_allauth/browser/v1/account/email";

/// The site's sessions: whose, and how made.
#[derive(Clone, Default)]
struct Site {
    sessions: Arc<Mutex<BTreeMap<String, Value>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// The site, and an agent's view of it.
struct Alpha {
    site: Site,
    url: String,
    application: Application,
    recipe: Home,
}

impl Alpha {
    async fn start() -> Self {
        let site = Site::default();
        let routes = Router::new()
            .route(SESSION, get(session).delete(sign_out))
            .route(LOGIN, axum::routing::post(login))
            .route(EMAIL, get(email))
            .with_state(site.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let public_url = PublicUrl::try_from("https://alpha.example".parse::<url::Url>().unwrap()).unwrap();
        let recipe = Recipe::embedded("django-allauth").unwrap().home.unwrap();
        let application = Application::new(url.parse().unwrap(), &public_url).unwrap();
        Self { site, url, application, recipe }
    }

    fn sign_in(&self, session: &str, methods: Value) {
        self.site.sessions.lock().unwrap().insert(session.to_owned(), methods);
    }

    async fn recognise(&self, cookies: &'static str) -> Recognised {
        let cookies = HeaderValue::from_static(cookies);
        let mut conversation = Conversation::of_browser(&self.application, [203, 0, 113, 9].into(), cookies);
        session::ask(&mut conversation, &self.recipe, After::Nothing).await
    }

    async fn try_password(&self, username: &str, password: &str) -> Verdict {
        let typed = TypedCredentials { username: username.to_owned(), password: password.into() };
        let recipe = Arc::new(self.recipe.clone());
        SignIn::begin((&self.application, recipe), typed, [203, 0, 113, 9].into()).await.unwrap()
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(COOKIE)?.to_str().ok()?;
    let found = cookie::Cookie::split_parse(text).flatten().find(|cookie| cookie.name() == name);
    found.map(|cookie| cookie.value().to_owned())
}

/// What Django checks before any view, and what every answer sets.
fn gate(headers: &HeaderMap, unsafe_method: bool) -> Option<Response> {
    if headers.get(HOST).unwrap() != "alpha.example" {
        return Some((StatusCode::BAD_REQUEST, "Bad Request (400)").into_response());
    }
    let token = headers.get("x-csrftoken").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let forged = token.is_none() || token != cookie(headers, "csrftoken") || headers[ORIGIN] != "https://alpha.example";
    (unsafe_method && forged).then(|| (StatusCode::FORBIDDEN, "CSRF verification failed").into_response())
}

fn answer(status: u16, body: Value, cookies: &[&str]) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    for cookie in ["csrftoken=one; Path=/; SameSite=Lax; Secure"].iter().chain(cookies) {
        response.headers_mut().append(SET_COOKIE, cookie.parse().unwrap());
    }
    response
}

fn anonymous(flow: &Value) -> Value {
    json!({"status": 401, "data": {"flows": [{"id": "login"}, flow]}, "meta": {"is_authenticated": false}})
}

fn signed_in(methods: &Value) -> Value {
    json!({"status": 200, "data": {"user": {"id": 1, "display": "alice", "username": "alice", "email": "alice@alpha.example"},
           "methods": methods}, "meta": {"is_authenticated": true}})
}

async fn session(State(site): State<Site>, headers: HeaderMap) -> Response {
    if let Some(refusal) = gate(&headers, false) {
        return refusal;
    }
    site.seen.lock().unwrap().push(headers["x-forwarded-for"].to_str().unwrap().to_owned());
    let sessions = site.sessions.lock().unwrap();
    match cookie(&headers, "sessionid").and_then(|id| sessions.get(&id).cloned()) {
        Some(methods) => answer(200, signed_in(&methods), &[]),
        None => answer(401, anonymous(&json!({"id": "signup"})), &[]),
    }
}

async fn email(headers: HeaderMap) -> Response {
    gate(&headers, false).unwrap_or_else(|| {
        answer(200, json!({"data": [{"email": "alice@alpha.example", "verified": true, "primary": true}]}), &[])
    })
}

async fn login(State(site): State<Site>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if let Some(refusal) = gate(&headers, true) {
        return refusal;
    }
    if cookie(&headers, "sessionid").is_some() {
        return answer(409, json!({"status": 409}), &[]);
    }
    let error = |code| answer(400, json!({"status": 400, "errors": [{"code": code, "param": "password"}]}), &[]);
    match (body["username"].as_str().unwrap(), body["password"].as_str().unwrap()) {
        ("alice", "right") => {
            site.sessions.lock().unwrap().insert("made".to_owned(), json!([{"method": "password", "at": 1.0}]));
            answer(200, signed_in(&json!([])), &["csrftoken=two; Secure", "sessionid=made; HttpOnly; Secure"])
        }
        ("mallory", "right") => answer(401, anonymous(&json!({"id": "signup"})), &[]),
        ("otto", "right") => {
            site.sessions.lock().unwrap().insert("half".to_owned(), Value::Null);
            let pending = json!({"id": "mfa_authenticate", "is_pending": true, "types": ["totp"]});
            answer(401, anonymous(&pending), &["sessionid=half; HttpOnly; Secure"])
        }
        ("locked", _) => error("too_many_login_attempts"),
        ("busy", _) => answer(429, json!({"status": 429}), &[]),
        ("broken", _) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        ("odd", _) => answer(418, json!({}), &[]),
        _ => error("username_password_mismatch"),
    }
}

async fn sign_out(State(site): State<Site>, headers: HeaderMap) -> Response {
    if let Some(refusal) = gate(&headers, true) {
        return refusal;
    }
    site.sessions.lock().unwrap().remove(&cookie(&headers, "sessionid").unwrap_or_default());
    answer(401, anonymous(&json!({"id": "signup"})), &["sessionid=\"\"; Max-Age=0"])
}

#[tokio::test]
async fn a_browser_is_recognised_by_its_cookies() {
    let alpha = Alpha::start().await;
    assert!(matches!(alpha.recognise("sessionid=garbage").await, Recognised::Nobody));
    alpha.sign_in(
        "good",
        json!([{"method": "password", "at": 1000.5}, {"method": "password", "at": 2000.5, "reauthenticated": true}]),
    );
    let Recognised::Somebody(answers) = alpha.recognise("theme=dark; sessionid=good").await else { panic!("nobody") };
    assert_eq!(answers.auth_time().unwrap().unix_timestamp(), 2000);
    let alice = vouching::identity(&alpha.recipe, &answers, HomeMethod::Session, clock::now()).unwrap();
    assert_eq!((alice.home_user_id.as_str(), alice.email_verified), ("1", true));
    assert!(alpha.site.seen.lock().unwrap().iter().all(|source| source == "203.0.113.9"));
    // Made by Django's own login: signed in, and nobody knows since when.
    alpha.sign_in("silent", json!([]));
    let Recognised::Somebody(answers) = alpha.recognise("sessionid=silent").await else { panic!("nobody") };
    assert_eq!(answers.auth_time(), None);
}

#[tokio::test]
async fn a_session_that_homeward_made_is_not_vouched_for() {
    let alpha = Alpha::start().await;
    alpha.sign_in("theirs", json!([{"method": "socialaccount", "provider": "homeward", "uid": "x", "at": 1.0}]));
    assert!(matches!(alpha.recognise("sessionid=theirs").await, Recognised::Refused(Note::Foreign)));
    alpha.sign_in("github", json!([{"method": "socialaccount", "provider": "github", "uid": "x", "at": 1.0}]));
    assert!(matches!(alpha.recognise("sessionid=github").await, Recognised::Somebody(_)));
}

#[tokio::test]
async fn a_right_password_gives_an_identity_and_leaves_no_session() {
    let alpha = Alpha::start().await;
    let Verdict::Ok(alice) = alpha.try_password("alice", "right").await else { panic!("refused") };
    assert_eq!(alice.username, "alice");
    assert!(alpha.site.sessions.lock().unwrap().is_empty(), "the session that checked the password is ended");
}

#[tokio::test]
async fn every_refusal_of_the_application_has_its_meaning() {
    let alpha = Alpha::start().await;
    for (username, password, note) in [
        ("alice", "wrong", Note::Wrong),
        ("stranger", "right", Note::Wrong),
        ("mallory", "right", Note::Disabled),
        ("mallory", "wrong", Note::Wrong),
        ("locked", "right", Note::Locked),
        ("busy", "right", Note::Locked),
    ] {
        let verdict = alpha.try_password(username, password).await;
        assert!(matches!(&verdict, Verdict::Refused(it) if *it == note), "{username} {password}: {verdict:?}");
    }
    // Who has a second factor is neither let in nor refused.
    assert!(matches!(alpha.try_password("otto", "right").await, Verdict::CodeNeeded(_)));
    for username in ["broken", "odd"] {
        assert!(
            matches!(alpha.try_password(username, "right").await, Verdict::Refused(Note::ApplicationDown)),
            "{username}"
        );
    }
    assert!(alpha.site.sessions.lock().unwrap().is_empty(), "a half-finished login is ended too");
}

#[tokio::test]
async fn an_application_that_is_down_is_no_refusal() {
    let mut alpha = Alpha::start().await;
    let public_url = PublicUrl::try_from("https://alpha.example".parse::<url::Url>().unwrap()).unwrap();
    alpha.application = Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap();
    assert!(matches!(alpha.recognise("sessionid=good").await, Recognised::Unavailable));
    assert!(matches!(alpha.try_password("alice", "right").await, Verdict::Refused(Note::ApplicationDown)));
}
