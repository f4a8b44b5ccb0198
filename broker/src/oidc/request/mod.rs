//! The authorization request: parameters in, [`AuthorizationRequest`] out.
//!
//! First the client and its [`Callback`]. As long as these two are not right, nobody is redirected anywhere. Everything
//! that is wrong after that is told to the relying party. Where the parameters come from (an address, a form, a request
//! object, a request that was pushed) is decided before, in `arrival.rs`.

mod arrival;
mod prompt;
mod resource;

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, Reply, ResponseMode};
use crate::oidc::id_token_hint::{HintVerifier, Hinted};
use crate::oidc::parameters::{ParameterError, Parameters};
use crate::oidc::pkce;
use crate::oidc::request_object::RequestObjectError;
use crate::registry::{
    ClaimsParameter, ClaimsParameterError, Client, ClientAuthMethod, GrantType, Scope, Scopes, Snapshot,
};
use crate::secret::SecretHash;

pub(super) use arrival::Channel;

/// Greatest size of all that is carried through a login, in bytes: it travels to the home in an address.
const MAX_CARRIED: usize = 4096;

/// Where answers to a request go.
#[derive(Clone)]
pub(super) struct Callback<'a> {
    /// Who asks.
    pub(super) client: Client<'a>,
    /// One of its registered callbacks.
    pub(super) redirect_uri: String,
    /// How they travel.
    pub(super) mode: ResponseMode,
    /// Returned as it came.
    pub(super) state: Option<String>,
}

/// Why there is nowhere to send an answer. The user sees a page (RFC 6749 4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallbackError {
    /// No form, or no query, that could be read.
    #[error("the parameters cannot be read")]
    Parameters,
    /// Unknown, disabled, missing or repeated: all look the same.
    #[error("the client is unknown")]
    Client,
    /// Missing, repeated, or not one of the client's, compared as text (RFC 9700 2.1).
    #[error("the redirect_uri is not registered for this client")]
    RedirectUri,
}

/// A request that is refused before anything was shown or asked.
pub(super) struct Refused<'a> {
    /// Where the answer goes; nowhere if that is not certain.
    pub(super) callback: Option<Callback<'a>>,
    /// What is wrong.
    pub(super) cause: RequestError,
}

/// What is wrong with a request whose sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// There is nowhere to send an answer.
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// Repeated or not UTF-8.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Too much.
    #[error("the parameters are larger than {MAX_CARRIED} bytes together")]
    TooLarge,
    /// RFC 9101.
    #[error(transparent)]
    RequestObject(#[from] RequestObjectError),
    /// RFC 9126 2.1.
    #[error("a pushed request has a request_uri")]
    RequestUriPushed,
    /// RFC 9126 5, FAPI 2.0 Security Profile 5.3.2.2.
    #[error("this client must push its requests")]
    NotPushed,
    /// OpenID Connect Core 7.2.1.
    #[error("the registration parameter is not supported")]
    Registration,
    /// RFC 6749 4.1.2.1.
    #[error("this client may not use authorization codes")]
    GrantType,
    /// Missing.
    #[error("response_type is missing")]
    ResponseTypeMissing,
    /// Not `code`.
    #[error("the response_type is not supported")]
    ResponseType,
    /// Neither `query` nor `form_post`.
    #[error("the response_mode is not supported")]
    ResponseMode,
    /// Without `openid`, or no list of scopes.
    #[error("the scope does not contain openid, or cannot be read")]
    Scope,
    /// OpenID Connect Core 5.5.
    #[error(transparent)]
    Claims(#[from] ClaimsParameterError),
    /// RFC 8707 2.
    #[error("a resource is no address of an instance whose API this client may call")]
    Target,
    /// Unknown, or `none` with another value.
    #[error("the prompt makes no sense")]
    Prompt,
    /// Unknown.
    #[error("the display makes no sense")]
    Display,
    /// Not a number of seconds.
    #[error("max_age is not a number of seconds")]
    MaxAge,
    /// Too long, or not readable.
    #[error("the login_hint is too long or not readable")]
    LoginHint,
    /// Not an ID token of ours for this client.
    #[error("the id_token_hint is not an ID token of this issuer for this client")]
    IdTokenHint,
    /// Not 43 characters of base64url, or missing.
    #[error("the code_challenge is wrong")]
    CodeChallenge,
    /// Not `S256`.
    #[error("the code_challenge_method is not S256")]
    CodeChallengeMethod,
    /// This client must send one.
    #[error("the code_challenge is missing")]
    CodeChallengeMissing,
    /// Not a thumbprint (RFC 9449 10).
    #[error("dpop_jkt is no SHA-256 in base64url")]
    DpopThumbprint,
    /// RFC 9449 10.1.
    #[error("dpop_jkt is another key than that of the proof")]
    DpopKeyDiffers,
}

/// Finds out who asks.
///
/// # Errors
/// When that is not certain.
pub(super) fn client<'a>(parameters: &Parameters, snapshot: &'a Snapshot) -> Result<Client<'a>, CallbackError> {
    let client_id = parameters.get("client_id").map_err(|_| CallbackError::Client)?;
    client_id.and_then(|id| snapshot.client(id)).ok_or(CallbackError::Client)
}

