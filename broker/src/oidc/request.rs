//! The authorization request: parameters in, [`AuthorizationRequest`] out.
//!
//! First the [`Callback`]: client and redirect URI. As long as these two are not right, nobody is redirected anywhere.
//! Everything that is wrong after that is told to the relying party.

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, Prompt, Reply, ResponseMode};
use crate::oidc::id_token_hint::HintVerifier;
use crate::oidc::parameters::{ParameterError, Parameters};
use crate::oidc::pkce;
use crate::registry::{ClaimsRequest, Client, Snapshot};

/// Greatest size of all that is carried through a login, in bytes: it travels to the home in an address.
const MAX_CARRIED: usize = 4096;

/// Longest login hint, in bytes.
const MAX_LOGIN_HINT: usize = 255;

/// Where answers to a request go.
#[derive(Clone)]
pub(super) struct Callback<'a> {
    /// Who asks.
    pub(super) client: Client<'a>,
    /// One of its registered callbacks.
    pub(super) redirect_uri: String,
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

/// What is wrong with a request whose sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// Repeated or not UTF-8.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Too much.
    #[error("the parameters are larger than {MAX_CARRIED} bytes together")]
    TooLarge,
    /// OpenID Connect Core 6.1.
    #[error("request objects are not supported")]
    RequestObject,
    /// OpenID Connect Core 6.2.
    #[error("request_uri is not supported")]
    RequestUri,
    /// OpenID Connect Core 7.2.1.
    #[error("the registration parameter is not supported")]
    Registration,
    /// Missing.
    #[error("response_type is missing")]
    ResponseTypeMissing,
    /// Not `code`.
    #[error("the response_type is not supported")]
    ResponseType,
    /// Not `query`.
    #[error("the response_mode is not supported")]
    ResponseMode,
    /// Without `openid`.
    #[error("the scope does not contain openid")]
    Scope,
    /// Unknown, or `none` with another value.
    #[error("the prompt makes no sense")]
    Prompt,
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
}

impl<'a> Callback<'a> {
    /// Finds out who asks, and where answers go.
    ///
    /// # Errors
    /// When either is not certain.
    pub(super) fn of(parameters: &Parameters, snapshot: &'a Snapshot) -> Result<Self, CallbackError> {
        let client_id = parameters.get("client_id").map_err(|_| CallbackError::Client)?;
        let client = client_id.and_then(|id| snapshot.client(id)).ok_or(CallbackError::Client)?;
        let redirect_uri = parameters.get("redirect_uri").map_err(|_| CallbackError::RedirectUri)?;
        let redirect_uri = redirect_uri.filter(|uri| is_registered(client, uri)).ok_or(CallbackError::RedirectUri)?;
        // A state that is repeated or no text is not returned; the request itself is refused for it below.
        let state = parameters.get("state").ok().flatten().map(str::to_owned);
        Ok(Self { client, redirect_uri: redirect_uri.to_owned(), state })
    }
}

/// Whether a callback is registered: compared as text, nothing decoded or normalised first.
pub(super) fn is_registered(client: Client<'_>, redirect_uri: &str) -> bool {
    client.relying_party.redirect_uris.iter().any(|uri| uri == redirect_uri)
}

/// Reads the rest of the request.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn parse(
    parameters: &Parameters,
    callback: &Callback<'_>,
    hints: &HintVerifier,
    now: Timestamp,
) -> Result<AuthorizationRequest, RequestError> {
    let relying_party = callback.client.relying_party;
    refuse_unsupported(parameters)?;
    let owned = |name| Ok::<_, ParameterError>(parameters.get(name)?.map(str::to_owned));
    let scopes = parameters.get("scope")?.unwrap_or_default().parse().map_err(|_| RequestError::Scope)?;
    let challenge = pkce::challenge(parameters.get("code_challenge")?, parameters.get("code_challenge_method")?)?;
    if relying_party.pkce_required && challenge.is_none() {
        return Err(RequestError::CodeChallengeMissing);
    }
    let hint = parameters.get("id_token_hint")?;
    let expected_subject = hint.map(|hint| hints.subject(hint, &relying_party.client_id)).transpose()?;
    let request = AuthorizationRequest {
        client_id: relying_party.client_id.clone(),
        relying_party: callback.client.name.clone(),
        reply: Reply::Callback {
            redirect_uri: callback.redirect_uri.clone(),
            mode: ResponseMode::Query,
            state: owned("state")?,
        },
        scopes,
        claims: ClaimsRequest::default(),
        resources: Vec::new(),
        nonce: owned("nonce")?,
        code_challenge: challenge,
        prompt: prompt(parameters.get("prompt")?)?,
        max_age: parameters.get("max_age")?.map(seconds).transpose()?,
        login_hint: parameters.get("login_hint")?.map(login_hint).transpose()?,
        expected_subject,
        received_at: now,
    };
    let carried = [Some(&callback.redirect_uri), callback.state.as_ref(), request.nonce.as_ref()];
    let size: usize = carried.into_iter().flatten().map(String::len).sum();
    if size > MAX_CARRIED { Err(RequestError::TooLarge) } else { Ok(request) }
}

