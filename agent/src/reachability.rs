//! Whether a request to the public address arrives at this very agent, and what the reverse proxy made of it.
//!
//! 1. `doctor` asks `<portal path>health` with a nonce and a tag over it, under a key that only this instance has.
//! 2. The agent answers with what it saw of the request ([`Seen`]), and a tag over nonce and answer.
//! 3. Whoever answers without a right tag is somebody else: another agent behind the same proxy, the application itself,
//!    or a page that says 200 to everything.
//!
//! Strangers, who have no tag, get one fixed word: neither the instance's name nor the addresses of its proxies.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, COOKIE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::PortalConfig;
use crate::home::http::Peer;
use crate::home::source::{client_address, is_trusted};
use crate::random::{self, NoRandomness};

/// The page, below the portal's path.
pub(crate) const PAGE: &str = "health";
/// The query parameter with nonce and tag.
pub(crate) const PARAMETER: &str = "probe";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What tells this instance's agent from all others: the same in every process that can read the identity.
#[derive(Clone)]
pub(crate) struct ReachabilityKey(hmac::Key);

/// What the agent saw of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Who connected: the reverse proxy, as a rule.
    pub(crate) peer: IpAddr,
    /// Whether its X-Forwarded-For is believed.
    pub(crate) trusted: bool,
    /// The addresses in X-Forwarded-For, in order.
    pub(crate) forwarded_for: Vec<String>,
    /// X-Forwarded-Proto.
    pub(crate) forwarded_proto: Option<String>,
    /// Whom the agent takes the browser for.
    pub(crate) client: IpAddr,
    /// Whether a cookie came along.
    pub(crate) cookie: bool,
}

/// One question, and what its answer is checked with.
#[derive(Debug)]
pub(crate) struct Probe {
    nonce: String,
    key: ReachabilityKey,
}

/// An answer with its tag. `seen` is text, so that the tag is over the very bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    seen: String,
    tag: String,
}

#[derive(Debug, Deserialize)]
struct Asked {
    probe: Option<String>,
}

#[derive(Debug)]
struct Served {
    key: ReachabilityKey,
    trusted_proxies: Vec<IpNet>,
}

/// The page.
pub(crate) fn routes(portal: &PortalConfig, key: ReachabilityKey) -> Router {
    let served = Served { key, trusted_proxies: portal.trusted_proxies.clone() };
    Router::new().route(&format!("{}{PAGE}", portal.path), get(answer)).with_state(Arc::new(served))
}

async fn answer(
    State(served): State<Arc<Served>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let probe = query.ok().and_then(|Query(asked)| asked.probe);
    let nonce = probe.as_deref().and_then(|probe| served.key.nonce_of(probe));
    let body = match nonce {
        Some(nonce) => json!(served.key.answer(nonce, &seen(&served, peer, &headers))),
        None => json!({ "agent": "homeward" }),
    };
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Json(body)).into_response()
}

fn seen(served: &Served, peer: IpAddr, headers: &HeaderMap) -> Seen {
    let forwarded: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    let proxies = &served.trusted_proxies;
    Seen {
        peer: peer.to_canonical(),
        trusted: is_trusted(peer, proxies),
        client: client_address(peer, forwarded.iter().copied(), proxies),
        forwarded_for: forwarded.iter().flat_map(|value| value.split(',')).map(|one| one.trim().to_owned()).collect(),
        forwarded_proto: headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).map(str::to_owned),
        cookie: headers.contains_key(COOKIE),
    }
}

impl ReachabilityKey {
    /// From a secret of the instance. What is derived says nothing of the secret.
    pub(crate) fn derive(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, b"homeward-agent reachability");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A new question.
    pub(crate) fn probe(&self) -> Result<Probe, NoRandomness> {
        Ok(Probe { nonce: URL_SAFE_NO_PAD.encode(random::bytes::<16>()?), key: self.clone() })
    }

    /// The nonce, if its tag is right.
    fn nonce_of<'a>(&self, probe: &'a str) -> Option<&'a str> {
        let (nonce, tag) = probe.split_once('.')?;
        self.is_tag(&["ask", nonce], tag).then_some(nonce)
    }

    fn answer(&self, nonce: &str, seen: &Seen) -> Answer {
        let seen = json!(seen).to_string();
        Answer { tag: self.tag(&["answer", nonce, &seen]), seen }
    }

    fn tag(&self, parts: &[&str]) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, joined(parts).as_bytes()))
    }

    fn is_tag(&self, parts: &[&str], tag: &str) -> bool {
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
        hmac::verify(&self.0, joined(parts).as_bytes(), &tag).is_ok()
    }
}

impl Probe {
    /// The value of the query parameter.
    pub(crate) fn value(&self) -> String {
        format!("{}.{}", self.nonce, self.key.tag(&["ask", &self.nonce]))
    }

    /// What the agent saw, if it is this instance's that answered.
    pub(crate) fn read(&self, body: &Value) -> Option<Seen> {
        let answer = Answer::deserialize(body).ok()?;
        let ours = self.key.is_tag(&["answer", &self.nonce, &answer.seen], &answer.tag);
        serde_json::from_str(&answer.seen).ok().filter(|_| ours)
    }
}

/// Only the last part may contain the separator.
fn joined(parts: &[&str]) -> String {
    parts.join("\n")
}

impl fmt::Debug for ReachabilityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReachabilityKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(key: &ReachabilityKey, query: &str, headers: &[(&str, &str)]) -> Value {
        let portal = PortalConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            path: "/homeward/".to_owned(),
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        };
        let peer = Peer("127.0.0.1".parse().unwrap());
        let router = routes(&portal, key.clone()).layer(Extension(peer));
        let mut request = Request::get(format!("/homeward/health{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn this_instances_agent_tells_what_arrived() {
        let key = ReachabilityKey::derive(b"alpha");
        let probe = key.probe().unwrap();
        let query = format!("?probe={}", probe.value());
        let headers =
            [("x-forwarded-for", "192.0.2.7, 203.0.113.9"), ("x-forwarded-proto", "https"), ("cookie", "a=b")];
        let seen = probe.read(&ask(&key, &query, &headers).await).unwrap();
        assert_eq!((seen.trusted, seen.client.to_string()), (true, "203.0.113.9".to_owned()));
        assert_eq!(seen.forwarded_for, ["192.0.2.7", "203.0.113.9"]);
        assert_eq!((seen.forwarded_proto.as_deref(), seen.cookie), (Some("https"), true));
        let other_question = key.probe().unwrap();
        assert_eq!(other_question.read(&ask(&key, &query, &[]).await), None, "an answer is good for one question");
    }

    #[tokio::test]
    async fn strangers_and_other_agents_learn_and_prove_nothing() {
        let (ours, theirs) = (ReachabilityKey::derive(b"alpha"), ReachabilityKey::derive(b"beta"));
        let probe = ours.probe().unwrap();
        for query in ["", "?probe=", "?probe=x.y", "?probe=nonce", &format!("?probe={}x", probe.value())] {
            assert_eq!(ask(&ours, query, &[]).await, json!({ "agent": "homeward" }), "{query}");
        }
        let at_theirs = ask(&theirs, &format!("?probe={}", probe.value()), &[]).await;
        assert_eq!(at_theirs, json!({ "agent": "homeward" }));
        assert_eq!(probe.read(&at_theirs), None);
        assert!(!format!("{ours:?} {probe:?}").contains(&URL_SAFE_NO_PAD.encode(b"alpha")));
    }
}
