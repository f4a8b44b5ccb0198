//! The portal over HTTP: decode, call one method, encode. Every answer has the same strict headers; every error is a fixed
//! sentence with the number of the request, under which the log has the cause.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Router, middleware};
use cookie::{Cookie, SameSite};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::SecretString;
use tower_http::timeout::TimeoutLayer;
use url::form_urlencoded;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::decision::Note;
use super::form_token::Browser;
use super::pages::{self, Code, Explanation, Failure, Form, Frame};
use super::reply::Reply;
use super::source::client_address;
use super::{Portal, PortalError, TypedCredentials, Visit};
use crate::answer::{harden, html, redirect, set_cookie};

/// Largest form.
const LARGEST_BODY: usize = 16 * 1024;
/// For a whole request: the application and the broker together may take their time.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);

/// What every request needs.
#[derive(Debug, Clone)]
struct Served {
    portal: Option<Arc<Portal>>,
    frame: Arc<Frame>,
}

/// The peer of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The number of a request, shown on error pages and in the log.
#[derive(Debug, Clone)]
struct RequestId(String);

/// The fields of a form, or of a query.
struct Fields(Vec<(String, Zeroizing<String>)>);

/// The pages of a portal below `path`; without one, there are none but that which says so.
pub(crate) fn router(portal: Option<Portal>, path: &str) -> Router {
    router_in_time(portal, path, REQUEST_TIMEOUT)
}

/// The same, with so much time for a request.
pub(super) fn router_in_time(portal: Option<Portal>, path: &str, time: Duration) -> Router {
    let path = path.to_owned();
    let home = portal.as_ref().map(|portal| portal.home_name.clone()).unwrap_or_default();
    let form_action = form_action(portal.as_ref());
    let routes = match &portal {
        None => Router::new(),
        Some(_) => Router::new()
            .route(&format!("{path}login"), only(on(MethodFilter::GET, begin).on(MethodFilter::POST, sign_in)))
            .route(&format!("{path}code"), on(MethodFilter::POST, give_code))
            .route(&format!("{path}oidc/callback"), only(on(MethodFilter::GET, come_back)))
            .route(&format!("{path}cancel"), on(MethodFilter::POST, cancel)),
    };
    let routes = routes.route(&format!("{path}style.css"), only(on(MethodFilter::GET, style)));
    let served = Served { portal: portal.map(Arc::new), frame: Arc::new(Frame { path, home }) };
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, time))
        .layer(middleware::map_response(move |response| harden(response, form_action)))
        .layer(middleware::map_request(number))
        .with_state(served)
}

async fn begin(
    State(served): State<Served>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    served
        .answer(&id, async |portal| {
            let query = Fields::parse(query.unwrap_or_default().as_bytes());
            let visit = visit(portal, &headers, peer, &query)?;
            let reply = portal.begin(&visit).await?;
            Ok((visit, reply))
        })
        .await
}

/// From a provider of the application's own.
async fn come_back(
    State(served): State<Served>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    served
        .answer(&id, async |portal| {
            let browser = known_browser(portal, &headers).map_or_else(Browser::new, Ok)?;
            let source = source(portal, &headers, peer);
            let visit = |ticket| Visit { ticket, cookies: None, source, browser: browser.clone(), returned: true };
            portal.come_back(&query.unwrap_or_default(), &browser, visit).await
        })
        .await
}

async fn sign_in(
    State(served): State<Served>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    served
        .answer(&id, async |portal| {
            let form = Fields::parse_form(&headers, body)?;
            let visit = visit(portal, &headers, peer, &form)?;
            let username = form.one("username").ok_or(PortalError::BadForm)?.to_owned();
            let password = SecretString::from(form.one("password").ok_or(PortalError::BadForm)?);
            let typed = TypedCredentials { username, password };
            let reply = portal.sign_in(&visit, typed, form.one("form_token").unwrap_or_default()).await?;
            Ok((visit, reply))
        })
        .await
}

async fn give_code(
    State(served): State<Served>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    served
        .answer(&id, async |portal| {
            let form = Fields::parse_form(&headers, body)?;
            let visit = visit(portal, &headers, peer, &form)?;
            let code = SecretString::from(form.one("code").ok_or(PortalError::BadForm)?);
            let reply = portal.give_code(&visit, &code, form.one("form_token").unwrap_or_default()).await?;
            Ok((visit, reply))
        })
        .await
}

async fn cancel(
    State(served): State<Served>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    served
        .answer(&id, async |portal| {
            let form = Fields::parse_form(&headers, body)?;
            let visit = visit(portal, &headers, peer, &form)?;
            let reply = portal.cancel(&visit, form.one("form_token").unwrap_or_default()).await?;
            Ok((visit, reply))
        })
        .await
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (headers, pages::STYLE).into_response()
}

async fn not_found(State(served): State<Served>, Extension(id): Extension<RequestId>) -> Response {
    served.failure(&id, pages::public(&PortalError::NotFound))
}

async fn method_not_allowed(State(served): State<Served>, Extension(id): Extension<RequestId>) -> Response {
    served.failure(&id, (405, "Not possible this way", "Start at the site that you want to log in to."))
}

/// HEAD too is refused: opening a ticket twice for one click helps nobody.
fn only(methods: MethodRouter<Served, Infallible>) -> MethodRouter<Served, Infallible> {
    methods.on(MethodFilter::HEAD, method_not_allowed)
}

