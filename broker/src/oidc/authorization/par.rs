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
use crate::oidc::client_auth::{AuthenticatedClient, Caller};
use crate::oidc::dpop::Purported;
use crate::oidc::error::{PushError, TokenRequestError};
use crate::oidc::parameters::Parameters;
use crate::oidc::request::{Channel, RequestError};
use crate::oidc::{Provider, path, token};

/// With the request in the body, and the client's authentication as at the token endpoint.
pub(in crate::oidc) async fn post(State(provider): State<Arc<Provider>>, caller: Caller, body: Bytes) -> Response {
    let now = provider.clock.now();
    let pushed = match token::form(&caller, &body) {
        Ok(parameters) => provider.push(&caller, &parameters, now).await,
        Err(error) => Err(PushError::Client(error)),
    };
    let mut answer = pushed.map_or_else(PushError::into_response, |pushed| {
        let answer = json!({"request_uri": pushed.request_uri, "expires_in": pushed.expires_in.as_secs()});
        (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
    });
    provider.add_nonce(&caller.headers, answer.headers_mut(), now);
    answer
}

impl Provider {
    async fn push(&self, caller: &Caller, parameters: &Parameters, now: Timestamp) -> Result<Pushed, PushError> {
        let snapshot = self.snapshot_for(caller, parameters).await;
        let addresses = self.addresses(path::PAR);
        let purported = Purported { method: &caller.method, addresses: &addresses, access_token: None };
        let shown = self.shown_key(&caller.headers, &purported, now).map_err(TokenRequestError::from)?;
        let AuthenticatedClient { client, .. } = self.client_of(caller, parameters, &snapshot, now).await?;
        self.check_keeping(client, caller, now)?;
        let read = self.read_request(parameters, client, Channel::Pushed, &snapshot, now).await;
        let mut request = read.map_err(|refused| PushError::Request(refused.cause))?;
        if let Some(shown) = shown {
            let key = self.use_up_proof(shown, now).map_err(TokenRequestError::from)?.to_string();
            // RFC 9449 10.1: the key that the client shows is the one that it names, if it names one.
            if request.dpop_jkt.as_ref().is_some_and(|named| *named != key) {
                return Err(PushError::Request(RequestError::DpopKeyDiffers));
            }
            request.dpop_jkt = Some(key);
        }
        let pushed = self.pushed.push(request, now).await?;
        info!(relying_party = %client.name, "a request was pushed");
        Ok(pushed)
    }
}
