//! A small application with accounts of its own, which can also sign people in by OpenID Connect ([`login`]) and out again
//! ([`logout`]: on its own page, by the broker's back and front channel, by its agent). It passes `/homeward/` to its
//! agent's portal, like a reverse proxy.
//!
//! Tests look at [`Site::sessions`] and [`Site::heard_logouts`], and upset it with [`Site::fail_back_channel`],
//! [`Site::slow_back_channel`] and [`Site::disable`]. An instance that takes no logout tokens, so that its agent ends
//! sessions by the recipe's steps, is made by
//! [`Instance::without_back_channel`](crate::federation::Instance::without_back_channel) before it is enrolled.
//!
//! Its name ends in `.localhost`, which is this machine (RFC 6761 6.3) to browsers and not to every resolver: a program
//! that calls it, as the broker does with logout tokens, must know that by itself.

mod login;
mod logout;
mod logout_token;
mod proxy;
mod sessions;
mod users;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::login::Pending;
pub use self::logout::HeardLogout;
use self::logout::{Logouts, Upset};
pub use self::sessions::Session;
use self::sessions::Sessions;

/// Somebody who can sign in at a site itself.
#[derive(Clone, Debug)]
pub struct Account {
    /// What he types.
    pub username: &'static str,
    /// And this.
    pub password: &'static str,
    /// Full name.
    pub name: &'static str,
    /// Verified by the site.
    pub email: &'static str,
}

/// A site that runs until it is dropped.
#[derive(Debug)]
pub struct Site {
    name: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    public_url: String,
    accounts: Vec<Account>,
    credentials: PathBuf,
    portal: u16,
    http: reqwest::Client,
    /// Who is signed in.
    sessions: Sessions,
    /// Logouts that came from elsewhere.
    logouts: Logouts,
    /// Accounts that may not sign in any more.
    disabled: Mutex<Vec<String>>,
    /// Logins on their way, by session id.
    pending: Mutex<HashMap<String, Pending>>,
    /// Ids of the broker's keys, as it last fetched them.
    key_ids: Mutex<Vec<String>>,
    /// The client secret that it presents whatever its files say, if it does not read them again.
    stale_secret: Mutex<Option<String>>,
    /// Whether what stands before it keeps its cookies from browsers.
    hides_cookies: AtomicBool,
}

impl Site {
    /// Starts a site at `http://<name>.localhost:<port>`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(name: &str, accounts: Vec<Account>, credentials: PathBuf, portal: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            public_url: format!("http://{name}.localhost:{}", address.port()),
            accounts,
            credentials,
            portal,
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?,
            sessions: Sessions::default(),
            logouts: Logouts::default(),
            disabled: Mutex::default(),
            pending: Mutex::default(),
            key_ids: Mutex::default(),
            stale_secret: Mutex::default(),
            hides_cookies: AtomicBool::default(),
        });
        let front = middleware::from_fn_with_state(shared.clone(), proxy::hide_cookies);
        let router = routes().layer(front).with_state(shared.clone());
        let server = tokio::spawn(async move {
            // Ends with the site.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { name: name.to_owned(), address, shared, server })
    }

    /// Where its agent reaches it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where browsers reach it.
    pub fn public_url(&self) -> &str {
        &self.shared.public_url
    }

    /// An address on it.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.shared.public_url)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on it presents the client secret that it has now, whatever is written for it: an application that takes
    /// files and reloads, and reads nothing.
    ///
    /// # Errors
    /// When it is not set up yet.
    pub fn read_no_secret_again(&self) -> anyhow::Result<()> {
        let secret = self.shared.read_credentials()?.into_secret();
        *self.shared.stale_secret.lock().unwrap_or_else(PoisonError::into_inner) = secret;
        Ok(())
    }

    /// From now on browsers get none of its cookies, as behind a reverse proxy that keeps them; its agent, which asks past
    /// that, does.
    pub fn keep_cookies_from_browsers(&self, keep: bool) {
        self.shared.hides_cookies.store(keep, Ordering::Relaxed);
    }

    /// Who is signed in, in no order.
    pub fn sessions(&self) -> Vec<Session> {
        self.shared.sessions.list()
    }

    /// Ends all sessions of a user, as the site's own administrator does; how many there were.
    pub fn end_sessions_of(&self, username: &str) -> usize {
        self.shared.sessions.end_where(|session| session.username() == username)
    }

    /// Lets nobody sign in as this user any more, and ends the sessions there are.
    pub fn disable(&self, username: &str) {
        self.shared.disabled.lock().unwrap_or_else(PoisonError::into_inner).push(username.to_owned());
        self.end_sessions_of(username);
    }

    /// The logout tokens that came, good and bad, oldest first; without those that were answered with a 503.
    pub fn heard_logouts(&self) -> Vec<HeardLogout> {
        self.shared.logouts.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The `sid` of each request to the front-channel page, empty if it had none.
    pub fn front_channel_logouts(&self) -> Vec<String> {
        self.shared.logouts.front_channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next logout tokens get a 503, that many times.
    pub fn fail_back_channel(&self, times: usize) {
        self.upset(Upset::Fails, times);
    }

    /// The next logout tokens are looked at only after this time, that many times. Whoever hangs up before has ended
    /// nothing.
    pub fn slow_back_channel(&self, wait: Duration, times: usize) {
        self.upset(Upset::Slow(wait), times);
    }

    fn upset(&self, upset: Upset, times: usize) {
        let mut upsets = self.shared.logouts.upsets.lock().unwrap_or_else(PoisonError::into_inner);
        upsets.extend(std::iter::repeat_n(upset, times));
    }

    /// Stops answering.
    pub fn stop(&self) {
        self.server.abort();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(front))
        .route("/login", get(login_form).post(sign_in))
        .route("/api/login", post(api_login))
        .route("/whoami", get(whoami))
        .route("/config", get(config))
        .route("/fetch-keys", post(login::fetch_keys))
        .route("/sign-in-with-homeward", get(login::begin))
        .route("/callback", get(login::callback))
        .route("/homeward/{*path}", any(proxy::to_portal))
        .route("/initiate-login", get(login::initiate).post(login::initiate))
        .route("/logout", get(logout::ask).post(logout::here))
        .route("/logout-everywhere", get(logout::everywhere))
        .route("/signed-out", get(logout::signed_out))
        .route("/frontchannel-logout", get(logout::front_channel))
        .route("/backchannel-logout", post(logout::back_channel))
        .route("/api/sessions", get(logout::list_sessions))
        .route("/api/users", get(users::find))
        .route("/api/end-sessions", post(logout::end_sessions))
}

/// A failure as a page: what a small site would show.
struct Failure(anyhow::Error);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> Response {
        let text = format!("{:#}", self.0).replace('&', "&amp;").replace('<', "&lt;");
        (StatusCode::BAD_REQUEST, page("Sign-in failed", &format!("<p id=\"failure\">{text}</p>"))).into_response()
    }
}

type Shop = State<Arc<Shared>>;

async fn front(State(shared): Shop, headers: HeaderMap) -> Html<String> {
    match shared.sessions.of(&headers) {
        Some(session) => {
            let user = &session.user;
            let claims = serde_json::to_string_pretty(user).unwrap_or_default();
            let claims = claims.replace('&', "&amp;").replace('<', "&lt;");
            let name = user["username"].as_str().unwrap_or_default();
            let links = "<p><a href=\"/logout\">Sign out here</a> · <a href=\"/logout-everywhere\">everywhere</a></p>";
            let shown = format!("<p>You are signed in.</p><pre id=\"user\">{claims}</pre>{links}");
            page(&format!("Hello {name}"), &shown)
        }
        None => page(
            "Welcome",
            "<p>Nobody is signed in.</p><p><a href=\"/login\">Sign in here</a></p>\
             <p><a href=\"/sign-in-with-homeward\">Sign in with Homeward</a></p>",
        ),
    }
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><body style=\"font: 1.1rem system-ui; max-width: 36rem; margin: 3rem auto; padding: 0 1rem\">\
         <h1>{title}</h1>{body}</body></html>"
    ))
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

