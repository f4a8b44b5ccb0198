//! Logging out of the site, and being logged out of it.
//!
//! What a browser does: `GET /logout` has a form that ends its session here and nowhere else; `GET /logout-everywhere` ends
//! it and goes on to the broker (OpenID Connect RP-Initiated Logout 1.0), which sends the browser to `/signed-out`.
//! What the broker does: `POST /backchannel-logout`, or the browser's frame with `GET /frontchannel-logout`.
//! What the agent does by the recipe: `POST /api/end-sessions`. For tests to look at: `GET /api/sessions`, and
//! [`Site::sessions`](super::Site::sessions).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::logout_token::{self, Expected, Taken};
use super::sessions::no_cookie;
use super::{Failure, Shared, Shop, cookie_of, now, page};

/// A logout token that came.
#[derive(Clone, Debug)]
pub struct HeardLogout {
    /// As it came.
    pub token: String,
    /// How many sessions it ended, or why it was refused.
    pub ended: Result<usize, String>,
}

/// What is wrong with the back channel, once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upset {
    /// 503, and the token is not looked at.
    Fails,
    /// The answer comes late; whoever hangs up before has ended nothing.
    Slow(Duration),
}

/// What the site knows of logouts that came from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Logouts {
    pub(super) heard: Mutex<Vec<HeardLogout>>,
    pub(super) front_channel: Mutex<Vec<String>>,
    pub(super) upsets: Mutex<VecDeque<Upset>>,
    taken: Taken,
}

pub(super) async fn ask() -> Html<String> {
    page("Sign out", "<form method=\"post\" action=\"/logout\"><p><button>Sign out here</button></p></form>")
}

/// Ends the browser's session here. The recipe's sign_out does this too.
pub(super) async fn here(State(shared): Shop, headers: HeaderMap) -> Response {
    drop(shared.sessions.end(&headers));
    ([no_cookie()], Redirect::to("/")).into_response()
}

/// RP-Initiated Logout 2. A link, so that a test follows it like any other; a site with something to lose asks first.
pub(super) async fn everywhere(State(shared): Shop, headers: HeaderMap) -> Result<Response, Failure> {
    let Some(session) = shared.sessions.end(&headers) else { return Ok(Redirect::to("/").into_response()) };
    let Some(hint) = session.id_token else { return Ok(([no_cookie()], Redirect::to("/")).into_response()) };
    let credentials = shared.read_credentials()?;
    let metadata = shared.http.get(format!("{}/.well-known/openid-configuration", credentials.issuer)).send().await;
    let metadata: Value = metadata.map_err(anyhow::Error::from)?.json().await.map_err(anyhow::Error::from)?;
    let endpoint = metadata["end_session_endpoint"].as_str().context("the broker has no end_session_endpoint")?;
    let state = Uuid::new_v4().to_string();
    let parameters = [
        ("id_token_hint", hint.as_str()),
        ("client_id", &credentials.client_id),
        ("post_logout_redirect_uri", &format!("{}/signed-out", shared.public_url)),
        ("state", &state),
    ];
    let address = Url::parse_with_params(endpoint, parameters).map_err(anyhow::Error::from)?;
    let remembered = (header::SET_COOKIE, format!("site-logout={state}; Path=/; HttpOnly; SameSite=Lax"));
    Ok((AppendHeaders([no_cookie(), remembered]), Redirect::to(address.as_str())).into_response())
}

#[derive(Deserialize)]
pub(super) struct SignedOut {
    state: Option<String>,
}

/// Where the broker sends the browser back to (RP-Initiated Logout 3).
pub(super) async fn signed_out(headers: HeaderMap, Query(answer): Query<SignedOut>) -> Result<Html<String>, Failure> {
    let remembered = cookie_of(&headers, "site-logout");
    if remembered.is_some() && remembered != answer.state {
        Err(anyhow!("the logout's state is another one"))?;
    }
    Ok(page("Signed out", "<p id=\"signed-out\">You are signed out here and at Homeward.</p>"))
}

