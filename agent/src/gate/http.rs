//! The gate over HTTP, beside the portal: decode, call one method, encode. Pages have strict headers; errors are fixed
//! sentences with a number, under which the log has the cause.

use std::sync::Arc;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on, post};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use tower_http::timeout::TimeoutLayer;
use url::form_urlencoded;
use uuid::Uuid;

use super::return_path::ReturnPath;
use super::simple_sso::{Request, RequestRefused, Server, TokenError};
use super::{Gate, GateError, Present, identity_headers, pages};
use crate::answer::{harden, html, redirect, set_cookie};
use crate::clock;
use crate::home::http::REQUEST_TIMEOUT;
use pages::{Failure, Frame, Logout};

/// Largest signed request: an address, or a token and names of what else is asked.
const LARGEST_BODY: usize = 16 * 1024;
/// How long a login may take, as in [`crate::provider`].
const LOGIN_COOKIE: Duration = Duration::minutes(30);
/// How many logins of one browser may be under way, each in a slot of its own: their cookies come with every request of
/// the site, and nginx refuses lines of more than 8 KiB, before anybody could take the cookies away.
const LOGINS: u8 = 3;

/// What every request needs.
#[derive(Debug, Clone)]
struct Served {
    gate: Arc<Gate>,
    frame: Arc<Frame>,
}

/// The cookies of a request.
struct Cookies(Vec<(String, String)>);

/// The addresses of a gate.
pub(crate) fn router(gate: Gate) -> Router {
    let path = gate.path.clone();
    let form_action = if gate.public_url.is_https() { "'self' https:" } else { "'self' http: https:" };
    let at = |rest: &str| format!("{path}{rest}");
    let mut routes = Router::new()
        .route(&at("gate/check"), get(check))
        .route(&at("gate/login"), on(MethodFilter::GET, login).on(MethodFilter::HEAD, no_page))
        .route(&at("gate/callback"), on(MethodFilter::GET, callback).on(MethodFilter::HEAD, no_page))
        .route(&at("gate/logout"), get(ask_to_log_out).post(log_out))
        .route(&at("gate/style.css"), get(style));
    if gate.simple_sso.is_some() {
        routes = routes
            .route(&at("sso/request-token/"), post(request_token))
            .route(&at("sso/authorize/"), get(authorize))
            .route(&at("sso/verify/"), post(verify));
    }
    let frame = Arc::new(Frame { path: at("gate/") });
    routes
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIMEOUT))
        .layer(middleware::map_response(move |response| harden(response, form_action)))
        .with_state(Served { gate: Arc::new(gate), frame })
}

