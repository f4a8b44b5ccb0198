//! POST /token (RFC 6749 3.2, OpenID Connect Core 3.1.3 and 12): one function a grant type.
//!
//! `exchange.rs` has the grant types that need no login; `introspect.rs` and `revoke.rs` are the endpoints for tokens that
//! were given out before.

mod exchange;
pub(super) mod introspect;
pub(super) mod revoke;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use homeward_certs::identity::InstanceName;
use homeward_telemetry::traces;
use http::header::{CACHE_CONTROL, PRAGMA};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tracing::{Span, info};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::grants::{
    Binding, DeviceError, Grant, ProbeCode, ProbeError, ProbeOutcome, Redemption, Refreshment, Terms, Thumbprint,
    TokenError, Tokens,
};
use crate::oidc::client_auth::{AuthenticatedClient, Caller, Credentials};
use crate::oidc::dpop::{DpopError, Purported};
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;
use crate::oidc::{PeerCertificate, Provider, path};
use crate::registry::{Client, ClientAuthMethod, GrantType, SessionId, Snapshot};

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
pub(super) async fn post(State(provider): State<Arc<Provider>>, caller: Caller, body: Bytes) -> Response {
    let now = provider.clock.now();
    let tokens = match form(&caller, &body) {
        Ok(parameters) => provider.tokens(&caller, &parameters, now).await,
        Err(error) => Err(error),
    };
    let mut answer = tokens.map_or_else(TokenRequestError::into_response, |tokens| answer(&tokens));
    provider.add_nonce(&caller.headers, answer.headers_mut(), now);
    answer
}

