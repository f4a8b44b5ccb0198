//! The boundary: what happens to every HTTP request before and after its handler.
//!
//! Before: an id, the client's address, limits. After: the id as a header, security headers, and a page for a
//! [`Problem`]. Addresses are never made from `Host` or `X-Forwarded-*`: they come from the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::audit::{Audit, Event, Origin};
use crate::config::{Issuer, TrustedProxies};
use crate::telemetry::Telemetry;
use crate::web::pages::{ErrorPage, Problem};

/// Largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Longest address, in bytes: an authorization request of the greatest allowed size with every byte escaped.
const MAX_URI: usize = 16 * 1024;

/// Most bytes of headers. The listener looks at its own limit between two reads, so that more may come in at once.
const MAX_HEADERS: usize = super::listener::HEADER_BYTES;

/// Longest time that a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Shown on error pages and logged with every event of the request.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// For everything but the home picker, which must let its form go on to the homes.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// What the boundary must know.
#[derive(Clone, Debug)]
pub struct Boundary {
    proxies: TrustedProxies,
    https: bool,
    audit: Option<Audit>,
    telemetry: Option<Telemetry>,
}

/// Where a request comes from: an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl Boundary {
    /// For pages below this issuer, behind these proxies.
    pub fn new(issuer: &Issuer, proxies: TrustedProxies) -> Self {
        Self { proxies, https: issuer.as_str().starts_with("https:"), audit: None, telemetry: None }
    }

    /// Where it is counted who asks for what.
    pub fn measured(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Some(telemetry), ..self }
    }

    /// Where things are decided: who comes waits while nothing could be noted, and who is refused is.
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit: Some(audit), ..self }
    }

    /// Puts it around all routes of a router.
    pub fn around(self, router: Router) -> Router {
        router.layer(DefaultBodyLimit::max(MAX_BODY)).layer(middleware::from_fn_with_state(self, pass))
    }

    /// The same, where no request comes by TLS.
    pub fn over_plain_http(self) -> Self {
        Self { https: false, ..self }
    }

    /// The same, where nothing is decided.
    pub fn unaudited(self) -> Self {
        Self { audit: None, ..self }
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let source = self.client_address(&request).0;
        let Some(audit) = &self.audit else { return next.run(request).await };
        let answered = async {
            audit.admit().await;
            let mut response = next.run(request).await;
            if let Some(refused) = response.extensions_mut().remove::<Event>() {
                audit.note(refused);
            }
            response
        };
        Origin::Web(source).of(answered).await
    }

    /// Whether browsers may be told to come by https only (RFC 6797 7.2: never in an answer over plain HTTP). What is public
    /// is https if the issuer is; only a trusted proxy knows better, of one request.
    fn is_secure(&self, request: &Request) -> bool {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let proxied = peer.is_some_and(|ConnectInfo(peer)| self.proxies.contains(peer.ip()));
        // The last one is what the proxy nearest to us says.
        let said = request.headers().get_all(X_FORWARDED_PROTO).iter().next_back();
        let said = said.and_then(|said| said.to_str().ok()?.rsplit(',').next());
        self.https && said.is_none_or(|said| !proxied || said.trim().eq_ignore_ascii_case("https"))
    }

    fn client_address(&self, request: &Request) -> ClientAddress {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        // Several headers are one list (RFC 9110 5.2). What is no text hides what stands before it, as rubbish does.
        let forwarded = request.headers().get_all(X_FORWARDED_FOR).iter();
        let hops: Vec<&str> = forwarded.map(|value| value.to_str().unwrap_or("?")).collect();
        let hops = (!hops.is_empty()).then(|| hops.join(","));
        ClientAddress(self.proxies.client(peer, hops.as_deref()))
    }
}

/// Notes where a request comes from, for a listener that is not [`crate::web::listener`].
pub fn note_peer<B>(request: &mut http::Request<B>, peer: SocketAddr) {
    request.extensions_mut().insert(ConnectInfo(peer));
}

