//! The agent as client of an OpenID provider: of the broker, where the application speaks no OpenID Connect itself
//! ([`crate::gate`]), and of the application, where that is a provider ([`crate::home::oidc`]).
//!
//! 1. [`Provider::begin`] makes the address of an authorization request: PKCE with S256, `state`, `nonce`. What the answer
//!    is judged by goes into a cookie of this browser, sealed ([`seal`]): the flow keeps nothing here.
//! 2. [`Provider::finish`] takes the answer that the browser brings. An answer without its cookie, of another issuer (RFC
//!    9207) or with another `state` is none. The code is redeemed over [`wire`], and the ID token judged to the letter
//!    ([`verify`]).
//! 3. [`Provider::document`] fetches what else there is with the access token.
//!
//! Metadata and keys are kept ([`metadata`]) and keys fetched anew when a signature cannot be verified with those.

pub(crate) mod metadata;
pub(crate) mod seal;
pub(crate) mod verify;
pub(crate) mod wire;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http::header::{ACCEPT, AUTHORIZATION};
use openidconnect::core::{CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreTokenResponse};
use openidconnect::{
    AuthType, AuthUrl, AuthenticationContextClass, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointNotSet, EndpointSet, IssuerUrl, LanguageTag, LoginHint, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;
use url::Url;

use self::metadata::{Known, KnownProvider, MetadataError};
use self::verify::{IdTokenRefused, Verified};
use self::wire::{Wire, WireError};
use crate::random::{self, NoRandomness};

/// This client at one provider.
#[derive(Debug)]
pub(crate) struct Provider {
    wire: Wire,
    registration: Registration,
    known: KnownProvider,
}

/// As what the provider knows this client.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// Whose client, byte for byte.
    pub(crate) issuer: String,
    /// OAuth client id.
    pub(crate) client_id: String,
    /// OAuth client secret.
    pub(crate) client_secret: SecretString,
    /// How it is shown.
    pub(crate) shown: SecretShown,
    /// Where answers come to.
    pub(crate) redirect_uri: String,
    /// What is asked for beside `openid`.
    pub(crate) scopes: Vec<String>,
}

/// Where a client secret stands in a request (RFC 6749 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretShown {
    /// In the Authorization header.
    Basic,
    /// In the form.
    Post,
}

/// What a login must be like (OpenID Connect Core 3.1.2.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// Nothing may be shown.
    pub(crate) silent: bool,
    /// The user must have authenticated then, or later.
    pub(crate) min_auth_time: Option<OffsetDateTime>,
    /// Who it will probably be; may be empty.
    pub(crate) login_hint: String,
    /// Authentication context classes that would do.
    pub(crate) acr_values: Vec<String>,
    /// Languages; may be empty.
    pub(crate) ui_locales: String,
}

/// What an answer is judged by. It waits in the browser, sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    min_auth_time: Option<i64>,
    begun_at: i64,
}

/// What the browser brings back (RFC 6749 4.1.2, RFC 9207 2).
pub(crate) struct Answer {
    /// Which request it answers.
    pub(crate) state: String,
    /// The code, or why there is none.
    pub(crate) result: Result<SecretString, ErrorCode>,
    /// Who answers.
    pub(crate) issuer: Option<String>,
}

/// Why a provider refuses, in its own word. Strangers may have made it up: it is one word at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorCode(String);

/// Who has logged in, according to the provider.
pub(crate) struct SignedIn {
    /// `sub`.
    pub(crate) subject: String,
    /// The claims of the ID token.
    pub(crate) claims: Value,
    /// For [`Provider::document`].
    pub(crate) access_token: SecretString,
}

/// How long a browser may take from the request to the answer.
const LONGEST_LOGIN: time::Duration = time::Duration::minutes(30);

