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
use crate::oidc::error::PushError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::Channel;
use crate::oidc::{Provider, token};

/// With the request in the body, and the client's authentication as at the token endpoint.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, PushError> {
    let parameters = token::form(&caller, &body).map_err(PushError::Client)?;
    let pushed = provider.push(&caller, &parameters, provider.clock.now()).await?;
    let answer = json!({"request_uri": pushed.request_uri, "expires_in": pushed.expires_in.as_secs()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

impl Provider {
    async fn push(&self, caller: &Caller, parameters: &Parameters, now: Timestamp) -> Result<Pushed, PushError> {
        let snapshot = self.registry.snapshot();
        let authenticated = self.client_of(caller, parameters, &snapshot, now).await;
        let AuthenticatedClient { client, .. } = authenticated.map_err(PushError::Client)?;
        let read = self.read_request(parameters, client, Channel::Pushed, &snapshot, now).await;
        let request = read.map_err(|refused| PushError::Request(refused.cause))?;
        let pushed = self.pushed.push(request, now).await?;
        info!(relying_party = %client.name, "a request was pushed");
        Ok(pushed)
    }
}
