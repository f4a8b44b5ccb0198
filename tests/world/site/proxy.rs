//! What stands before a site: it passes the portal's path on to the agent, and may lose cookies.

use std::sync::atomic::Ordering;

use anyhow::Context as _;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use super::{Failure, Shop};

/// Longest request that is passed on.
const MAX_BODY: usize = 64 * 1024;

/// Passes a request to the portal as a reverse proxy does.
pub(super) async fn to_portal(State(shared): Shop, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, MAX_BODY).await.map_err(anyhow::Error::from)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    headers.insert("x-forwarded-for", header::HeaderValue::from_static("127.0.0.1"));
    let sent = shared.http.request(parts.method, format!("http://127.0.0.1:{}{path}", shared.portal));
    let answer = sent.headers(headers).body(body).send().await.context("the agent's portal does not answer")?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != header::TRANSFER_ENCODING) {
        response = response.header(name, value);
    }
    let body = answer.bytes().await.map_err(anyhow::Error::from)?;
    Ok(response.body(Body::from(body)).map_err(anyhow::Error::from)?)
}

/// What a reverse proxy may do to answers. The agent's own requests come past it, and say how browsers come.
pub(super) async fn hide_cookies(State(shared): Shop, request: Request, next: Next) -> Response {
    let of_browser = !request.headers().contains_key("x-forwarded-proto");
    let mut response = next.run(request).await;
    if of_browser && shared.hides_cookies.load(Ordering::Relaxed) {
        response.headers_mut().remove(header::SET_COOKIE);
    }
    response
}