/// Why nobody is logged in. None of these quotes a code, a token or a secret.
#[derive(Debug, Error)]
pub(crate) enum ProviderError {
    /// The provider cannot be asked.
    #[error("the provider {issuer}: {source}")]
    Unreachable {
        /// Which.
        issuer: String,
        /// Why not.
        #[source]
        source: WireError,
    },
    /// What it says of itself is not usable.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It refuses.
    #[error("the provider refuses the login: {0}")]
    Refused(ErrorCode),
    /// An answer that nobody here asked for, or too late.
    #[error("the answer does not belong to a login that this browser has begun here within half an hour")]
    NotAsked,
    /// RFC 9207: another provider's answer, or nobody's.
    #[error("the answer is not the provider's ({0:?}): a mix-up, or an attempt at one")]
    MixUp(Option<String>),
    /// The code is not redeemed.
    #[error("the provider does not redeem the code: {0}")]
    NotRedeemed(ErrorCode),
    /// No token response that could be read.
    #[error("the provider's token response cannot be read")]
    BadTokenResponse,
    /// The ID token is not what it should be.
    #[error(transparent)]
    IdToken(#[from] IdTokenRefused),
    /// A document that was fetched with the access token.
    #[error("the provider answers {status} to a request for {what}, or no JSON object")]
    NoDocument {
        /// Which.
        what: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// OpenID Connect Core 5.3.2.
    #[error("the userinfo response is about somebody else than the ID token")]
    OtherSubject,
    /// A configured address that is none.
    #[error("an address of the client's registration is none: {0}")]
    Address(#[from] url::ParseError),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

/// A client that can begin a login and redeem a code.
type Ready = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointNotSet>;

impl Provider {
    /// Nothing is asked yet.
    pub(crate) fn new(wire: Wire, registration: Registration) -> Self {
        let known = KnownProvider::new(registration.issuer.clone());
        Self { wire, registration, known }
    }

    /// As what the provider knows this client.
    pub(crate) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Where the browser goes for a login, and what its answer will be judged by.
    pub(crate) async fn begin(&self, demand: &Demand, now: OffsetDateTime) -> Result<(Url, Pending), ProviderError> {
        let known = self.known.get(&self.wire).await?;
        let client = self.client(&known)?;
        let pending = Pending {
            state: unguessable()?,
            nonce: unguessable()?,
            verifier: unguessable()?,
            min_auth_time: demand.min_auth_time.map(OffsetDateTime::unix_timestamp),
            begun_at: now.unix_timestamp(),
        };
        let (state, nonce) = (CsrfToken::new(pending.state.clone()), Nonce::new(pending.nonce.clone()));
        let verifier = PkceCodeVerifier::new(pending.verifier.clone());
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(self.registration.scopes.iter().cloned().map(Scope::new));
        if demand.silent {
            request = request.add_prompt(CoreAuthPrompt::None);
        }
        if let Some(earliest) = demand.min_auth_time {
            let max_age = (now - earliest).whole_seconds().max(0).unsigned_abs();
            request = request.set_max_age(std::time::Duration::from_secs(max_age));
            // Some providers know no max_age; of those that do, none takes a login of this very second for a new one.
            if max_age < 5 && !demand.silent {
                request = request.add_prompt(CoreAuthPrompt::Login);
            }
        }
        if !demand.login_hint.is_empty() {
            request = request.set_login_hint(LoginHint::new(demand.login_hint.clone()));
        }
        for acr in &demand.acr_values {
            request = request.add_auth_context_value(AuthenticationContextClass::new(acr.clone()));
        }
        for locale in demand.ui_locales.split_whitespace() {
            request = request.add_ui_locale(LanguageTag::new(locale.to_owned()));
        }
        Ok((request.url().0, pending))
    }

    /// Who has logged in.
    pub(crate) async fn finish(
        &self,
        pending: &Pending,
        answer: Answer,
        now: OffsetDateTime,
    ) -> Result<SignedIn, ProviderError> {
        let age = now.unix_timestamp().saturating_sub(pending.begun_at);
        if answer.state != pending.state || !(0..LONGEST_LOGIN.whole_seconds()).contains(&age) {
            return Err(ProviderError::NotAsked);
        }
        let known = self.known.get(&self.wire).await?;
        // RFC 9207 2.4. Errors too: another provider must not end a login here.
        let expected =
            answer.issuer.as_ref().map_or(!known.metadata.names_itself, |it| *it == self.registration.issuer);
        if !expected {
            return Err(ProviderError::MixUp(answer.issuer));
        }
        let code = answer.result.map_err(ProviderError::Refused)?;
        let response = self.redeem(&known, &code, pending).await?;
        let verified = self.verify(known, &response, pending, now).await?;
        let access_token = response.access_token().secret().as_str().into();
        Ok(SignedIn { subject: verified.subject, claims: verified.claims, access_token })
    }

    /// All that the provider says of the user: the claims of the ID token, and over them those of userinfo.
    pub(crate) async fn claims(&self, signed_in: &SignedIn) -> Result<Value, ProviderError> {
        let mut claims = signed_in.claims.clone();
        let userinfo = self.userinfo(signed_in).await?;
        if let (Some(claims), Some(Value::Object(userinfo))) = (claims.as_object_mut(), userinfo) {
            // Which login it was, when and how, is the ID token's to say.
            let of_token = |name: &str| ["sid", "auth_time", "amr", "acr"].contains(&name);
            claims.extend(userinfo.into_iter().filter(|(name, _)| !of_token(name)));
        }
        Ok(claims)
    }

    /// What the provider says of the user besides; `None` if it has no userinfo endpoint.
    async fn userinfo(&self, signed_in: &SignedIn) -> Result<Option<Value>, ProviderError> {
        let known = self.known.get(&self.wire).await?;
        let Some(address) = &known.metadata.userinfo_endpoint else { return Ok(None) };
        let userinfo = self.document(address, "userinfo", signed_in).await?;
        // OpenID Connect Core 5.3.2: or else tokens could be swapped.
        let same = userinfo.get("sub").and_then(Value::as_str) == Some(&signed_in.subject);
        if same { Ok(Some(userinfo)) } else { Err(ProviderError::OtherSubject) }
    }

    /// A JSON object that is to be had with the access token.
    pub(crate) async fn document(
        &self,
        address: &Url,
        what: &'static str,
        signed_in: &SignedIn,
    ) -> Result<Value, ProviderError> {
        let bearer = format!("Bearer {}", signed_in.access_token.expose_secret());
        let request = Request::get(address.as_str()).header(ACCEPT, "application/json").header(AUTHORIZATION, bearer);
        let no_document = |status| ProviderError::NoDocument { what, status };
        let answer = self.send(request.body(Vec::new()).map_err(|_| no_document(0))?).await?;
        let status = answer.status().as_u16();
        let document = serde_json::from_slice(answer.body()).ok().filter(Value::is_object);
        document.filter(|_| status == 200).ok_or_else(|| no_document(status))
    }

    /// Where the browser can log out at the provider, if it has such a page.
    pub(crate) async fn logout_page(&self) -> Option<Url> {
        self.known.get(&self.wire).await.ok().and_then(|known| known.metadata.end_session_endpoint.clone())
    }

    /// Redeems a code that the provider is expected to refuse: by doing so it learns which secret this client shows.
    pub(crate) async fn present(&self, code: &str) -> Result<(), ProviderError> {
        let pending = Pending {
            state: String::new(),
            nonce: String::new(),
            verifier: unguessable()?,
            min_auth_time: None,
            begun_at: 0,
        };
        let known = self.known.get(&self.wire).await?;
        match self.redeem(&known, &code.into(), &pending).await {
            Ok(_) | Err(ProviderError::NotRedeemed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn redeem(
        &self,
        known: &Known,
        code: &SecretString,
        pending: &Pending,
    ) -> Result<CoreTokenResponse, ProviderError> {
        let client = self.client(known)?;
        let request = client.exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()));
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.clone()));
        request.request_async(&self.wire).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) => {
                ProviderError::NotRedeemed(ErrorCode::from(refusal.error().to_string().as_str()))
            }
            RequestTokenError::Request(source) => self.unreachable(source),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => ProviderError::BadTokenResponse,
        })
    }