/// What a client has posted. Secrets and tokens in an address end up in logs (RFC 6749 2.3.1): nothing is read from there.
///
/// # Errors
/// When it is no form, or there is a query.
pub(super) fn form(caller: &Caller, body: &Bytes) -> Result<Parameters, TokenRequestError> {
    if caller.has_query {
        return Err(TokenRequestError::NotAForm);
    }
    Parameters::of_form(&caller.headers, body).map_err(|_| TokenRequestError::NotAForm)
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
        caller: &Caller,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Tokens, TokenRequestError> {
        let grant_type = parameters.get("grant_type")?.ok_or(TokenRequestError::Missing)?;
        let known = GrantType::ALL.into_iter().find(|known| known.as_str() == grant_type);
        let grant_type = known.ok_or(TokenRequestError::GrantType)?;
        let snapshot = self.snapshot_for(caller, parameters).await;
        let credentials = Credentials::of(&caller.headers, parameters)?;
        let addresses = self.addresses(path::TOKEN);
        let purported = Purported { method: &caller.method, addresses: &addresses, access_token: None };
        let shown = self.shown_key(&caller.headers, &purported, now)?;
        let authenticated = self.authenticate(&credentials, caller, &snapshot, now).await;
        if let Some(probe) = parameters.get("code").ok().flatten().and_then(ProbeCode::of) {
            let claimed = credentials.claimed_client(&snapshot).map(|client| client.name);
            self.note(&probe, claimed, &authenticated, now).await?;
            return Err(authenticated.err().unwrap_or(TokenError::CodeIsProbe.into()));
        }
        let AuthenticatedClient { client, .. } = authenticated?;
        if !client.relying_party.policy.grant_types.contains(&grant_type) {
            return Err(TokenRequestError::GrantTypeNotAllowed);
        }
        let key = shown.map(|shown| self.use_up_proof(shown, now)).transpose()?;
        let binding = binding(client, key, caller.certificate.as_ref())?;
        let terms = Terms { client, binding, resource: parameters.get("resource")? };
        let request = TokenRequest { parameters, terms, snapshot: &snapshot, now };
        let tokens = match grant_type {
            GrantType::AuthorizationCode => self.redeem(&request).await,
            GrantType::RefreshToken => self.refresh(&request).await,
            GrantType::ClientCredentials => self.client_credentials(&request),
            GrantType::DeviceCode => self.redeem_device(&request).await,
            GrantType::TokenExchange => self.exchange(&request).await,
        };
        if let Err(
            TokenRequestError::Token(_)
            | TokenRequestError::SubjectToken(_)
            | TokenRequestError::Device(DeviceError::Unknown | DeviceError::OfAnotherClient),
        ) = tokens
        {
            self.throttle.note(None, caller.address, now);
        }
        info!(relying_party = %client.name, grant_type = grant_type.as_str(), issued = tokens.is_ok(), "token request");
        if let Some(event) = event_of(&tokens) {
            let event = event.relying_party(client.name).client(&client.relying_party.client_id);
            self.audit.note(event.detail(grant_type.as_str()));
        }
        tokens
    }

    /// A code (RFC 6749 4.1.3).
    async fn redeem(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        let TokenRequest { parameters, terms, snapshot, now } = request;
        let code = self.grants.open_code(parameters.get("code")?.ok_or(TokenRequestError::Missing)?)?;
        let step = step_of(&code.grant, "the application redeems the code");
        let redeemed = async {
            let signed_in = code.grant.session.clone();
            let session = self.sessions.get(&signed_in, *now).await?;
            let redemption = Redemption {
                terms: terms.clone(),
                code,
                person: session.as_ref().map(|session| &session.identity),
                redirect_uri: parameters.get("redirect_uri")?.ok_or(TokenRequestError::Missing)?,
                verifier: parameters.get("code_verifier")?,
            };
            let tokens = self.grants.redeem(redemption, snapshot, *now).await?;
            self.check_signed_in(&signed_in, tokens, *now).await
        };
        traces::during(step, redeemed).await
    }

    /// What outlives a session must not begin while that is ended: whoever ends all that a user has ends the sessions
    /// first and then looks for such grants. One that was written behind his back finds its session gone.
    pub(super) async fn check_signed_in(
        &self,
        session: &SessionId,
        tokens: Tokens,
        now: Timestamp,
    ) -> Result<Tokens, TokenRequestError> {
        if tokens.refresh_token.is_none() || self.sessions.get(session, now).await?.is_some() {
            return Ok(tokens);
        }
        self.grants.take_back(&tokens).await?;
        Err(TokenError::SessionEnded.into())
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

/// A step of the login that a grant came of: its last, and the only one that no browser makes. Of grants of earlier releases
/// that is not known.
pub(super) fn step_of(grant: &Grant, name: &'static str) -> Span {
    grant.login.map_or_else(Span::none, |login| traces::step(name, login))
}

/// What is noted of a request for tokens: that a device still waits for its user is not.
fn event_of(tokens: &Result<Tokens, TokenRequestError>) -> Option<Event> {
    match tokens {
        Ok(Tokens { of: Some((subject, session)), login, .. }) => {
            let issued = Event::new(Kind::TokensIssued).subject(subject).session(session);
            Some(match login {
                Some(login) => issued.transaction(login),
                None => issued,
            })
        }
        Ok(Tokens { of: None, .. }) => Some(Event::new(Kind::TokensIssued)),
        Err(TokenRequestError::Device(DeviceError::Pending | DeviceError::TooFast)) => None,
        Err(error) => {
            let replayed = matches!(
                error,
                TokenRequestError::Token(TokenError::CodeReplayed | TokenError::RefreshTokenReplayed)
                    | TokenRequestError::Device(DeviceError::Redeemed)
            );
            let kind = if replayed { Kind::TokenReplayed } else { Kind::TokensRefused };
            Some(Event::new(kind).refused(error.code()))
        }
    }
}

/// What a client's tokens are bound to: the key that it showed, or its certificate if its policy or its way of
/// authenticating has to do with that.
fn binding(
    client: Client<'_>,
    key: Option<Thumbprint>,
    certificate: Option<&PeerCertificate>,
) -> Result<Binding, TokenRequestError> {
    let policy = &client.relying_party.policy;
    let by_certificate = client.relying_party.auth_method == ClientAuthMethod::TlsClientAuth;
    let own = certificate.filter(|shown| shown.instance == *client.name);
    match (key, own) {
        // One token is bound to one thing.
        (Some(_), _) if policy.require_certificate_binding => Err(TokenRequestError::TwoBindings),
        (Some(key), _) => Ok(Binding::Key(key)),
        (None, _) if policy.require_dpop => Err(DpopError::Missing.into()),
        (None, Some(shown)) if policy.require_certificate_binding || by_certificate => {
            Ok(Binding::Certificate(Thumbprint::of(&shown.thumbprint)))
        }
        (None, _) if policy.require_certificate_binding => Err(TokenRequestError::CertificateMissing),
        // FAPI 2.0 Security Profile 5.3.2.1: sender-constrained tokens only.
        (None, _) if policy.is_fapi2() => Err(DpopError::Missing.into()),
        (None, _) => Ok(Binding::Bearer),
    }
}