impl<'a> Callback<'a> {
    /// Finds out where answers go.
    ///
    /// # Errors
    /// When that is not certain.
    pub(super) fn of(parameters: &Parameters, client: Client<'a>) -> Result<Self, CallbackError> {
        let redirect_uri = parameters.get("redirect_uri").map_err(|_| CallbackError::RedirectUri)?;
        let redirect_uri = redirect_uri.filter(|uri| is_registered(client, uri)).ok_or(CallbackError::RedirectUri)?;
        // A mode that is unknown is refused below, in the mode that every client understands.
        let form_post = parameters.get("response_mode").is_ok_and(|mode| mode == Some("form_post"));
        let mode = if form_post { ResponseMode::FormPost } else { ResponseMode::Query };
        // A state that is repeated or no text is not returned; the request itself is refused for it below.
        let state = parameters.get("state").ok().flatten().map(str::to_owned);
        Ok(Self { client, redirect_uri: redirect_uri.to_owned(), mode, state })
    }
}

/// Whether a callback is registered: compared as text, nothing decoded or normalised first.
pub(super) fn is_registered(client: Client<'_>, redirect_uri: &str) -> bool {
    let registered = |uri: &str| client.relying_party.redirect_uris.iter().any(|own| own == uri);
    // An instance has an address of its own; what runs on a user's machine takes the port that is free.
    registered(redirect_uri)
        || (!client.enrolled && without_loopback_port(redirect_uri).is_some_and(|uri| registered(&uri)))
}

/// A callback on the loopback interface, without its port (RFC 8252 7.3). Only for addresses, not for names: what
/// `localhost` is depends on the machine (8.3).
fn without_loopback_port(redirect_uri: &str) -> Option<String> {
    let host = ["http://127.0.0.1", "http://[::1]"].into_iter().find(|host| redirect_uri.starts_with(host))?;
    let rest = redirect_uri.strip_prefix(host)?.strip_prefix(':')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (port, path) = rest.split_at(digits);
    let ends = path.is_empty() || path.starts_with(['/', '?']);
    (ends && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| format!("{host}{path}"))
}

/// Reads the rest of the request.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn parse(
    parameters: &Parameters,
    callback: &Callback<'_>,
    snapshot: &Snapshot,
    hints: &HintVerifier,
    now: Timestamp,
) -> Result<AuthorizationRequest, RequestError> {
    let client = callback.client;
    let (relying_party, policy) = (client.relying_party, &client.relying_party.policy);
    check_response(parameters, client)?;
    prompt::display(parameters.get("display")?)?;
    let owned = |name| Ok::<_, ParameterError>(parameters.get(name)?.map(str::to_owned));
    let asked = parameters.get("claims")?.map(ClaimsParameter::read).transpose()?.unwrap_or_default();
    let max_age = parameters.get("max_age")?.map(prompt::seconds).transpose()?;
    let mut acr_values = parameters.get("acr_values")?.map_or(policy.default_acr_values.clone(), prompt::classes);
    acr_values.extend(asked.voluntary_acr);
    // Wishes, but not to be repeated (RFC 6749 3.1).
    parameters.get("claims_locales")?;
    let request = AuthorizationRequest {
        client_id: relying_party.client_id.clone(),
        relying_party: client.name.clone(),
        reply: Reply::Callback {
            redirect_uri: callback.redirect_uri.clone(),
            mode: callback.mode,
            state: owned("state")?,
        },
        scopes: scopes(parameters, client)?,
        claims: asked.request,
        resources: resource::resources(&parameters.all("resource")?, client, snapshot)?,
        nonce: owned("nonce")?,
        code_challenge: challenge(parameters, client)?,
        dpop_jkt: parameters.get("dpop_jkt")?.map(thumbprint).transpose()?,
        prompt: prompt::prompt(parameters.get("prompt")?)?,
        max_age: max_age.or(policy.default_max_age),
        acr_values,
        essential_acr: asked.essential_acr,
        ui_locales: parameters.get("ui_locales")?.and_then(prompt::locales),
        login_hint: parameters.get("login_hint")?.map(prompt::login_hint).transpose()?,
        expected_subjects: expected(parameters, client, hints, asked.subjects)?,
        pushed: None,
        received_at: now,
    };
    if carried(&request) > MAX_CARRIED { Err(RequestError::TooLarge) } else { Ok(request) }
}

