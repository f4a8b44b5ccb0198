//! Signing in with Homeward: the `openidconnect` crate does it, as in any Rust site.

use std::sync::PoisonError;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata};
use openidconnect::{
    AsyncHttpClient, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse, IssuerUrl,
    JsonWebKey as _, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, Session, Shared, Shop, cookie_of, now};

/// A login on its way.
#[derive(Debug)]
pub(super) struct Pending {
    state: CsrfToken,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    /// Where the browser goes when it is signed in.
    next: String,
}

/// What the agent wrote: a secret, or a key.
#[derive(Deserialize)]
pub(super) struct HomewardCredentials {
    pub(super) issuer: String,
    pub(super) client_id: String,
    client_secret: Option<String>,
    /// PKCS#8 in PEM.
    client_private_key: Option<String>,
}

impl HomewardCredentials {
    pub(super) fn into_secret(self) -> Option<String> {
        self.client_secret
    }
}

impl Shared {
    pub(super) fn read_credentials(&self) -> anyhow::Result<HomewardCredentials> {
        let text = std::fs::read_to_string(&self.credentials).context("this site is not set up for Homeward yet")?;
        let mut credentials: HomewardCredentials = serde_json::from_str(&text)?;
        let stale = self.stale_secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
        credentials.client_secret = stale.or(credentials.client_secret);
        Ok(credentials)
    }

    pub(super) async fn provider(&self) -> anyhow::Result<(HomewardCredentials, CoreProviderMetadata)> {
        let credentials = self.read_credentials()?;
        let issuer = IssuerUrl::new(credentials.issuer.clone())?;
        let metadata = CoreProviderMetadata::discover_async(issuer, &OidcHttp(&self.http)).await;
        let metadata = metadata.map_err(|error| anyhow!("discovery failed: {error}"))?;
        let key_ids = metadata.jwks().keys().iter().filter_map(|key| key.key_id());
        let key_ids = key_ids.map(|id| id.as_str().to_owned()).collect();
        *self.key_ids.lock().unwrap_or_else(PoisonError::into_inner) = key_ids;
        Ok((credentials, metadata))
    }
}

/// Fetches the broker's keys now, without a login.
pub(super) async fn fetch_keys(State(shared): Shop) -> Result<StatusCode, Failure> {
    shared.provider().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn begin(State(shared): Shop, uri: Uri) -> Result<Response, Failure> {
    // Whatever the test wants of the login, for example ?prompt=login.
    let more = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    begin_with(&shared, more, "/".to_owned()).await
}

#[derive(Deserialize)]
pub(super) struct Initiated {
    iss: String,
    login_hint: Option<String>,
    target_link_uri: Option<String>,
}

/// OpenID Connect Core 4: somebody else begins a login here.
pub(super) async fn initiate(State(shared): Shop, Form(initiated): Form<Initiated>) -> Result<Response, Failure> {
    if initiated.iss != shared.read_credentials()?.issuer {
        Err(anyhow!("this site logs nobody in at {}", initiated.iss))?;
    }
    // 4: verified, so that this is no open redirector.
    let target = initiated.target_link_uri.unwrap_or_else(|| shared.public_url.clone());
    let next = target.strip_prefix(&shared.public_url).filter(|path| path.is_empty() || path.starts_with('/'));
    let next = next.context("the target_link_uri is not of this site")?;
    let next = if next.is_empty() { "/" } else { next }.to_owned();
    let hint = initiated.login_hint.map(|hint| ("login_hint".to_owned(), hint));
    begin_with(&shared, hint.into_iter().collect(), next).await
}

async fn begin_with(shared: &Shared, more: Vec<(String, String)>, next: String) -> Result<Response, Failure> {
    let (credentials, metadata) = shared.provider().await?;
    let redirect = RedirectUrl::new(format!("{}/callback", shared.public_url)).map_err(anyhow::Error::from)?;
    let secret = credentials.client_secret.clone().map(ClientSecret::new);
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(credentials.client_id.clone()), secret)
        .set_redirect_uri(redirect);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("profile".into()))
        .add_scope(Scope::new("email".into()))
        .set_pkce_challenge(challenge);
    for (name, value) in more {
        request = request.add_extra_param(name, value);
    }
    let (address, state, nonce) = request.url();
    let id = Uuid::new_v4().to_string();
    let cookie = format!("site-login={id}; Path=/; HttpOnly; SameSite=Lax");
    let pending = Pending { state, nonce, verifier, next };
    shared.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, pending);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(address.as_str())).into_response())
}

