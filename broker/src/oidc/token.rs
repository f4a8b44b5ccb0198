//! POST /token (OpenID Connect Core 3.1.3).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use homeward_certs::identity::InstanceName;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tracing::info;

use crate::clock::Timestamp;
use crate::grants::{ProbeCode, ProbeError, ProbeOutcome, Redemption, TokenError, Tokens};
use crate::oidc::Provider;
use crate::oidc::client_auth::{AuthenticatedClient, Credentials};
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;

/// A code, for tokens.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TokenRequestError> {
    // Secrets and codes in an address end up in logs (RFC 6749 2.3.1): nothing is read from there.
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(TokenRequestError::NotAForm);
    }
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| TokenRequestError::NotAForm)?;
    let tokens = provider.redeem(&headers, &parameters, provider.clock.now()).await?;
    let answer = json!({
        "access_token": tokens.access_token.expose_secret(),
        "token_type": "Bearer",
        "expires_in": tokens.expires_in.as_secs(),
        "scope": tokens.scopes.to_string(),
        "id_token": tokens.id_token,
    });
    Ok(([(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")], Json(answer)).into_response())
}

impl Provider {
    async fn redeem(
        &self,
        headers: &HeaderMap,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Tokens, TokenRequestError> {
        match parameters.get("grant_type")? {
            Some("authorization_code") => {}
            Some(_) => return Err(TokenRequestError::GrantType),
            None => return Err(TokenRequestError::Missing),
        }
        let snapshot = self.registry.snapshot();
        let credentials = Credentials::of(headers, parameters)?;
        let authenticated = self.authenticate(&credentials, &snapshot, now).await;
        if let Some(probe) = parameters.get("code").ok().flatten().and_then(ProbeCode::of) {
            let claimed = credentials.claimed_client(&snapshot).map(|client| client.name);
            self.note(&probe, claimed, &authenticated, now).await?;
            return Err(authenticated.err().unwrap_or(TokenError::CodeIsProbe.into()));
        }
        let AuthenticatedClient { client, .. } = authenticated?;
        let code = self.grants.open_code(parameters.get("code")?.ok_or(TokenRequestError::Missing)?)?;
        let session = self.sessions.get(&code.grant.session, now).await?;
        let subject = code.grant.subject.clone();
        let redemption = Redemption {
            client: client.relying_party,
            code,
            person: session.as_ref().map(|session| &session.identity),
            redirect_uri: parameters.get("redirect_uri")?.ok_or(TokenRequestError::Missing)?,
            verifier: parameters.get("code_verifier")?,
        };
        let tokens = self.grants.redeem(redemption, &snapshot, now).await?;
        info!(relying_party = %client.name, sub = %subject, "tokens issued");
        Ok(tokens)
    }

    /// Notes how the client that presents a probe has authenticated itself. A client that tries a method first which it
    /// has not registered is not heard: it goes on with the one that it has (AList does so at every login).
    async fn note(
        &self,
        probe: &ProbeCode,
        claimed: Option<&InstanceName>,
        authenticated: &Result<AuthenticatedClient<'_>, TokenRequestError>,
        now: Timestamp,
    ) -> Result<(), TokenRequestError> {
        let Some(instance) = claimed else { return Ok(()) };
        let outcome = match authenticated {
            Ok(client) => ProbeOutcome::Authenticated { version: client.version },
            Err(TokenRequestError::Client(_)) => ProbeOutcome::WrongSecret,
            // The store did not say: that is no outcome.
            Err(_) => return Ok(()),
        };
        match self.probes.present(instance, probe, outcome, now).await {
            Ok(()) => Ok(()),
            Err(ProbeError::Store(error)) => Err(error.into()),
            Err(error) => {
                info!(relying_party = %instance, %error, "a probe code was presented in vain");
                Ok(())
            }
        }
    }
}
