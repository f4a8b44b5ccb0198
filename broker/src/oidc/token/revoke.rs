//! POST /revoke (RFC 7009): a client gives a token back.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::client_auth::Caller;
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;
use crate::oidc::token::form;

/// Ends a token of the client.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, TokenRequestError> {
    provider.revoke(&caller, &form(&caller, &body)?, provider.clock.now()).await?;
    Ok((StatusCode::OK, [(CACHE_CONTROL, "no-store")]).into_response())
}

impl Provider {
    /// What is not known here is revoked already (2.2). When this has answered, it is durable.
    async fn revoke(&self, caller: &Caller, parameters: &Parameters, now: Timestamp) -> Result<(), TokenRequestError> {
        let snapshot = self.snapshot_for(caller, parameters).await;
        let client = self.client_of(caller, parameters, &snapshot, now).await?.client;
        // A hint that does not fit is to be overcome (2.1), and here it saves nothing: each token says what it is.
        parameters.get("token_type_hint")?;
        let token = parameters.get("token")?.ok_or(TokenRequestError::Missing)?;
        if let Some(token) = self.grants.open_presented(token) {
            self.grants.revoke(&token, &client.relying_party.client_id, now).await?;
            info!(relying_party = %client.name, "a token was revoked");
            let revoked = Event::new(Kind::TokenRevoked).client(&client.relying_party.client_id);
            self.audit.note(revoked.relying_party(client.name));
        }
        Ok(())
    }
}