impl Served {
    async fn answer(
        &self,
        id: &RequestId,
        ask: impl AsyncFnOnce(&Portal) -> Result<(Visit, Reply), PortalError>,
    ) -> Response {
        let answered = match &self.portal {
            Some(portal) => ask(portal).await.map(|answer| (portal, answer)),
            None => Err(PortalError::NotFound),
        };
        match answered {
            Ok((portal, (visit, reply))) => self.encode(portal, &visit, reply),
            Err(error) => {
                tracing::warn!(request = id.0, %error, "a login could not go on");
                self.failure(id, pages::public(&error))
            }
        }
    }

    fn encode(&self, portal: &Portal, visit: &Visit, reply: Reply) -> Response {
        let ticket = visit.ticket.as_str();
        let mut response = match reply {
            Reply::Redirect(address) => return redirect(&address),
            Reply::Leave(address) => redirect(&address),
            Reply::Form(page) => {
                let (status, note) = (status(page.note), page.note.map(pages::sentence));
                html(status, &Form { frame: &self.frame, page, note, ticket })
            }
            Reply::Code(page) => {
                let (status, note) = (status(page.note), page.note.map(pages::sentence));
                html(status, &Code { frame: &self.frame, page, note, ticket })
            }
            Reply::Explanation(page) => {
                let note = pages::sentence(page.note);
                html(200, &Explanation { frame: &self.frame, page, note, ticket })
            }
        };
        set_cookie(&mut response, &browser_cookie(portal, &visit.browser));
        response
    }

    fn failure(&self, RequestId(request_id): &RequestId, public: (u16, &'static str, &'static str)) -> Response {
        let (status, heading, sentence) = public;
        html(status, &Failure { frame: &self.frame, heading, sentence, request_id })
    }
}

impl Fields {
    fn parse(bytes: &[u8]) -> Self {
        Self(
            form_urlencoded::parse(bytes)
                .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
                .collect(),
        )
    }

    fn parse_form(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, PortalError> {
        let is_form = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded");
        match body {
            Ok(bytes) if headers.get(CONTENT_TYPE).is_some_and(is_form) => Ok(Self::parse(&bytes)),
            Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_))) => {
                Err(PortalError::TooLarge)
            }
            Ok(_) | Err(_) => Err(PortalError::BadForm),
        }
    }

    /// The only field of that name: two tickets in one request are none.
    fn one(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(field, _)| field == name);
        let value = found.next()?;
        found.next().is_none().then_some(value.1.as_str())
    }
}

fn visit(portal: &Portal, headers: &HeaderMap, peer: IpAddr, fields: &Fields) -> Result<Visit, PortalError> {
    let browser = known_browser(portal, headers).map_or_else(Browser::new, Ok)?;
    Ok(Visit {
        ticket: fields.one("ticket").ok_or(PortalError::NoTicket)?.parse()?,
        cookies: cookies(headers),
        source: source(portal, headers, peer),
        browser,
        returned: fields.one("back").is_some(),
    })
}

fn source(portal: &Portal, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let forwarded = headers.get_all("x-forwarded-for");
    // A value that is no text is rubbish as any other, and ends the chain.
    let forwarded: Vec<&str> = forwarded.iter().map(|value| value.to_str().unwrap_or("?")).collect();
    client_address(peer, forwarded.into_iter(), &portal.trusted_proxies)
}

/// HTTP/2 proxies may send one header per cookie (RFC 9113 8.2.3); the application expects one.
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let mut joined = (!values.is_empty()).then(|| HeaderValue::from_bytes(&values.join(&b"; "[..])).ok())??;
    joined.set_sensitive(true);
    Some(joined)
}

fn known_browser(portal: &Portal, headers: &HeaderMap) -> Option<Browser> {
    let name = cookie_name(portal);
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(Cookie::split_parse).flatten();
    cookies.find(|cookie| cookie.name() == name).and_then(|cookie| Browser::known(cookie.value()))
}

/// `__Host-` binds the cookie to this very host over TLS (RFC 6265bis 4.1.3.2). Over plain HTTP, which is for trying
/// things out on one machine, browsers refuse that prefix.
fn cookie_name(portal: &Portal) -> &'static str {
    if portal.public_url.is_https() { "__Host-homeward-portal" } else { "homeward-portal" }
}

fn browser_cookie(portal: &Portal, browser: &Browser) -> String {
    Cookie::build((cookie_name(portal), browser.as_str()))
        .path("/")
        .secure(portal.public_url.is_https())
        .http_only(true)
        .same_site(SameSite::Lax)
        .to_string()
}

fn status(note: Option<Note>) -> u16 {
    if note == Some(Note::TooManyTries) { 429 } else { 200 }
}

/// Where forms may lead. Chromium applies form-action to every redirect after a form, and these go from here to the
/// broker, to the relying party, and wherever that sends its users: hosts that this portal cannot know. So any host, but
/// only over TLS. (There is no script and no markup of strangers here that could make a form of its own.)
fn form_action(portal: Option<&Portal>) -> &'static str {
    match portal {
        Some(portal) if portal.public_url.is_https() => "'self' https:",
        Some(_) => "'self' http: https:",
        None => "'none'",
    }
}

async fn number<B>(mut request: http::Request<B>) -> http::Request<B> {
    request.extensions_mut().insert(RequestId(Uuid::new_v4().simple().to_string()));
    request
}
