//! POST /par: a client pushes its authorization request before it sends a browser here (RFC 9126).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tracing::info;

use crate::clock::Timestamp;
use crate::login::Pushed;
use crate::oidc::Provider;
use crate::oidc::client_auth::{AuthenticatedClient, Credentials};
use crate::oidc::error::PushError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::Channel;

/// With the request in the body, and the client's authentication as at the token endpoint.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PushError> {
    // What stands in an address ends up in logs: nothing is read from there.
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(PushError::NotAForm);
    }
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| PushError::NotAForm)?;
    let pushed = provider.push(&headers, &parameters, provider.clock.now()).await?;
    let answer = json!({"request_uri": pushed.request_uri, "expires_in": pushed.expires_in.as_secs()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

impl Provider {
    async fn push(&self, headers: &HeaderMap, parameters: &Parameters, now: Timestamp) -> Result<Pushed, PushError> {
        let snapshot = self.registry.snapshot();
        let credentials = Credentials::of(headers, parameters).map_err(|error| PushError::Client(error.into()))?;
        let authenticated = self.authenticate(&credentials, &snapshot, now).await;
        let AuthenticatedClient { client, .. } = authenticated.map_err(PushError::Client)?;
        let read = self.read_request(parameters, client, Channel::Pushed, &snapshot, now).await;
        let request = read.map_err(|refused| PushError::Request(refused.cause))?;
        let pushed = self.pushed.push(request, now).await?;
        info!(relying_party = %client.name, "a request was pushed");
        Ok(pushed)
    }
}
