//! One keep-alive HTTP/1.1 connection.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use axum::body::{Bytes, to_bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, LOCATION};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A connection to one server.
pub(crate) struct Connection {
    sender: SendRequest<axum::body::Body>,
    host: String,
}

/// An answer, read whole.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Where it sends the browser.
    pub(crate) location: Option<String>,
    body: Bytes,
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn open(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: host.to_owned() })
    }

    /// GET, with a cookie or a bearer token if there is one.
    ///
    /// # Errors
    /// When it is not answered.
    pub(crate) async fn get(&mut self, path: &str, cookie: &str, bearer: &str) -> anyhow::Result<Answer> {
        let mut request = Request::get(path).header(HOST, &self.host);
        if !cookie.is_empty() {
            request = request.header(COOKIE, cookie);
        }
        if !bearer.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        self.send(request.body(axum::body::Body::empty())?).await
    }

    /// POST of a form, with the client's authentication.
    ///
    /// # Errors
    /// When it is not answered.
    pub(crate) async fn post(&mut self, path: &str, basic: &str, form: String) -> anyhow::Result<Answer> {
        let request = Request::post(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, basic)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(form.into())?).await
    }

    async fn send(&mut self, request: Request<axum::body::Body>) -> anyhow::Result<Answer> {
        self.sender.ready().await?;
        let answer: http::Response<Incoming> = self.sender.send_request(request).await?;
        let (parts, body) = answer.into_parts();
        let location = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = to_bytes(axum::body::Body::new(body), MAX_ANSWER).await?;
        Ok(Answer { status: parts.status, location, body })
    }
}

impl Answer {
    /// The body as JSON, if all is well.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        self.expect_ok()?;
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }

    /// That all is well.
    ///
    /// # Errors
    /// When it is not, with what was said.
    pub(crate) fn expect_ok(&self) -> anyhow::Result<()> {
        if self.status != StatusCode::OK {
            bail!("{} {:?} {}", self.status, self.location, String::from_utf8_lossy(&self.body));
        }
        Ok(())
    }
}