    /// With the keys that are known, and once more with new ones: some providers make a new key and keep its name.
    async fn verify(
        &self,
        known: std::sync::Arc<Known>,
        response: &CoreTokenResponse,
        pending: &Pending,
        now: OffsetDateTime,
    ) -> Result<Verified, ProviderError> {
        let token = response.id_token().ok_or(IdTokenRefused::Missing)?;
        let nonce = Nonce::new(pending.nonce.clone());
        let expected = verify::Expected {
            client_id: &self.registration.client_id,
            nonce: &nonce,
            access_token: response.access_token(),
            min_auth_time: pending.min_auth_time,
        };
        let judge =
            |known: &Known| Ok::<_, ProviderError>(verify::verify(&self.client(known)?, token, &expected, now)?);
        match judge(&known) {
            Err(ProviderError::IdToken(IdTokenRefused::Signature(_))) => {
                let anew = self.known.with_new_keys(&self.wire, &known).await?;
                judge(&anew)
            }
            judged => judged,
        }
    }

    fn client(&self, known: &Known) -> Result<Ready, ProviderError> {
        let Registration { issuer, client_id, client_secret, shown, redirect_uri, .. } = &self.registration;
        let auth_type = match shown {
            SecretShown::Basic => AuthType::BasicAuth,
            SecretShown::Post => AuthType::RequestBody,
        };
        let client =
            CoreClient::new(ClientId::new(client_id.clone()), IssuerUrl::new(issuer.clone())?, known.keys.clone());
        Ok(client
            .set_client_secret(ClientSecret::new(client_secret.expose_secret().to_owned()))
            .set_auth_type(auth_type)
            .set_redirect_uri(RedirectUrl::new(redirect_uri.clone())?)
            .set_auth_uri(AuthUrl::from_url(known.metadata.authorization_endpoint.clone()))
            .set_token_uri(TokenUrl::from_url(known.metadata.token_endpoint.clone())))
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, ProviderError> {
        self.wire.send(request).await.map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: WireError) -> ProviderError {
        ProviderError::Unreachable { issuer: self.registration.issuer.clone(), source }
    }
}

impl Pending {
    /// What the answer repeats.
    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    /// What names the cookie that this waits in: several logins may be under way in one browser.
    pub(crate) fn label(&self) -> &str {
        label(&self.state)
    }
}

/// The label of the request with that state.
fn label(state: &str) -> &str {
    state.get(..8).unwrap_or_default()
}

impl Answer {
    /// From the query of the callback; `None` if a parameter that counts is there twice, or not at all.
    pub(crate) fn parse(query: &str) -> Option<Self> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let only = |name: &str| {
            let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
            let first = found.next();
            // RFC 6749 3.1: parameters must not be included more than once.
            found.next().is_none().then_some(first)
        };
        let (state, code, error, issuer) = (only("state")??, only("code")?, only("error")?, only("iss")?);
        let result = match (code, error) {
            (Some(code), None) => Ok(code.into()),
            (None, Some(error)) => Err(ErrorCode::from(error.as_str())),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(Self { state, result, issuer })
    }