fn check_response(parameters: &Parameters, client: Client<'_>) -> Result<(), RequestError> {
    if parameters.get("registration")?.is_some() {
        return Err(RequestError::Registration);
    }
    match parameters.get("response_type")? {
        Some("code") => {}
        Some(_) => return Err(RequestError::ResponseType),
        None => return Err(RequestError::ResponseTypeMissing),
    }
    if !client.relying_party.policy.grant_types.contains(&GrantType::AuthorizationCode) {
        return Err(RequestError::GrantType);
    }
    match parameters.get("response_mode")? {
        None | Some("query" | "form_post") => Ok(()),
        // In a fragment the code would be in reach of every script of the page.
        Some(_) => Err(RequestError::ResponseMode),
    }
}

fn scopes(parameters: &Parameters, client: Client<'_>) -> Result<Scopes, RequestError> {
    let scopes: Scopes = parameters.get("scope")?.unwrap_or_default().parse().map_err(|_| RequestError::Scope)?;
    // OpenID Connect Core 11: ignored where there could be no refresh token.
    let refreshes = client.relying_party.policy.grant_types.contains(&GrantType::RefreshToken);
    Ok(if refreshes { scopes } else { scopes.without(Scope::OfflineAccess) })
}

fn challenge(parameters: &Parameters, client: Client<'_>) -> Result<Option<SecretHash>, RequestError> {
    let challenge = pkce::challenge(parameters.get("code_challenge")?, parameters.get("code_challenge_method")?)?;
    let party = client.relying_party;
    // RFC 9700 2.1.1: nothing else keeps a stolen code of a public client from being redeemed.
    let required = party.pkce_required || party.policy.is_fapi2() || party.auth_method == ClientAuthMethod::None;
    if required && challenge.is_none() { Err(RequestError::CodeChallengeMissing) } else { Ok(challenge) }
}

fn thumbprint(text: &str) -> Result<String, RequestError> {
    text.parse::<SecretHash>().map(|hash| hash.as_str().to_owned()).map_err(|_| RequestError::DpopThumbprint)
}

/// The users who would do, by `id_token_hint` and by the `claims` parameter: where both name somebody, both must.
fn expected(
    parameters: &Parameters,
    client: Client<'_>,
    hints: &HintVerifier,
    asked: Option<Vec<String>>,
) -> Result<Option<Vec<String>>, RequestError> {
    let Some(hint) = parameters.get("id_token_hint")? else { return Ok(asked) };
    Ok(Some(match hints.read(hint, &client.relying_party.client_id)? {
        Hinted::Subject(hinted) => {
            let named = asked.is_none_or(|asked| asked.iter().any(|subject| subject == hinted.as_str()));
            if named { vec![hinted.to_string()] } else { Vec::new() }
        }
        Hinted::Forgotten => Vec::new(),
    }))
}

/// How much of a request is the client's own text.
fn carried(request: &AuthorizationRequest) -> usize {
    let Reply::Callback { redirect_uri, state, .. } = &request.reply else { return 0 };
    let texts = [Some(redirect_uri), state.as_ref(), request.nonce.as_ref(), request.ui_locales.as_ref()];
    let lists = [&request.resources, &request.acr_values, &request.essential_acr];
    let lists = lists.into_iter().flatten().chain(request.expected_subjects.iter().flatten());
    texts.into_iter().flatten().chain(lists).map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    // R3
    #[test]
    fn only_a_loopback_address_has_a_free_port() {
        for (sent, bare) in [
            ("http://127.0.0.1:49152/cb", Some("http://127.0.0.1/cb")),
            ("http://[::1]:1/cb?x=1", Some("http://[::1]/cb?x=1")),
            ("http://127.0.0.1:80", Some("http://127.0.0.1")),
            ("http://127.0.0.1/cb", None),
            ("http://127.0.0.1:/cb", None),
            ("http://127.0.0.1:0/cb", None),
            ("http://127.0.0.1:65536/cb", None),
            ("http://127.0.0.1:80@evil.example/cb", None),
            ("http://127.0.0.1:80.evil.example/cb", None),
            ("http://127.0.0.1.evil.example:80/cb", None),
            ("http://127.1:80/cb", None),
            ("http://localhost:80/cb", None),
            ("https://127.0.0.1:80/cb", None),
            ("http://127.0.0.1:+80/cb", None),
            ("http://127.0.0.1:80\\@evil/cb", None),
        ] {
            assert_eq!(without_loopback_port(sent).as_deref(), bare, "{sent}");
        }
    }
}