impl Next {
    /// A path of this site, never another one's address.
    fn path(self) -> String {
        self.next.filter(|next| next.starts_with('/') && !next.starts_with("//")).unwrap_or_else(|| "/".into())
    }
}

async fn login_form(Query(next): Query<Next>) -> Html<String> {
    let next: String = url::form_urlencoded::byte_serialize(next.path().as_bytes()).collect();
    page(
        "Sign in",
        &format!(
            "<form method=\"post\" action=\"/login?next={next}\"><p><label>Name <input name=\"username\" autofocus></label></p>\
             <p><label>Password <input name=\"password\" type=\"password\"></label></p><p><button>Sign in</button></p></form>"
        ),
    )
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

async fn sign_in(
    State(shared): Shop,
    Query(next): Query<Next>,
    headers: HeaderMap,
    Form(typed): Form<Credentials>,
) -> Response {
    match shared.account(&typed).filter(|_| !shared.is_disabled(&typed.username)) {
        Some(user) => {
            let session = shared.sessions.begin(&headers, Session { user, id_token: None });
            (session, Redirect::to(&next.path())).into_response()
        }
        None => (StatusCode::OK, page("Sign in", "<p id=\"failure\">Wrong name or password.</p>")).into_response(),
    }
}

async fn api_login(State(shared): Shop, headers: HeaderMap, Json(typed): Json<Credentials>) -> Response {
    match shared.account(&typed) {
        Some(_) if shared.is_disabled(&typed.username) => StatusCode::FORBIDDEN.into_response(),
        Some(user) => {
            let session = Session { user: user.clone(), id_token: None };
            (shared.sessions.begin(&headers, session), Json(user)).into_response()
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn whoami(State(shared): Shop, headers: HeaderMap) -> Response {
    match shared.sessions.of(&headers) {
        Some(session) => Json(session.user).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn config(State(shared): Shop) -> Json<Value> {
    let client_id = shared.read_credentials().map(|credentials| credentials.client_id).unwrap_or_default();
    let key_ids = shared.key_ids.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(json!({"client_id": client_id, "key_ids": key_ids}))
}

impl Shared {
    fn account(&self, typed: &Credentials) -> Option<Value> {
        let found = self.accounts.iter().find(|account| account.username == typed.username)?;
        (found.password == typed.password).then(|| {
            let mut user = described(found);
            user["auth_time"] = json!(now());
            user
        })
    }

    fn users(&self) -> impl Iterator<Item = Value> {
        self.accounts.iter().map(described)
    }

    fn is_disabled(&self, username: &str) -> bool {
        self.disabled.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|disabled| disabled == username)
    }
}

/// What the site says of an account.
fn described(account: &Account) -> Value {
    json!({
        "id": format!("user-{}", account.username),
        "username": account.username,
        "name": account.name,
        "email": account.email,
        "email_verified": true,
        "groups": ["staff"],
        "locale": "en-GB",
        "phone_number": "+441865000000",
        "address": {"locality": "Oxford", "country": "England"},
    })
}

#[expect(clippy::disallowed_methods, reason = "the site is a program of its own and keeps its own time")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let found = cookie::Cookie::split_parse(cookies).flatten().find(|cookie| cookie.name() == name)?;
    Some(found.value().to_owned())
}