/// What is not supported is refused, never ignored: a client that sends a request object relies on what it says.
fn refuse_unsupported(parameters: &Parameters) -> Result<(), RequestError> {
    for (name, error) in [
        ("request", RequestError::RequestObject),
        ("request_uri", RequestError::RequestUri),
        ("registration", RequestError::Registration),
    ] {
        if parameters.get(name)?.is_some() {
            return Err(error);
        }
    }
    match parameters.get("response_type")? {
        Some("code") => {}
        Some(_) => return Err(RequestError::ResponseType),
        None => return Err(RequestError::ResponseTypeMissing),
    }
    match parameters.get("response_mode")? {
        None | Some("query") => Ok(()),
        Some(_) => Err(RequestError::ResponseMode),
    }
}

fn prompt(text: Option<&str>) -> Result<Prompt, RequestError> {
    let words: Vec<&str> = text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
    if words.iter().any(|word| !["none", "login", "consent", "select_account"].contains(word)) {
        return Err(RequestError::Prompt);
    }
    match (words.as_slice(), words.contains(&"login"), words.contains(&"select_account")) {
        (["none"], ..) => Ok(Prompt::Silent),
        // OpenID Connect Core 3.1.2.1: none with any other value is an error.
        (words, ..) if words.contains(&"none") => Err(RequestError::Prompt),
        (_, true, true) => Ok(Prompt::SelectAccountAndLogin),
        (_, true, false) => Ok(Prompt::Login),
        (_, false, true) => Ok(Prompt::SelectAccount),
        (_, false, false) => Ok(Prompt::Allowed),
    }
}

fn seconds(text: &str) -> Result<u64, RequestError> {
    // Digits only: the standard parser takes a plus sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(RequestError::MaxAge)
}

fn login_hint(text: &str) -> Result<String, RequestError> {
    let readable = text.len() <= MAX_LOGIN_HINT && !text.chars().any(char::is_control);
    readable.then(|| text.to_owned()).ok_or(RequestError::LoginHint)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A12
    #[test]
    fn prompts() {
        for (text, expected) in [
            (None, Ok(Prompt::Allowed)),
            (Some("none"), Ok(Prompt::Silent)),
            (Some("login"), Ok(Prompt::Login)),
            (Some("consent"), Ok(Prompt::Allowed)),
            (Some("select_account"), Ok(Prompt::SelectAccount)),
            (Some("login consent  select_account"), Ok(Prompt::SelectAccountAndLogin)),
            (Some("none login"), Err(RequestError::Prompt)),
            (Some("consent none"), Err(RequestError::Prompt)),
            (Some("none none"), Err(RequestError::Prompt)),
            (Some("LOGIN"), Err(RequestError::Prompt)),
            (Some("create"), Err(RequestError::Prompt)),
        ] {
            assert_eq!(prompt(text), expected, "{text:?}");
        }
    }

    // A15
    #[test]
    fn max_ages() {
        for (text, expected) in [("0", Some(0)), ("1", Some(1)), ("10000", Some(10_000))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["-1", "+1", "1e99", "abc", "1.5", " 1", "99999999999999999999999"] {
            assert_eq!(seconds(text), Err(RequestError::MaxAge), "{text}");
        }
    }
}