#[derive(Deserialize)]
pub(super) struct FrontChannel {
    iss: Option<String>,
    sid: Option<String>,
}

/// Front-Channel Logout 2. The session is found by `sid`: in a frame of another site most browsers send no cookie.
pub(super) async fn front_channel(
    State(shared): Shop,
    headers: HeaderMap,
    Query(query): Query<FrontChannel>,
) -> Result<Response, Failure> {
    let credentials = shared.read_credentials()?;
    let said = query.sid.clone().unwrap_or_default();
    shared.logouts.front_channel.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    match (query.iss, query.sid) {
        (Some(issuer), Some(sid)) if issuer == credentials.issuer => {
            shared.sessions.end_where(|session| session.sid() == Some(&sid));
        }
        (None, None) => drop(shared.sessions.end(&headers)),
        _ => Err(anyhow!("iss and sid belong together, and iss is the broker"))?,
    }
    // 2: the answer must not come from a cache.
    Ok(([(header::CACHE_CONTROL, "no-store")], page("Signed out", "<p>Signed out.</p>")).into_response())
}

#[derive(Deserialize)]
pub(super) struct BackChannel {
    logout_token: String,
}

/// Back-Channel Logout 2.5 to 2.8.
pub(super) async fn back_channel(State(shared): Shop, Form(form): Form<BackChannel>) -> Response {
    let upset = shared.logouts.upsets.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    match upset {
        Some(Upset::Fails) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Upset::Slow(wait)) => tokio::time::sleep(wait).await,
        None => {}
    }
    let ended = shared.log_out(&form.logout_token).await.map_err(|error| format!("{error:#}"));
    let heard = HeardLogout { token: form.logout_token, ended: ended.clone() };
    shared.logouts.heard.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    match ended {
        // Nobody to log out is a success too (2.7).
        Ok(_) => (StatusCode::OK, no_store).into_response(),
        Err(why) => {
            let body = Json(json!({"error": "invalid_request", "error_description": why}));
            (StatusCode::BAD_REQUEST, no_store, body).into_response()
        }
    }
}

impl Shared {
    async fn log_out(&self, token: &str) -> anyhow::Result<usize> {
        let (credentials, metadata) = self.provider().await?;
        let expected = Expected {
            issuer: &credentials.issuer,
            client_id: &credentials.client_id,
            keys: metadata.jwks(),
            now: now(),
        };
        let claims = logout_token::verify(token, &expected, &self.logouts.taken)?;
        let (subject, sid) = (claims["sub"].as_str(), claims["sid"].as_str());
        Ok(self.sessions.end_where(|session| match sid {
            Some(sid) => session.sid() == Some(sid) && (subject.is_none() || session.subject() == subject),
            None => subject.is_some() && session.subject() == subject,
        }))
    }
}

/// Whose sessions: of a user as the broker's ID tokens name it, or of an account of this site.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    subject: Option<String>,
    session_id: Option<String>,
    account: Option<String>,
}

/// What the recipe's steps call. This site knows sessions of the broker, so it ends that one alone if it is named.
pub(super) async fn end_sessions(State(shared): Shop, Json(whose): Json<Whose>) -> Json<Value> {
    let sid = whose.session_id.filter(|sid| !sid.is_empty());
    let ended = shared.sessions.end_where(|session| match (&whose.subject, &whose.account) {
        (Some(subject), None) => {
            session.subject() == Some(subject) && (sid.is_none() || session.sid() == sid.as_deref())
        }
        (None, Some(account)) => session.account() == Some(account),
        _ => false,
    });
    Json(json!({"ended": ended}))
}

pub(super) async fn list_sessions(State(shared): Shop) -> Json<Value> {
    let shown = |session: &super::Session| {
        json!({
            "username": session.username(), "account": session.account(),
            "subject": session.subject(), "sid": session.sid(),
        })
    };
    Json(shared.sessions.list().iter().map(shown).collect())
}