#[derive(Deserialize)]
pub(super) struct Returned {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

pub(super) async fn callback(
    State(shared): Shop,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Result<Response, Failure> {
    let id = cookie_of(&headers, "site-login").context("no login was begun in this browser")?;
    let pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    let pending = pending.context("no login was begun in this browser")?;
    if returned.state.as_deref() != Some(pending.state.secret()) {
        Err(anyhow!("the answer belongs to another login"))?;
    }
    let (credentials, metadata) = shared.provider().await?;
    // RFC 9207 2.4.
    if returned.iss.as_deref() != Some(&credentials.issuer) {
        Err(anyhow!("the answer comes from somebody else"))?;
    }
    if let Some(error) = returned.error {
        Err(anyhow!("{error}: {}", returned.error_description.unwrap_or_default()))?;
    }
    let redirect = RedirectUrl::new(format!("{}/callback", shared.public_url)).map_err(anyhow::Error::from)?;
    let secret = credentials.client_secret.clone().map(ClientSecret::new);
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(credentials.client_id.clone()), secret)
        .set_redirect_uri(redirect);
    let code = AuthorizationCode::new(returned.code.context("the answer has no code")?);
    let mut exchange = client.exchange_code(code).map_err(anyhow::Error::from)?.set_pkce_verifier(pending.verifier);
    if let Some(key) = &credentials.client_private_key {
        // RFC 7523 2.2.
        exchange = exchange
            .add_extra_param("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .add_extra_param("client_assertion", assertion(key, &credentials)?);
    }
    let tokens = exchange.request_async(&OidcHttp(&shared.http)).await;
    let tokens = tokens.map_err(|error| anyhow!("the code was refused: {error:?}"))?;
    let id_token = tokens.id_token().context("no ID token")?;
    id_token.claims(&client.id_token_verifier(), &pending.nonce).map_err(anyhow::Error::from)?;
    let id_token = id_token.to_string();
    let session = Session { user: claims_of(&id_token)?, id_token: Some(id_token) };
    Ok((shared.sessions.begin(&headers, session), Redirect::to(&pending.next)).into_response())
}

/// All claims of a verified ID token, with the name that this site calls its users by.
fn claims_of(token: &str) -> anyhow::Result<Value> {
    let payload = token.split('.').nth(1).context("no JWT")?;
    let payload = URL_SAFE_NO_PAD.decode(payload)?;
    let mut claims: Value = serde_json::from_slice(&payload)?;
    claims["username"] = claims["preferred_username"].clone();
    Ok(claims)
}

/// A client assertion (RFC 7523 3), signed with the key in this PEM.
fn assertion(pem: &str, credentials: &HomewardCredentials) -> anyhow::Result<String> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &STANDARD.decode(body)?);
    let key = key.map_err(|error| anyhow!("the client key cannot be read: {error}"))?;
    let (header, client_id) = (json!({"alg": "ES256", "typ": "JWT"}), &credentials.client_id);
    let (issued_at, id) = (now(), Uuid::new_v4().to_string());
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": credentials.issuer, "iat": issued_at, "exp": issued_at + 60, "jti": id,
    });
    let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
    let signature = signature.map_err(|error| anyhow!("the client key cannot sign: {error}"))?;
    Ok(format!("{signed}.{}", encoded(signature.as_ref())))
}

/// reqwest as the `openidconnect` crate takes it.
struct OidcHttp<'a>(&'a reqwest::Client);

impl<'c> AsyncHttpClient<'c> for OidcHttp<'_> {
    type Error = openidconnect::HttpClientError<reqwest::Error>;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, Self::Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let boxed = |error| Self::Error::Reqwest(Box::new(error));
            let response = self.0.execute(request.try_into().map_err(boxed)?).await.map_err(boxed)?;
            let mut answer = Response::builder().status(response.status());
            for (name, value) in response.headers() {
                answer = answer.header(name, value);
            }
            let body = response.bytes().await.map_err(boxed)?.to_vec();
            answer.body(body).map_err(Self::Error::Http)
        })
    }
}
