//! Who comes in: recognised on every request anew, so that a session that was ended, a home that was quarantined and an edge
//! that was denied let nobody do one thing more.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, LOCATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tracing::error;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::console::{ConsoleError, ConsoleSession, Way};
use crate::registry::{SessionId, Snapshot};
use crate::sessions::{Session, SessionError};
use crate::web::console::Reception;
use crate::web::console::form::Form;
use crate::web::{FormToken, Problem, Visitor};

/// Where whoever is not recognised is sent.
const ENTER: &str = "/console/enter";

impl Problem {
    /// Nobody is signed in, or a form is not of this session.
    pub(super) const NOT_OF_THIS_SESSION: Self = Self {
        status: StatusCode::FORBIDDEN,
        title: "That was not done",
        advice: "You are signed out of the console, or the page was of another session. Open the console and try again.",
    };
    /// A home vouches for the user, and no edge makes one of ops of him.
    pub(super) const NOT_OPS: Self = Self {
        status: StatusCode::FORBIDDEN,
        title: "The console is not for you",
        advice: "Your account may not use the console of this broker. Whoever runs the broker can change that.",
    };
    /// The login is another browser's, too old, or was refused.
    pub(super) const SIGN_IN_AGAIN: Self = Self {
        status: StatusCode::BAD_REQUEST,
        title: "That sign-in did not work",
        advice: "It is too old, was begun in another browser, or your home did not let you in. Open the console and try again.",
    };
}

/// One of ops, who is signed in.
pub(super) struct Ops {
    pub(super) id: SessionId,
    pub(super) session: ConsoleSession,
    pub(super) cookie: String,
    /// Whether a page of ours led here, as far as the browser says so.
    pub(super) led_here: bool,
}

/// One of ops whose page looks by itself: that keeps no session alive.
pub(super) struct Onlooker(pub(super) Ops);

/// One of ops who sends a form of this very session.
pub(super) struct OpsForm {
    pub(super) ops: Ops,
    pub(super) form: Form,
}

/// Whether a look at the session counts as use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

impl Reception {
    async fn recognise(&self, headers: &HeaderMap, counts: Counts) -> Result<Option<Ops>, Problem> {
        let (visitor, now) = (Visitor::of(headers), self.ground.clock.now());
        let Some(cookie) = visitor.console.clone() else { return Ok(None) };
        let found = match counts {
            Counts::Yes => self.ground.console.use_by(&cookie, now).await,
            Counts::No => self.ground.console.find(&cookie, now).await,
        };
        let Some((id, session)) = found.map_err(|error| broken(&error))? else { return Ok(None) };
        if self.is_still_let_in(&session.way, &visitor, now).await? {
            let led_here = is_of_this_site(headers, &self.ground.issuer);
            return Ok(Some(Ops { id, session, cookie, led_here }));
        }
        let ended = self.ground.console.end(&id, "what it rested on is gone").await;
        ended.map_err(|error| broken(&error))?;
        Ok(None)
    }

    /// Whether what let the browser in would let it in now: its session at the broker, with the home and the edge behind.
    async fn is_still_let_in(&self, way: &Way, visitor: &Visitor, now: Timestamp) -> Result<bool, Problem> {
        let Way::Federation { user, session, .. } = way else { return Ok(true) };
        let Some(cookie) = &visitor.session else { return Ok(false) };
        let found = self.ground.sessions.find(cookie, now).await.map_err(|error| no_session(&error))?;
        let snapshot = self.ground.registry.snapshot();
        Ok(found.is_some_and(|found| {
            found.id == *session && found.session.user == *user && is_ops(&found.session, &snapshot)
        }))
    }
}

/// Whether somebody who is signed in at the broker is one of ops now.
pub(super) fn is_ops(session: &Session, snapshot: &Snapshot) -> bool {
    snapshot.makes_ops(&session.home, session.home_id, &session.identity)
}

impl FromRequestParts<Arc<Reception>> for Ops {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, reception: &Arc<Reception>) -> Result<Self, Response> {
        let found = reception.recognise(&parts.headers, Counts::Yes).await;
        found.map_err(Problem::into_response)?.ok_or_else(to_entrance)
    }
}

impl FromRequestParts<Arc<Reception>> for Onlooker {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, reception: &Arc<Reception>) -> Result<Self, Response> {
        let found = reception.recognise(&parts.headers, Counts::No).await;
        found.map_err(Problem::into_response)?.map(Self).ok_or_else(to_entrance)
    }
}

impl FromRequest<Arc<Reception>> for OpsForm {
    type Rejection = Problem;

    async fn from_request(request: Request, reception: &Arc<Reception>) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        if !is_of_this_site(&headers, &reception.ground.issuer) {
            return Err(Problem::NOT_OF_THIS_SESSION);
        }
        let ops = reception.recognise(&headers, Counts::Yes).await?.ok_or(Problem::NOT_OF_THIS_SESSION)?;
        let form = posted(request).await?;
        if FormToken::of(&ops.cookie).matches(&form.text("form_token")) {
            return Ok(Self { ops, form });
        }
        Err(Problem::NOT_OF_THIS_SESSION)
    }
}

/// The body of a form.
pub(super) async fn posted(request: Request) -> Result<Form, Problem> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.starts_with("application/x-www-form-urlencoded") {
        return Err(Problem::BAD_REQUEST);
    }
    let body = Bytes::from_request(request, &()).await.map_err(|_| Problem::TOO_LARGE)?;
    Ok(Form::read(&body))
}

/// Whether a page of this broker can have sent a form, or led here, as far as the browser says so (Fetch Metadata). One that says nothing
/// is judged by the form's token. Our own pages send no referrer, and therefore the origin `null`.
pub(super) fn is_of_this_site(headers: &HeaderMap, issuer: &Issuer) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let own = url::Url::parse(issuer.as_str()).map(|url| url.origin().ascii_serialization());
    origin == "null" || own.is_ok_and(|own| origin == own.as_str())
}

fn to_entrance() -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, ENTER)]).into_response()
}

/// What a browser is told when the console's sessions cannot be read.
pub(super) fn broken(failure: &ConsoleError) -> Problem {
    match failure {
        ConsoleError::CodeUnknown => Problem::SIGN_IN_AGAIN,
        ConsoleError::Internal(error) => {
            error!(%error, "the console cannot let anybody in");
            Problem::INTERNAL
        }
        ConsoleError::Store(error) => {
            error!(%error, "the console cannot read its sessions");
            Problem::BUSY
        }
    }
}

/// The same of those at the broker.
pub(super) fn no_session(failure: &SessionError) -> Problem {
    error!(error = %failure, "a session cannot be read");
    Problem::BUSY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_known_by_what_browsers_say() {
        let issuer = Issuer::parse("https://login.example").unwrap();
        for (name, value, expected) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "none", false),
            ("origin", "https://login.example", true),
            ("origin", "null", true),
            ("origin", "https://evil.example", false),
            ("accept", "text/html", true),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(is_of_this_site(&headers, &issuer), expected, "{name}: {value}");
        }
    }
}