async fn pass(State(boundary): State<Boundary>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    // Of our own making; an address that is none has none.
    let asked = (request.extensions().get::<MatchedPath>().cloned(), request.method().clone());
    let id = Uuid::new_v4().simple().to_string();
    let (address, secure) = (boundary.client_address(&request), boundary.is_secure(&request));
    let span = info_span!("http", request = %id, method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(address);
    let mut response = match excess(&request) {
        Some(problem) => problem.into_response(),
        None => match tokio::time::timeout(TIMEOUT, boundary.answer(request, next).instrument(span.clone())).await {
            Ok(response) => response,
            Err(_) => Problem::BUSY.into_response(),
        },
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let page = ErrorPage { problem, request_id: &id };
        let allow = response.headers_mut().remove(http::header::ALLOW);
        let opener = response.headers_mut().remove(CROSS_ORIGIN_OPENER_POLICY);
        response = page.into_response();
        response.headers_mut().extend(allow.map(|allow| (http::header::ALLOW, allow)));
        response.headers_mut().extend(opener.map(|opener| (CROSS_ORIGIN_OPENER_POLICY, opener)));
    }
    span.in_scope(|| tracing::debug!(address = %address.0, status = response.status().as_u16(), "answered"));
    if let Some(telemetry) = &boundary.telemetry {
        let (route, method) = &asked;
        let route = route.as_ref().map_or("none", MatchedPath::as_str);
        telemetry.http((route, method.as_str()), response.status().as_u16(), began.elapsed());
    }
    protect(response.headers_mut(), secure);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}

/// What is too much, or ambiguous, before anything reads it.
fn excess(request: &Request) -> Option<Problem> {
    let headers = request.headers();
    // RFC 9112 3.2: more than one Host is how one proxy is made to see another site than the next.
    if headers.get_all(HOST).iter().count() > 1 {
        return Some(Problem::BAD_REQUEST);
    }
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if bytes > MAX_HEADERS {
        return Some(Problem::HEADERS_TOO_LONG);
    }
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > MAX_URI) {
        return Some(Problem::ADDRESS_TOO_LONG);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length > MAX_BODY).then_some(Problem::TOO_LARGE)
}

/// For what comes by on the way of a login. Relying parties open that in a window of its own (OpenID Connect Core 3.1.2.1,
/// `display=popup`; AList does), and take from it what it came back with. One answer with `same-origin`, a redirect too,
/// would cut that window off from the one that waits for it, for good.
pub async fn in_any_window(mut response: Response) -> Response {
    response.headers_mut().insert(CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("unsafe-none"));
    response
}

fn protect(headers: &mut HeaderMap, https: bool) {
    let fixed = HeaderValue::from_static;
    // Set by the handler where it knows better.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(fixed(POLICY));
    headers.entry(CACHE_CONTROL).or_insert(fixed("no-store"));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    headers.entry(CROSS_ORIGIN_OPENER_POLICY).or_insert(fixed("same-origin"));
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, fixed("max-age=31536000"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    /// What this boundary makes of headers that this peer sends.
    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        note_peer(&mut request, format!("{peer}:1").parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        request
    }

    fn boundary(issuer: &str) -> Boundary {
        let proxies = vec!["192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap()];
        Boundary::new(&Issuer::parse(issuer).unwrap(), TrustedProxies::new(proxies))
    }

    #[test]
    fn only_a_trusted_proxy_says_who_comes() {
        let client = |peer: &str, headers: &[(&str, &str)]| {
            boundary("https://a.example").client_address(&request(peer, headers)).0.to_string()
        };
        let (of, forwarded) = ("x-forwarded-for", "forwarded");
        assert_eq!(client("192.0.2.1", &[(of, "198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("198.51.100.1", &[(of, "198.51.100.7")]), "198.51.100.1", "a stranger says so");
        assert_eq!(
            client("192.0.2.1", &[(of, "127.0.0.1, 198.51.100.7")]),
            "198.51.100.7",
            "a client has made it longer"
        );
        assert_eq!(client("192.0.2.1", &[(of, "198.51.100.7"), (of, "192.0.2.2")]), "198.51.100.7", "two proxies");
        assert_eq!(client("192.0.2.1", &[(of, "198.51.100.7, x")]), "192.0.2.1", "rubbish ends the search");
        assert_eq!(client("192.0.2.1", &[(of, "198.51.100.7:4711")]), "192.0.2.1", "a port is no part of an address");
        // Nobody takes RFC 7239 and this header both away: what comes by the one that is not looked at is the client's own.
        assert_eq!(client("192.0.2.1", &[(forwarded, "for=198.51.100.7")]), "192.0.2.1");
    }

    #[test]
    fn browsers_are_told_to_stay_with_https_unless_they_came_without() {
        let secure =
            |issuer: &str, peer: &str, headers: &[(&str, &str)]| boundary(issuer).is_secure(&request(peer, headers));
        let (https, proto) = ("https://a.example", "x-forwarded-proto");
        assert!(secure(https, "192.0.2.1", &[]) && secure(https, "192.0.2.1", &[(proto, "HTTPS")]));
        assert!(!secure(https, "192.0.2.1", &[(proto, "http")]));
        assert!(!secure(https, "192.0.2.1", &[(proto, "https, http")]), "a client has made it longer");
        assert!(secure(https, "198.51.100.1", &[(proto, "http")]), "a stranger says so");
        assert!(!secure("http://localhost", "192.0.2.1", &[(proto, "https")]));
        assert!(!boundary(https).over_plain_http().is_secure(&request("192.0.2.1", &[(proto, "https")])));
    }
}