/// nginx asks about a request of a browser, with its headers. One that names somebody itself is refused: a location that
/// nginx passes on without our headers would let it through.
async fn check(State(Served { gate, .. }): State<Served>, headers: HeaderMap) -> Response {
    if headers.keys().any(identity_headers::is_one) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let cookies = Cookies::of(&headers);
    let Some(Present { session, renewed }) = gate.recognise(cookies.get(&session_cookie(&gate)), clock::now()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(identity_headers::of(&session));
    if let Some(renewed) = renewed {
        set_cookie(&mut response, &cookie(&gate, session_cookie(&gate), renewed, None));
    }
    response
}

async fn login(State(served): State<Served>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let next = ReturnPath::of_query(&query.unwrap_or_default(), &served.gate.public_url);
    served.begin(&headers, next).await
}

async fn callback(State(served): State<Served>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let (gate, cookies) = (&served.gate, Cookies::of(&headers));
    let query = query.unwrap_or_default();
    let slots = (0..LOGINS).map(|slot| login_cookie(gate, slot));
    let logins: Vec<_> = slots.filter_map(|name| cookies.get(&name).map(|sealed| (name.clone(), sealed))).collect();
    match gate.finish(&query, &logins, clock::now()).await {
        Ok(finished) => {
            let mut response = redirect(&finished.next.address(&gate.public_url));
            set_cookie(&mut response, &cookie(gate, session_cookie(gate), finished.sealed, None));
            set_cookie(&mut response, &cookie(gate, finished.begun_in, String::new(), Some(Duration::ZERO)));
            response
        }
        // One of many windows that were opened at once, or the second click: somebody is in already.
        Err(GateError::NotBegunHere) if gate.recognise(cookies.get(&session_cookie(gate)), clock::now()).is_some() => {
            redirect(&ReturnPath::front_page().address(&gate.public_url))
        }
        Err(error) => served.failure(&error),
    }
}

/// HEAD neither begins a login nor uses an answer up.
async fn no_page() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

async fn ask_to_log_out(State(served): State<Served>) -> Response {
    html(200, &Logout { frame: &served.frame, application: &served.gate.application })
}

/// The cookie is SameSite=Lax: another site's form comes without it, and must change nothing (browsers would keep what the
/// answer sets), nor take anybody to the broker's logout.
async fn log_out(State(served): State<Served>, headers: HeaderMap) -> Response {
    let (gate, cookies) = (&served.gate, Cookies::of(&headers));
    if gate.recognise(cookies.get(&session_cookie(gate)), clock::now()).is_none() {
        return redirect(&ReturnPath::front_page().address(&gate.public_url));
    }
    match gate.log_out(cookies.get(&session_cookie(gate)), clock::now()).await {
        Ok(address) => {
            let mut response = redirect(address.as_str());
            set_cookie(&mut response, &cookie(gate, session_cookie(gate), String::new(), Some(Duration::ZERO)));
            response
        }
        Err(error) => served.failure(&error),
    }
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (headers, pages::STYLE).into_response()
}

async fn request_token(State(served): State<Served>, headers: HeaderMap, body: String) -> Response {
    served.answer_client(&headers, &body, |server, request| server.request_token(request, clock::now()))
}

async fn verify(State(served): State<Served>, headers: HeaderMap, body: String) -> Response {
    served.answer_client(&headers, &body, |server, request| {
        server.verify(request, |session| served.gate.is_over(session, clock::now()), clock::now())
    })
}

async fn authorize(State(served): State<Served>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let (gate, now) = (&served.gate, clock::now());
    let Some(server) = &gate.simple_sso else { return StatusCode::NOT_FOUND.into_response() };
    let query = query.unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let visited = token.ok_or(TokenError::Missing).and_then(|(_, token)| server.visit(&token, now).map(|()| token));
    let token = match visited {
        Ok(token) => token,
        Err(error) => return served.failure(&error.into()),
    };
    let Some(present) = gate.recognise(Cookies::of(&headers).get(&session_cookie(gate)), now) else {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("token", &token).finish();
        let again = ReturnPath::own(format!("{}sso/authorize/?{query}", gate.path));
        return served.begin(&headers, again).await;
    };
    match server.authorize(&token, present.session, now) {
        Ok(address) => redirect(address.as_str()),
        Err(error) => served.failure(&error.into()),
    }
}

impl Served {
    async fn begin(&self, headers: &HeaderMap, next: ReturnPath) -> Response {
        // A script that is answered with a redirect to another site can only fail, and would leave a cookie for each try.
        let mode = headers.get("sec-fetch-mode").map(HeaderValue::as_bytes);
        if mode.is_some_and(|mode| mode != b"navigate") {
            return self.failure(&GateError::NoNavigation);
        }
        let gate = &self.gate;
        match gate.begin(next, clock::now()).await {
            Ok(begun) => {
                let mut response = redirect(begun.address.as_str());
                let slot = Cookies::of(headers).slot(gate, begun.chance);
                set_cookie(&mut response, &cookie(gate, slot, begun.sealed, Some(LOGIN_COOKIE)));
                response
            }
            Err(error) => self.failure(&error),
        }
    }

    fn answer_client(
        &self,
        headers: &HeaderMap,
        body: &str,
        answer: impl FnOnce(&Server, Request<'_>) -> Result<String, RequestRefused>,
    ) -> Response {
        let Some(server) = &self.gate.simple_sso else { return StatusCode::NOT_FOUND.into_response() };
        let public_key = headers.get("x-services-public-key").and_then(|value| value.to_str().ok());
        match answer(server, Request { public_key, signed: body.trim_end() }) {
            Ok(signed) => ([(CONTENT_TYPE, "application/json")], signed).into_response(),
            Err(error) => {
                let client = public_key.unwrap_or_default();
                tracing::warn!(client, %error, "a request of a client of django-simple-sso is refused");
                let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
                (StatusCode::BAD_REQUEST, headers, error.to_string()).into_response()
            }
        }
    }

    fn failure(&self, error: &GateError) -> Response {
        let request_id = Uuid::new_v4().simple().to_string();
        tracing::warn!(request = request_id, %error, "a login at the gate could not go on");
        let (status, heading, sentence) = pages::public(error);
        let gate = &self.gate;
        let application = gate.simple_sso.is_none().then_some(gate.application.as_str());
        html(status, &Failure { frame: &self.frame, application, heading, sentence, request_id: &request_id })
    }
}

impl Cookies {
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = values.flat_map(Cookie::split_parse).flatten();
        Self(cookies.map(|cookie| (cookie.name().to_owned(), cookie.value().to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The cookie for another login: by chance one that is free, if one is. By chance, because windows that are opened at
    /// once do not know of each other.
    fn slot(&self, gate: &Gate, chance: u8) -> String {
        let all: Vec<_> = (0..LOGINS).map(|slot| login_cookie(gate, slot)).collect();
        let free: Vec<_> = all.iter().filter(|name| self.get(name).is_none()).collect();
        let chance = usize::from(chance);
        free.get(chance % free.len().max(1)).map_or_else(|| all[chance % all.len()].clone(), |name| (*name).clone())
    }
}

/// `__Host-` binds a cookie to this very host over TLS (RFC 6265bis 4.1.3.2); over plain HTTP browsers refuse it.
fn session_cookie(gate: &Gate) -> String {
    let prefix = if gate.public_url.is_https() { "__Host-" } else { "" };
    format!("{prefix}homeward-gate")
}

fn login_cookie(gate: &Gate, slot: u8) -> String {
    format!("{}-{slot}", session_cookie(gate))
}

fn cookie(gate: &Gate, name: String, value: String, max_age: Option<Duration>) -> String {
    let cookie = Cookie::build((name, value)).path("/").secure(gate.public_url.is_https()).http_only(true);
    let mut cookie = cookie.same_site(SameSite::Lax).build();
    cookie.set_max_age(max_age);
    cookie.to_string()
}
