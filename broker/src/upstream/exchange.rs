//! The authorization request, the exchange of its code (RFC 6749 4.1), and what is fetched with the access token.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::outbound::{Outbound, OutboundError};
use crate::upstream::error::{UpstreamError, UserRule};
use crate::upstream::json::Once;
use crate::upstream::provider::MAX_DOCUMENT;

/// The client that the broker is at one provider.
pub(super) struct Party<'a> {
    pub(super) client_id: &'a str,
    pub(super) client_secret: &'a str,
    pub(super) callback: String,
    pub(super) authorization_url: &'a str,
    pub(super) token_url: &'a str,
    /// Whether the secret is sent in the body (`client_secret_post`).
    pub(super) secret_in_body: bool,
}

/// What makes one login's request unlike all others.
pub(super) struct Secrets<'a> {
    pub(super) state: &'a str,
    pub(super) verifier: &'a str,
}

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) access_token: SecretString,
    pub(super) id_token: Option<SecretString>,
}

/// The ID token as text: what stands in it is judged elsewhere.
#[derive(Serialize, Deserialize)]
struct IdTokenText {
    id_token: Option<String>,
}

impl std::fmt::Debug for IdTokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenText(…)")
    }
}

impl ExtraTokenFields for IdTokenText {}

type Configured = Client<
    BasicErrorResponse,
    StandardTokenResponse<IdTokenText, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl Party<'_> {
    /// Where the browser is sent.
    ///
    /// # Errors
    /// When an endpoint is no address.
    pub(super) fn authorization_address(
        &self,
        secrets: &Secrets<'_>,
        scopes: Vec<String>,
        further: &[(&str, String)],
    ) -> Result<String, UpstreamError> {
        let (client, state) = (self.client()?, secrets.state.to_owned());
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(secrets.verifier.to_owned()));
        let request = client.authorize_url(move || CsrfToken::new(state)).set_pkce_challenge(challenge);
        let request = request.add_scopes(scopes.into_iter().map(Scope::new));
        let further = further.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let request = further.fold(request, |request, (name, value)| request.add_extra_param(name, value));
        Ok(request.url().0.into())
    }

    /// Gives the code for tokens.
    ///
    /// # Errors
    /// When the provider does not do it.
    pub(super) async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        outbound: &Outbound,
    ) -> Result<Tokens, UpstreamError> {
        let client = self.client()?;
        let outbound = outbound.clone();
        let send = move |request| {
            let outbound = outbound.clone();
            async move { outbound.ask(request, MAX_DOCUMENT).await }
        };
        let exchange = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
        let tokens = exchange.request_async(&send).await.map_err(refusal)?;
        let id_token = tokens.extra_fields().id_token.clone();
        Ok(Tokens { access_token: tokens.access_token().secret().clone().into(), id_token: id_token.map(Into::into) })
    }

    fn client(&self) -> Result<Configured, UpstreamError> {
        let unreadable = |what: &str| UpstreamError::Exchange(format!("cannot be used: {what} is no address"));
        let authorization =
            AuthUrl::new(self.authorization_url.to_owned()).map_err(|_| unreadable("the authorization endpoint"))?;
        let token = TokenUrl::new(self.token_url.to_owned()).map_err(|_| unreadable("the token endpoint"))?;
        let callback = RedirectUrl::new(self.callback.clone()).map_err(|_| unreadable("the callback"))?;
        let auth = if self.secret_in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        Ok(Client::new(ClientId::new(self.client_id.to_owned()))
            .set_client_secret(ClientSecret::new(self.client_secret.to_owned()))
            .set_auth_type(auth)
            .set_redirect_uri(callback)
            .set_auth_uri(authorization)
            .set_token_uri(token))
    }

    /// DingTalk's own way: everything is JSON, under other names.
    ///
    /// # Errors
    /// When it does not do it.
    pub(super) async fn exchange_dingtalk(&self, code: &str, outbound: &Outbound) -> Result<Tokens, UpstreamError> {
        let body = json!({
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "code": code,
            "grantType": "authorization_code",
        });
        let request = Request::post(self.token_url).header(CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string().into_bytes());
        let request = request.map_err(|_| UpstreamError::Exchange("cannot be used: it is no address".to_owned()))?;
        let answer = outbound.ask(request, MAX_DOCUMENT).await;
        let answer = answer.map_err(|error| UpstreamError::Fetch("its token endpoint", error))?;
        let members = Once::read(answer.body()).unwrap_or_default();
        let token = members.get("accessToken").and_then(Value::as_str).filter(|_| answer.status().is_success());
        match token {
            Some(token) => Ok(Tokens { access_token: token.to_owned().into(), id_token: None }),
            None => Err(UpstreamError::Exchange(format!("answers {} without a token", answer.status()))),
        }
    }
}

/// What is fetched with the access token, in a header of its own where the dialect has one.
///
/// # Errors
/// When the provider does not answer 200.
pub(super) async fn fetch(
    address: &str,
    access_token: &SecretString,
    dialect_header: Option<&'static str>,
    outbound: &Outbound,
) -> Result<Response<Vec<u8>>, UpstreamError> {
    let (name, value) = match dialect_header {
        Some(name) => (name, access_token.expose_secret().to_owned()),
        None => (AUTHORIZATION.as_str(), format!("Bearer {}", access_token.expose_secret())),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| UserRule::Unreadable)?;
    value.set_sensitive(true);
    let request = Request::get(address).header(ACCEPT, "application/json").header(name, value).body(Vec::new());
    let request = request.map_err(|_| UserRule::Unreadable)?;
    let answer = outbound.ask(request, MAX_DOCUMENT).await;
    let answer = answer.map_err(|error| UpstreamError::Fetch("its user endpoint", error))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        other => Err(UpstreamError::Answer("its user endpoint", other)),
    }
}

/// A JSON object that was fetched.
///
/// # Errors
/// When it is none.
pub(super) fn object(answer: &Response<Vec<u8>>) -> Result<Map<String, Value>, UserRule> {
    Once::read(answer.body()).ok_or(UserRule::Unreadable)
}

/// Why the token endpoint gave nothing. What it said is for the log, where it is one line of plain text; tokens and secrets
/// are never in there.
fn refusal(error: RequestTokenError<OutboundError, BasicErrorResponse>) -> UpstreamError {
    match error {
        RequestTokenError::Request(error) => UpstreamError::Fetch("its token endpoint", error),
        RequestTokenError::ServerResponse(said) => {
            let said = format!("{}: {}", said.error().as_ref(), said.error_description().map_or("", String::as_str));
            let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200);
            UpstreamError::Exchange(format!("refuses: {}", plain.collect::<String>()))
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            UpstreamError::Exchange("answers something else than tokens".to_owned())
        }
    }
}
