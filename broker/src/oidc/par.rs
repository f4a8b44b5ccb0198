//! POST /par: a client pushes its authorization request before it sends a browser here (RFC 9126).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde_json::json;
use tracing::info;

use crate::clock::Timestamp;
use crate::login::Pushed;
use crate::oidc::caller::Caller;
use crate::oidc::client_auth::AuthenticatedClient;
use crate::oidc::dpop::{DpopError, Purported};
use crate::oidc::error::PushError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::Channel;
use crate::oidc::{Provider, path, token};

/// With the request in the body, and the client's authentication as at the token endpoint.
pub(super) async fn post(State(provider): State<Arc<Provider>>, caller: Caller, body: Bytes) -> Response {
    let now = provider.clock.now();
    let pushed = match token::form(&caller, &body) {
        Ok(parameters) => provider.push(&caller, &parameters, now).await,
        Err(error) => Err(PushError::Client(error)),
    };
    let mut answer = match pushed {
        Ok(pushed) => {
            let answer = json!({"request_uri": pushed.request_uri, "expires_in": pushed.expires_in.as_secs()});
            (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(error) => error.into_response(),
    };
    provider.add_nonce(&caller.headers, answer.headers_mut(), now);
    answer
}

impl Provider {
    async fn push(&self, caller: &Caller, parameters: &Parameters, now: Timestamp) -> Result<Pushed, PushError> {
        let snapshot = self.registry.snapshot();
        let addresses = self.addresses(path::PAR);
        let purported = Purported { method: &caller.method, addresses: &addresses, access_token: None };
        let shown = self.shown_key(&caller.headers, &purported, now)?;
        let authenticated = self.client_of(caller, parameters, &snapshot, now).await;
        let AuthenticatedClient { client, .. } = authenticated.map_err(PushError::Client)?;
        let key = shown.map(|shown| self.use_up_proof(shown, now)).transpose()?;
        let read = self.read_request(parameters, client, Channel::Pushed, &snapshot, now).await;
        let mut request = read.map_err(|refused| PushError::Request(refused.cause))?;
        // RFC 9449 10.1: a proof here says as much as dpop_jkt.
        if let Some(key) = key {
            if request.dpop_jkt.as_ref().is_some_and(|named| named != key.as_str()) {
                return Err(DpopError::OtherKey.into());
            }
            request.dpop_jkt = Some(key.to_string());
        }
        let pushed = self.pushed.push(request, now).await?;
        info!(relying_party = %client.name, "a request was pushed");
        Ok(pushed)
    }
}
