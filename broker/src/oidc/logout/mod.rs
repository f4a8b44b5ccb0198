//! `/logout`: the end of a session at the user's wish (OpenID Connect RP-Initiated Logout 1.0).
//!
//! 1. A relying party sends the browser with an ID token as a hint. If that means the user who is signed in here, the
//!    session ends at once; else the user is asked, because any page can send a browser here.
//! 2. `end_session` ends it: one commit, and the outbox tells everybody.
//! 3. [`Departure`] is what the browser gets: frames for relying parties with a front channel (OpenID Connect
//!    Front-Channel Logout 1.0), and the way back to an address that was registered, if one was asked for.
//!
//! Invariants: nobody is logged out by an address alone, nobody is sent to an address that its client has not registered
//! as it is written, and neither by a hint that we did not sign.

mod departure;
mod request;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use tracing::info;

use crate::clock::Timestamp;
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::{self, Parameters};
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::Snapshot;
use crate::sessions::{Ended, FoundSession, TellHome};
use crate::web::{FormToken, SignOutPage, Visitor};

pub(super) use departure::Departure;
use request::{Back, LogoutRequest};

/// GET: the request is in the query.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    provider.log_out(&parameters, &Visitor::of(&headers), provider.clock.now()).await
}

/// POST: the request is in the body.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let visitor = Visitor::of(&headers);
    let as_get = || parameters::as_get(&provider.issuer.address(path::LOGOUT), &body);
    if let Some(to) = visitor.session.is_none().then(as_get).flatten() {
        return Ok((StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response());
    }
    provider.log_out(&parameters, &visitor, provider.clock.now()).await
}

/// POST /logout/confirmed: the user says yes.
pub(super) async fn confirmed(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    provider.log_out_confirmed(&parameters, &Visitor::of(&headers), provider.clock.now()).await
}

impl Provider {
    async fn log_out(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let snapshot = self.registry.snapshot();
        let request = LogoutRequest::read(parameters, &snapshot, self.signer.keys(), &self.issuer);
        let LogoutRequest { hint, back, doubtful } = request.map_err(|_| CallbackError::Parameters)?;
        match (self.signed_in(visitor, now).await?, hint) {
            (None, Some(_)) => Ok(Departure::of_nobody().to(back).into_response()),
            // Without a hint nobody knows who sends the browser: it goes on by a click.
            (None, None) => Ok(Departure::of_nobody().to(back).by_hand().into_response()),
            (Some((found, _)), Some(hint)) if hint.fits(&found) => {
                info!(session = %found.id, "a relying party logs its user out");
                let ended = self.end_session(&found, &snapshot, now).await?;
                Ok(Departure::of(&ended, &snapshot, &self.issuer).to(back).into_response())
            }
            (Some((found, token)), _) => Ok(confirmation(&found, &token, back, doubtful, &snapshot).into_response()),
        }
    }

    async fn log_out_confirmed(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let field = |name| parameters.get(name).map_err(|_| CallbackError::Parameters);
        let Some((found, token)) = self.signed_in(visitor, now).await? else {
            return Ok(Departure::of_nobody().into_response());
        };
        self.check_form(&token, parameters)?;
        let snapshot = self.registry.snapshot();
        let back = match (field("client_id")?, field("post_logout_redirect_uri")?) {
            (Some(client), Some(address)) => Back::of(client, address, field("state")?, &snapshot),
            _ => None,
        };
        let ended = self.end_session(&found, &snapshot, now).await?;
        Ok(Departure::of(&ended, &snapshot, &self.issuer).to(back).into_response())
    }

    /// The session of the browser, and what its forms carry.
    pub(super) async fn signed_in(
        &self,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Option<(FoundSession, FormToken)>, BrowserError> {
        let Some(cookie) = &visitor.session else { return Ok(None) };
        let found = self.sessions.find(cookie, now).await?;
        Ok(found.map(|found| (found, FormToken::of(cookie))))
    }

    /// The home is told too: else whoever comes next to this browser would be signed in again without being asked.
    async fn end_session(
        &self,
        found: &FoundSession,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, BrowserError> {
        Ok(self.sessions.end(std::slice::from_ref(&found.id), TellHome::Yes, snapshot, now).await?)
    }
}

/// The question whether the user wants to leave.
fn confirmation(
    found: &FoundSession,
    token: &FormToken,
    back: Option<Back>,
    doubtful: bool,
    snapshot: &Snapshot,
) -> SignOutPage {
    let session = &found.session;
    let home = snapshot.home(&session.home).map_or(session.home.as_str(), |home| home.display_name);
    let asks = back.as_ref().and_then(|back| snapshot.client(back.client.as_str()));
    SignOutPage {
        user: session.identity.username.clone(),
        home: home.to_owned(),
        home_is_told: snapshot.upstream(&session.home).is_none(),
        relying_party: asks.map(|client| client.display_name.to_owned()),
        doubtful,
        action: path::LOGOUT_CONFIRMED,
        account: path::ACCOUNT,
        form_token: token.as_str().to_owned(),
        back: back.map(|back| (back.client.to_string(), back.address, back.state)),
    }
}
