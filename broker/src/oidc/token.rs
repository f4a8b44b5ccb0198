//! POST /token (RFC 6749 3.2, OpenID Connect Core 3.1.3 and 12): one function a grant type.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use homeward_certs::identity::InstanceName;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tracing::info;

use crate::clock::Timestamp;
use crate::grants::{Binding, ProbeCode, ProbeError, ProbeOutcome, Redemption, Refreshment, Terms, TokenError, Tokens};
use crate::oidc::Provider;
use crate::oidc::client_auth::{AuthenticatedClient, Credentials};
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;
use crate::registry::{GrantType, Snapshot};

/// A request for tokens whose client is who it says, and may ask in this way.
pub(super) struct TokenRequest<'a> {
    /// All that it sent.
    pub(super) parameters: &'a Parameters,
    /// Who asks, and on what terms.
    pub(super) terms: Terms<'a>,
    /// The registry as this request sees it.
    pub(super) snapshot: &'a Snapshot,
    /// When it came.
    pub(super) now: Timestamp,
}

/// What a client is told (RFC 6749 5.1).
#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// Something that is held, for tokens.
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
    let tokens = provider.tokens(&headers, &parameters, provider.clock.now()).await?;
    Ok(answer(&tokens))
}

/// No cache keeps it (RFC 6749 5.1).
fn answer(tokens: &Tokens) -> Response {
    let answer = TokenAnswer {
        access_token: tokens.access_token.expose_secret(),
        issued_token_type: tokens.issued_token_type,
        token_type: tokens.token_type,
        expires_in: tokens.expires_in.as_secs(),
        scope: tokens.scopes.to_string(),
        id_token: tokens.id_token.as_deref(),
        refresh_token: tokens.refresh_token.as_ref().map(|token| token.expose_secret()),
    };
    ([(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")], Json(answer)).into_response()
}

impl Provider {
    async fn tokens(
        &self,
        headers: &HeaderMap,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Tokens, TokenRequestError> {
        let grant_type = parameters.get("grant_type")?.ok_or(TokenRequestError::Missing)?;
        let known = GrantType::ALL.into_iter().find(|known| known.as_str() == grant_type);
        let grant_type = known.ok_or(TokenRequestError::GrantType)?;
        let snapshot = self.registry.snapshot();
        let credentials = Credentials::of(headers, parameters)?;
        let authenticated = self.authenticate(&credentials, &snapshot, now).await;
        if let Some(probe) = parameters.get("code").ok().flatten().and_then(ProbeCode::of) {
            let claimed = credentials.claimed_client(&snapshot).map(|client| client.name);
            self.note(&probe, claimed, &authenticated, now).await?;
            return Err(authenticated.err().unwrap_or(TokenError::CodeIsProbe.into()));
        }
        let AuthenticatedClient { client, .. } = authenticated?;
        if !client.relying_party.policy.grant_types.contains(&grant_type) {
            return Err(TokenRequestError::GrantTypeNotAllowed);
        }
        let terms = Terms { client, binding: Binding::Bearer, resource: parameters.get("resource")? };
        let request = TokenRequest { parameters, terms, snapshot: &snapshot, now };
        let tokens = match grant_type {
            GrantType::AuthorizationCode => self.redeem(&request).await,
            GrantType::RefreshToken => self.refresh(&request).await,
            GrantType::ClientCredentials => self.client_credentials(&request),
            GrantType::DeviceCode => self.redeem_device(&request).await,
            GrantType::TokenExchange => self.exchange(&request).await,
        }?;
        info!(relying_party = %client.name, grant_type = grant_type.as_str(), "tokens issued");
        Ok(tokens)
    }

    /// A code (RFC 6749 4.1.3).
    async fn redeem(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        let TokenRequest { parameters, terms, snapshot, now } = request;
        let code = self.grants.open_code(parameters.get("code")?.ok_or(TokenRequestError::Missing)?)?;
        let session = self.sessions.get(&code.grant.session, *now).await?;
        let redemption = Redemption {
            terms: terms.clone(),
            code,
            person: session.as_ref().map(|session| &session.identity),
            redirect_uri: parameters.get("redirect_uri")?.ok_or(TokenRequestError::Missing)?,
            verifier: parameters.get("code_verifier")?,
        };
        Ok(self.grants.redeem(redemption, snapshot, *now).await?)
    }

    /// A refresh token (RFC 6749 6).
    async fn refresh(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        let TokenRequest { parameters, terms, snapshot, now } = request;
        let token = parameters.get("refresh_token")?.ok_or(TokenRequestError::Missing)?;
        let token = self.grants.open_refresh_token(token)?;
        let refreshment = Refreshment { terms: terms.clone(), token, scope: parameters.get("scope")? };
        Ok(self.grants.refresh(&refreshment, snapshot, *now).await?)
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
