//! POST /device_authorization (RFC 8628 3.1), and what the device gets at the token endpoint afterwards (3.4).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use homeward_telemetry::traces;
use http::header::{CACHE_CONTROL, PRAGMA};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tracing::info;

use crate::clock::Timestamp;
use crate::grants::{AskedDevice, Tokens};
use crate::oidc::client_auth::{AuthenticatedClient, Caller};
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;
use crate::oidc::token::{self, TokenRequest};
use crate::oidc::{Provider, path};
use crate::registry::{GrantType, Scopes};

/// What a device is told (3.2).
#[derive(Serialize)]
struct DeviceAnswer<'a> {
    device_code: &'a str,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
}

/// A device asks for codes.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, TokenRequestError> {
    let parameters = token::form(&caller, &body)?;
    let asked = provider.ask_for_device(&caller, &parameters, provider.clock.now()).await?;
    let page = provider.issuer.address(path::DEVICE);
    let answer = DeviceAnswer {
        device_code: asked.device_code.expose_secret(),
        verification_uri_complete: format!("{page}?user_code={}", asked.user_code),
        verification_uri: page,
        user_code: asked.user_code.to_string(),
        expires_in: asked.expires_in.as_secs(),
        interval: asked.interval.as_secs(),
    };
    Ok(([(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")], Json(answer)).into_response())
}

impl Provider {
    async fn ask_for_device(
        &self,
        caller: &Caller,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<AskedDevice, TokenRequestError> {
        let snapshot = self.snapshot_for(caller, parameters).await;
        let AuthenticatedClient { client, .. } = self.client_of(caller, parameters, &snapshot, now).await?;
        if !client.relying_party.policy.grant_types.contains(&GrantType::DeviceCode) {
            return Err(TokenRequestError::GrantTypeNotAllowed);
        }
        // T12: for the API of another instance there is token exchange.
        if parameters.get("resource")?.is_some() {
            return Err(TokenRequestError::Target);
        }
        let scopes = parameters.get("scope")?.unwrap_or("openid").parse::<Scopes>();
        let scopes = scopes.map_err(|_| TokenRequestError::ScopeWithoutOpenid)?;
        self.check_keeping(client, caller, now)?;
        let asked = self.devices.ask(client, scopes, now).await?;
        info!(relying_party = %client.name, "a device waits for its user");
        Ok(asked)
    }

    /// A device code, for tokens.
    pub(in crate::oidc) async fn redeem_device(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        let TokenRequest { parameters, terms, snapshot, now } = request;
        let code = parameters.get("device_code")?.ok_or(TokenRequestError::Missing)?;
        let device = self.devices.poll(code, &terms.client.relying_party.client_id, *now).await?;
        let step = token::step_of(device.grant(), "the device redeems its code");
        let redeemed = async {
            let signed_in = device.grant().session.clone();
            let session = self.sessions.get(&signed_in, *now).await?;
            let person = session.as_ref().map(|session| &session.identity);
            let tokens = self.devices.redeem(device, terms, (person, snapshot), *now).await?;
            self.check_signed_in(&signed_in, tokens, *now).await
        };
        traces::during(step, redeemed).await
    }
}
