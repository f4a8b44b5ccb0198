//! What this agent shows to whoever watches: GET /metrics on a listener of its own, if the operator wants one; and GET
//! /healthz and /readyz, there and beside the portal. The portal's reverse proxy passes on nothing but the portal's path.
//!
//! What can be looked at when somebody asks is looked at then. Labels are pages, outcomes and reasons of our own.

mod definitions;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use homeward_proto::v1::LoginFailure;
use homeward_proto::v1::complete_ticket_request::Outcome;
use homeward_telemetry::metrics::{Counter, Histogram, MetricError, Picture};
use http::StatusCode;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

pub(crate) use self::watched::{Watched, serve};
use crate::clock;
use crate::identity::Identity;

/// What is counted as it happens.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    reloads: Counter,
    changes: Counter,
    logins: Counter,
    requests: Counter,
    time: Histogram,
}

impl Telemetry {
    /// Of an agent that has just started. What never happened is told as zero.
    pub(crate) fn new() -> Result<Self, MetricError> {
        let counted = Counted {
            reloads: Counter::new(&definitions::RELOADS)?,
            changes: Counter::new(&definitions::CHANGES)?,
            logins: Counter::new(&definitions::LOGINS)?,
            requests: Counter::new(&definitions::REQUESTS)?,
            time: Histogram::new(&definitions::TIME)?,
        };
        ["done", "failed"].iter().for_each(|outcome| counted.reloads.add(&[outcome], 0));
        ["identity", "login_required", "cancelled", "denied", "unavailable", "too_many_tries"]
            .iter()
            .for_each(|outcome| counted.logins.add(&[outcome], 0));
        Ok(Self(Arc::new(counted)))
    }

    /// The application was reloaded, or was not.
    pub(crate) fn reloaded(&self, worked: bool) {
        self.0.reloads.count(&[if worked { "done" } else { "failed" }]);
    }

    /// A resource is in effect, or is not for this reason.
    pub(crate) fn changed(&self, resource: &str, refused: Option<&'static str>) {
        let outcome = if refused.is_some() { "refused" } else { "applied" };
        self.0.changes.count(&[resource, outcome, refused.unwrap_or_default()]);
    }

    /// The broker knows how a login here has ended.
    pub(crate) fn login(&self, outcome: &Outcome) {
        let word = match outcome {
            Outcome::Identity(_) => "identity",
            Outcome::Failure(failure) => match LoginFailure::try_from(*failure) {
                Ok(LoginFailure::LoginRequired) => "login_required",
                Ok(LoginFailure::Cancelled) => "cancelled",
                Ok(LoginFailure::Denied) => "denied",
                Ok(LoginFailure::Unavailable) => "unavailable",
                Ok(LoginFailure::Unspecified) | Err(_) => "other",
            },
        };
        self.0.logins.count(&[word]);
    }

    /// Somebody has tried too often.
    pub(crate) fn too_many_tries(&self) {
        self.0.logins.count(&["too_many_tries"]);
    }

    /// The same pages, counted.
    pub(crate) fn around(&self, pages: Router) -> Router {
        pages.layer(from_fn_with_state(self.clone(), count))
    }

    fn page(&self, page: &str, status: StatusCode, time: Duration) {
        self.0.requests.count(&[page, status.as_str()]);
        self.0.time.observe(&[page], time);
    }

    fn tell(&self, picture: &mut Picture) {
        let counted = &*self.0;
        picture.counted(&[&counted.reloads, &counted.changes, &counted.logins, &counted.requests]);
        picture.measured(&[&counted.time]);
    }
}

async fn count(State(telemetry): State<Telemetry>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let page = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    telemetry.page(page.as_ref().map_or("none", MatchedPath::as_str), response.status(), began.elapsed());
    response
}

/// Whether the process answers, and whether its identity is alive: without one it is of no use, however well it runs.
pub(crate) fn health(identity: Arc<Identity>, now: fn() -> OffsetDateTime) -> Router {
    let ready = async move || match identity.is_good(now()) {
        true => "ok\n".into_response(),
        false => {
            let ended = clock::rfc3339(identity.expires_at());
            let why = "the certificate of this instance is no longer good: `homeward-agent doctor` says what to do";
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "problem": why, "certificate_ends": ended })))
                .into_response()
        }
    };
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::test_authority::TestAuthority;

    async fn status(pages: Router, path: &str) -> StatusCode {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        pages.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn an_agent_whose_certificate_has_ended_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(TestAuthority::new(clock::now()).enrol(folder.path(), String::new()));
        assert_eq!(status(health(identity.clone(), clock::now), "/readyz").await, StatusCode::OK);
        let later = || clock::now() + time::Duration::HOUR;
        assert_eq!(status(health(identity.clone(), later), "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(health(identity, later), "/healthz").await, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_page_is_counted_by_its_name() {
        let telemetry = Telemetry::new().unwrap();
        let pages = telemetry.around(Router::new().route("/homeward/{page}", get(async || "here")));
        for path in ["/homeward/a", "/homeward/b", "/etc/passwd"] {
            status(pages.clone(), path).await;
        }
        let mut picture = Picture::default();
        telemetry.tell(&mut picture);
        let text = picture.text().unwrap();
        assert!(text.contains("portal_requests_total{page=\"/homeward/{page}\",status=\"200\"} 2"), "{text}");
        assert!(!text.contains("passwd"), "{text}");
    }
}