    /// What names the cookie that the request waits in; `None` if no request of ours has such a state.
    pub(crate) fn label(&self) -> Option<&str> {
        let legal = URL_SAFE_NO_PAD.decode(&self.state).is_ok_and(|bytes| bytes.len() == 32);
        legal.then(|| label(&self.state))
    }
}

impl ErrorCode {
    /// Whether somebody would have to be shown something, and nothing may be (OpenID Connect Core 3.1.2.6).
    pub(crate) fn needs_interaction(&self) -> bool {
        ["login_required", "interaction_required", "account_selection_required", "consent_required"]
            .contains(&self.0.as_str())
    }

    /// Whether the client is not known, or its secret is another one (RFC 6749 5.2).
    pub(crate) fn is_unknown_client(&self) -> bool {
        ["invalid_client", "unauthorized_client"].contains(&self.0.as_str())
    }

    /// Whether the user gave up.
    pub(crate) fn is_denial(&self) -> bool {
        self.0 == "access_denied"
    }
}

impl From<&str> for ErrorCode {
    fn from(text: &str) -> Self {
        let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let legal = (1..=64).contains(&text.len()) && text.chars().all(word);
        Self(if legal { text } else { "unknown_error" }.to_owned())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending(…)")
    }
}

impl fmt::Debug for SignedIn {
    /// Who it is, is for the application and not for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedIn(…)")
    }
}

impl From<NoRandomness> for ProviderError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

/// 256 bits; as a PKCE verifier it has the length that RFC 7636 4.1 recommends.
fn unguessable() -> Result<String, NoRandomness> {
    Ok(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?))
}

#[cfg(test)]
mod tests;
