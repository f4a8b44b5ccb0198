//! The page over HTTP: whoever asks is looked at, then it is decode, call, encode.

use std::sync::Arc;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use ::http::{HeaderValue, StatusCode};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;
use url::form_urlencoded;
use uuid::Uuid;

use super::OperatorPage;
use super::door::Shut;
use super::pages::{self, Failure, Frame, NO_PAGE, Page};
use crate::answer::{harden, html, redirect};
use crate::clock;
use crate::home::http::REQUEST_TIMEOUT;
use crate::home::listener::serve as serve_pages;

/// Largest form: a token.
const LARGEST_BODY: usize = 4 * 1024;
/// After so many seconds a page that waits for the doctor looks again: rarely enough to be read meanwhile.
const AGAIN: u64 = 5;
/// Back to the page from `doctor` beside it, at whatever path a reverse proxy has it.
const BACK: &str = "./#doctor";
/// A window that another page has opened is cut off from it, and no other page may load what is here.
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const LOADER: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Serves until nobody waits for it any more, if there is a listener.
pub(crate) async fn serve(listener: Option<TcpListener>, page: OperatorPage) -> std::io::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    serve_pages(listener, router(Arc::new(page)), &[], std::future::pending()).await
}

pub(super) fn router(page: Arc<OperatorPage>) -> Router {
    Router::new()
        .route("/", get(show))
        // Whoever loads the answer of a form again means the page.
        .route("/doctor", post(examine).get(async || redirect(BACK)))
        .route("/style.css", get(style))
        .fallback(async || failure(NO_PAGE))
        .method_not_allowed_fallback(async || failure(NO_PAGE))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIMEOUT))
        .layer(middleware::from_fn_with_state(page.clone(), admit))
        .layer(middleware::map_response(close))
        .with_state(page)
}

async fn admit(State(page): State<Arc<OperatorPage>>, request: Request, next: Next) -> Response {
    match page.door.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(shut) => refused(&shut),
    }
}

async fn show(State(page): State<Arc<OperatorPage>>) -> Response {
    let sheet = page.sheet(clock::now()).await;
    html(200, &Page { frame: Frame::HERE, sheet: &sheet, form_token: page.door.token(), again: AGAIN })
}

async fn examine(State(page): State<Arc<OperatorPage>>, body: String) -> Response {
    let token = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "form_token");
    match page.examine(&token.map(|(_, token)| token).unwrap_or_default(), clock::now()).await {
        Ok(()) => redirect(BACK),
        Err(shut) => refused(&shut),
    }
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "private, max-age=3600")];
    (headers, pages::STYLE).into_response()
}

fn refused(shut: &Shut) -> Response {
    tracing::warn!(error = %shut, "a request for the operator's page is refused");
    failure(pages::public(shut))
}

fn failure((status, heading, sentence): (u16, &'static str, &'static str)) -> Response {
    let request_id = Uuid::new_v4().simple().to_string();
    html(status, &Failure { frame: Frame::HERE, heading, sentence, request_id })
}

async fn close(response: Response) -> Response {
    let mut response = harden(response, "'self'").await;
    let headers = response.headers_mut();
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    headers.insert(LOADER, HeaderValue::from_static("same-origin"));
    response
}
