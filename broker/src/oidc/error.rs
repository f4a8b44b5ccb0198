//! What strangers are told when something goes wrong: the one place that decides it, and the one that logs it.
//!
//! Every match is without `_`: a new rule does not compile until somebody has decided what is said about it. Sentences
//! are fixed; the cause goes to the log, under the request's id.

#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tracing::{error, info};

use crate::audit::{Event, Kind};
use crate::grants::{DeviceError, TokenError};
use crate::login::{LinkingError, LoginError, Refusal};
use crate::oidc::client_auth::ClientAuthError;
use crate::oidc::dpop::{self, DpopError};
use crate::oidc::parameters::{Parameters, excerpt};
use crate::oidc::registration::MetadataError;
use crate::oidc::request::RequestObjectError;
use crate::oidc::request::{CallbackError, RequestError};
use crate::registry::{LinkError, RegistrationError};
use crate::secret::SecretError;
use crate::sessions::SessionError;
use crate::storage::StoreError;
use crate::upstream::UpstreamError;
use crate::web::Problem;

/// An OAuth error: code and description (RFC 6749 5.2: printable ASCII without quotes and backslashes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OAuthError {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
}

const fn oauth(code: &'static str, description: &'static str) -> OAuthError {
    OAuthError { code, description }
}

/// What the relying party is told of its request.
pub(super) fn of_request(error: RequestError) -> OAuthError {
    match error {
        RequestError::Parameter(_) => oauth("invalid_request", "A parameter is repeated or is not UTF-8."),
        RequestError::TooLarge => oauth("invalid_request", "The parameters are too large."),
        RequestError::Callback(_) => oauth("invalid_request", "redirect_uri is missing or not registered."),
        RequestError::RequestObject(error) => of_request_object(error),
        RequestError::RequestUriPushed => oauth("invalid_request", "request_uri must not be pushed."),
        RequestError::NotPushed => oauth("invalid_request", "This client must push its requests to /par."),
        RequestError::GrantType => oauth("unauthorized_client", "This client may not use authorization codes."),
        RequestError::Registration => oauth("registration_not_supported", "registration is not supported."),
        RequestError::ResponseTypeMissing => oauth("invalid_request", "response_type is missing."),
        RequestError::ResponseType => oauth("unsupported_response_type", "response_type must be code."),
        RequestError::ResponseMode => oauth("invalid_request", "response_mode must be query or form_post."),
        RequestError::Scope => {
            oauth("invalid_scope", "scope must contain openid, and only characters that scopes have.")
        }
        RequestError::Claims(_) => oauth("invalid_request", "claims is malformed or too large."),
        RequestError::Target => oauth("invalid_target", "resource must be at an instance whose API you may call."),
        RequestError::Display => oauth("invalid_request", "display must be page, popup, touch or wap."),
        RequestError::DpopKeyDiffers => oauth("invalid_dpop_proof", "dpop_jkt is not the key of the DPoP proof."),
        RequestError::DpopThumbprint => oauth("invalid_request", "dpop_jkt must be 43 characters of base64url."),
        RequestError::Prompt => oauth("invalid_request", "prompt is unknown, or none together with another value."),
        RequestError::MaxAge => oauth("invalid_request", "max_age must be a number of seconds."),
        RequestError::LoginHint => oauth("invalid_request", "login_hint is too long or not readable."),
        RequestError::IdTokenHint => {
            oauth("invalid_request", "id_token_hint is not an ID token of this issuer for this client.")
        }
        RequestError::CodeChallenge => oauth("invalid_request", "code_challenge must be 43 characters of base64url."),
        RequestError::CodeChallengeMethod => oauth("invalid_request", "code_challenge_method must be S256."),
        RequestError::CodeChallengeMissing => oauth("invalid_request", "code_challenge is missing."),
    }
}

fn of_request_object(error: RequestObjectError) -> OAuthError {
    let invalid = |description| oauth("invalid_request_object", description);
    match error {
        RequestObjectError::Missing => oauth("invalid_request", "Send a signed request object."),
        RequestObjectError::Two => oauth("invalid_request", "Send request or request_uri, not both."),
        RequestObjectError::Parameter(_) => oauth("invalid_request", "A parameter is repeated or is not UTF-8."),
        // OpenID Connect Core 3.1.2.6: this client's objects are supported when they are signed.
        RequestObjectError::Unsigned => oauth("request_not_supported", "Request objects must be signed."),
        RequestObjectError::AddressesUnsupported => {
            oauth("request_uri_not_supported", "This client has no registered request_uris.")
        }
        RequestObjectError::AddressNotRegistered => oauth("invalid_request_uri", "request_uri is not registered."),
        RequestObjectError::AddressUnreachable => oauth("invalid_request_uri", "request_uri cannot be fetched."),
        RequestObjectError::Unreadable => invalid("The request object is no signed JWT, or too large."),
        RequestObjectError::Kind => invalid("typ or crit of the request object is not supported."),
        RequestObjectError::Algorithm => invalid("The request object is not signed by the registered algorithm."),
        RequestObjectError::Signature => invalid("The signature of the request object is wrong."),
        RequestObjectError::Client => invalid("The request object is not from this client."),
        RequestObjectError::Audience => invalid("aud of the request object must be the issuer."),
        RequestObjectError::Time => invalid("The request object is expired, not valid yet, or valid for too long."),
        RequestObjectError::Members => invalid("The request object holds a parameter that must not be in it."),
        RequestObjectError::Differs => invalid("response_type is another one in the request object."),
    }
}

/// What the relying party is told of a login that gave no identity.
pub(super) fn of_refusal(refusal: Refusal) -> OAuthError {
    match refusal {
        Refusal::LoginRequired => oauth("login_required", "The user must log in."),
        Refusal::NotFreshEnough => oauth("login_required", "The user did not log in recently enough."),
        Refusal::OtherUser => oauth("login_required", "Another user logged in than the one that was asked for."),
        Refusal::ClassNotMet => {
            oauth("unmet_authentication_requirements", "The user did not log in with an acr that was asked for.")
        }
        Refusal::ConsentRequired => oauth("consent_required", "The user must be asked for consent."),
        Refusal::ConsentRefused => oauth("access_denied", "The user does not agree."),
        Refusal::Cancelled => oauth("access_denied", "The user cancelled."),
        Refusal::DeniedByHome => oauth("access_denied", "The home refuses this user."),
        Refusal::HomeUnavailable => oauth("temporarily_unavailable", "The home does not answer."),
        Refusal::HomeNotAccepted => oauth("access_denied", "This home is not accepted."),
    }
}

/// Why a browser gets a page instead of being sent on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrowserError {
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// Wrong in a way that nobody can be told of but the user.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The same of an authorization request, with what it says of its sender.
    #[error("{cause} (client_id {client_id:?}, redirect_uri {redirect_uri:?})")]
    Unanswerable { cause: RequestError, client_id: String, redirect_uri: String },
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Grant(#[from] TokenError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("too many codes of devices were entered")]
    TooManyCodes,
    #[error("too many browsers came back from identity providers")]
    TooManyArrivals,
    #[error("the form is not of this session")]
    ForeignForm,
    #[error(transparent)]
    Linking(#[from] LinkingError),
}

impl BrowserError {
    /// An authorization request whose answer nobody can be sent.
    pub(super) fn unanswerable(cause: RequestError, parameters: &Parameters) -> Self {
        let said = |name| excerpt(parameters.get(name).ok().flatten().unwrap_or_default());
        Self::Unanswerable { cause, client_id: said("client_id"), redirect_uri: said("redirect_uri") }
    }
}

impl From<LinkError> for BrowserError {
    fn from(error: LinkError) -> Self {
        Self::Linking(error.into())
    }
}

impl From<StoreError> for BrowserError {
    fn from(error: StoreError) -> Self {
        Self::Login(LoginError::Store(error))
    }
}

impl IntoResponse for BrowserError {
    fn into_response(self) -> Response {
        let problem = page(&self);
        if problem.status.is_server_error() {
            error!(error = %self, source = ?std::error::Error::source(&self), "a login failed");
        } else {
            info!(error = %self, "a login was refused");
        }
        let refused = Event::new(Kind::LoginRefused).refused(problem.title);
        let mut response = problem.into_response();
        // Noted at the boundary, where it is known who asked.
        response.extensions_mut().insert(refused);
        response
    }
}

const fn refused(status: StatusCode, title: &'static str, advice: &'static str) -> Problem {
    Problem { status, title, advice }
}

fn page(error: &BrowserError) -> Problem {
    match error {
        BrowserError::Callback(error)
        | BrowserError::Request(RequestError::Callback(error))
        | BrowserError::Unanswerable { cause: RequestError::Callback(error), .. } => of_callback(*error),
        BrowserError::Request(_) | BrowserError::Unanswerable { .. } => refused(
            StatusCode::BAD_REQUEST,
            "This application's request cannot be understood",
            "Go back to the application and try again. If it happens again, tell its operator the number below.",
        ),
        BrowserError::Login(error) => of_login(error),
        BrowserError::Upstream(error) => of_upstream(error),
        BrowserError::Session(SessionError::Internal(_)) => Problem::INTERNAL,
        BrowserError::Session(SessionError::Store(error)) => of_store(error),
        BrowserError::Grant(TokenError::Store(error)) => of_store(error),
        BrowserError::ForeignForm => refused(
            StatusCode::FORBIDDEN,
            "This form cannot be used any more",
            "You have signed in again since, or it was not made here. Open the page again and repeat what you did.",
        ),
        // Making a code breaks no rule of redemption: what remains is our fault.
        BrowserError::Grant(_) => Problem::INTERNAL,
        BrowserError::Device(error) => of_device(error),
        BrowserError::TooManyCodes | BrowserError::TooManyArrivals => Problem::TOO_MANY,
        BrowserError::Linking(error) => of_linking(error),
    }
}

fn of_linking(error: &LinkingError) -> Problem {
    let not_linked = |advice| refused(StatusCode::FORBIDDEN, "Your homes were not linked", advice);
    match error {
        LinkingError::OtherSession => {
            not_linked("You have signed in or out in this browser since. Open your account page and begin again.")
        }
        LinkingError::OtherUser => not_linked(
            "You signed in as somebody else than the one you are here. Open your account page and begin again.",
        ),
        LinkingError::NotFresh => not_linked(
            "You have to sign in anew at both homes, and this one does not say that you did. Open your account page and \
             begin again; if it stays so, this home cannot be linked.",
        ),
        LinkingError::NotLetIn => not_linked(
            "Your home did not let you in, or does not answer. Open your account page and begin again later.",
        ),
        LinkingError::NotOffered => not_linked("This home cannot be linked to yours, or not any more."),
        LinkingError::Spent => {
            not_linked("They were linked by this page before. Your account page shows how it is now.")
        }
        LinkingError::Refused(LinkError::SameHome) => not_linked("Both accounts are at the same home."),
        LinkingError::Refused(LinkError::PrimaryIsAlias) => {
            not_linked("Your account is linked to one at another home already. Sign in with that one to link more.")
        }
        LinkingError::Refused(LinkError::AliasIsLinked) => {
            not_linked("The other account is linked already. Sign in with it, and unlink it on its account page first.")
        }
        LinkingError::Refused(LinkError::TooMany) => {
            not_linked("Your account has as many linked homes as it can have.")
        }
        LinkingError::Refused(LinkError::Store(error)) => of_store(error),
    }
}

fn of_upstream(error: &UpstreamError) -> Problem {
    match error {
        UpstreamError::StateUnknown | UpstreamError::CodeMissing => refused(
            StatusCode::BAD_REQUEST,
            "This login is not known here",
            "It was finished already, took too long, or began in another browser. Go back to the application that you want \
             to use and log in from there.",
        ),
        UpstreamError::IssuerDiffers
        | UpstreamError::IssuerMissing
        | UpstreamError::IdToken(_)
        | UpstreamError::User(_) => refused(
            StatusCode::FORBIDDEN,
            "Your home's answer cannot be used",
            "Nobody was logged in. Go back to the application and try again. If it happens again, tell the operator of this \
             login service the number below.",
        ),
        UpstreamError::UserRefused => refused(
            StatusCode::FORBIDDEN,
            "Your account cannot be used here",
            "Only some accounts of this home may log in elsewhere, and the one that you are signed in with is not among \
             them. Go back to the application and log in with another account, or ask the people who run it.",
        ),
        UpstreamError::RequestTooLarge => refused(
            StatusCode::BAD_REQUEST,
            "This application's request is too large for this home",
            "Choose another home, or tell the application's operator the number below.",
        ),
        UpstreamError::NotKnown
        | UpstreamError::Fetch(..)
        | UpstreamError::Answer(..)
        | UpstreamError::Metadata(_)
        | UpstreamError::Exchange(_) => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "Your home does not answer",
            "Wait a moment, then go back to the application and try again.",
        ),
        UpstreamError::Internal(_) => Problem::INTERNAL,
    }
}

fn of_device(error: &DeviceError) -> Problem {
    match error {
        DeviceError::Unknown
        | DeviceError::OfAnotherClient
        | DeviceError::Pending
        | DeviceError::TooFast
        | DeviceError::Denied
        | DeviceError::Expired
        | DeviceError::Redeemed
        | DeviceError::Answered => refused(
            StatusCode::BAD_REQUEST,
            "This device does not wait any more",
            "Somebody has answered already, or it took too long. Let the device show a new code.",
        ),
        DeviceError::Store(error) | DeviceError::Grant(TokenError::Store(error)) => of_store(error),
        DeviceError::Grant(_) | DeviceError::Internal(_) => Problem::INTERNAL,
    }
}

fn of_callback(error: CallbackError) -> Problem {
    match error {
        CallbackError::Parameters => Problem::BAD_REQUEST,
        CallbackError::Client => refused(
            StatusCode::BAD_REQUEST,
            "This application is not known here",
            "The application that sent you may not use this login service. Ask its operator.",
        ),
        CallbackError::RedirectUri => refused(
            StatusCode::BAD_REQUEST,
            "This application's address is not known here",
            "The application asked to send you to an address that is not registered for it. Ask its operator.",
        ),
    }
}

fn of_login(error: &LoginError) -> Problem {
    let again = "Go back to the application that you want to use and log in from there.";
    match error {
        LoginError::Unreadable | LoginError::HandleUnknown => {
            refused(StatusCode::BAD_REQUEST, "This login is not known here", again)
        }
        LoginError::PushedRequestUnknown => {
            refused(StatusCode::BAD_REQUEST, "This login is over or was never begun", again)
        }
        LoginError::SignedOut => refused(StatusCode::FORBIDDEN, "You are not signed in any more", again),
        LoginError::TakenBack => refused(
            StatusCode::FORBIDDEN,
            "Your account was disabled or removed at home",
            "Ask whoever runs your home.",
        ),
        LoginError::Expired => refused(StatusCode::BAD_REQUEST, "This login took too long", again),
        LoginError::OtherBrowser => refused(
            StatusCode::FORBIDDEN,
            "This login began in another browser",
            "Log in from the application in this browser, and let it accept cookies from this site.",
        ),
        LoginError::TicketUsed | LoginError::HandleUsed => {
            refused(StatusCode::BAD_REQUEST, "This login is finished already", again)
        }
        LoginError::RelyingPartyGone => refused(
            StatusCode::BAD_REQUEST,
            "This application is not known here",
            "The application that sent you may not use this login service. Ask its operator.",
        ),
        LoginError::HomeNotAccepted | LoginError::TicketOfAnotherHome | LoginError::IdentityRefused(_) => {
            refused(StatusCode::FORBIDDEN, "This home cannot be used here", "Go back and choose another home.")
        }
        LoginError::HomeNotReady => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "Your home does not answer",
            "Wait a moment, then go back to the application and try again.",
        ),
        LoginError::Internal(_) => Problem::INTERNAL,
        LoginError::Store(error) => of_store(error),
    }
}

fn of_store(error: &StoreError) -> Problem {
    match error {
        StoreError::Conflict | StoreError::Unavailable(_) => Problem::BUSY,
        StoreError::Corrupt(_) => Problem::INTERNAL,
    }
}

/// Why a request is not taken that a client pushed (RFC 9126 2.3).
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error(transparent)]
    Client(#[from] TokenRequestError),
    #[error(transparent)]
    Request(RequestError),
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl From<DpopError> for PushError {
    fn from(error: DpopError) -> Self {
        Self::Client(error.into())
    }
}

impl IntoResponse for PushError {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Client(error) => return error.into_response(),
            Self::Request(error) => (StatusCode::BAD_REQUEST, of_request(error)),
            Self::Login(_) => UNAVAILABLE,
        };
        log(&self, status, error);
        let body = json!({"error": error.code, "error_description": error.description});
        (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// What is wrong with a request to the token endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenRequestError {
    #[error("the request is no form, or has a query")]
    NotAForm,
    #[error("a parameter is repeated or is not UTF-8")]
    Parameter(#[from] crate::oidc::parameters::ParameterError),
    #[error("a parameter is missing")]
    Missing,
    #[error("the grant_type is not supported")]
    GrantType,
    #[error("the client may not use this grant_type")]
    GrantTypeNotAllowed,
    #[error("the scope does not contain openid")]
    ScopeWithoutOpenid,
    #[error("an actor_token was sent")]
    ActorToken,
    #[error("the type of token is not supported")]
    TokenType,
    #[error("the target is nobody whose API can be called")]
    Target,
    #[error("the subject_token cannot be exchanged: {0}")]
    SubjectToken(#[source] TokenError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Client(#[from] ClientAuthError),
    #[error("there were too many attempts from there")]
    TooMany(Duration),
    #[error(transparent)]
    Dpop(#[from] DpopError),
    #[error("the client has to use its certificate")]
    CertificateMissing,
    #[error("the client has to be bound to its certificate, and has sent a proof of another key")]
    TwoBindings,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TokenRequestError {
    /// The code that the client is told.
    pub(super) fn code(&self) -> &'static str {
        self.said().1.code
    }

    fn said(&self) -> (StatusCode, OAuthError) {
        match self {
            Self::NotAForm => (StatusCode::BAD_REQUEST, oauth("invalid_request", "Send a form in the body.")),
            Self::Parameter(_) => (StatusCode::BAD_REQUEST, oauth("invalid_request", "A parameter is repeated.")),
            Self::Missing => (StatusCode::BAD_REQUEST, oauth("invalid_request", "A parameter is missing.")),
            Self::GrantType => {
                (StatusCode::BAD_REQUEST, oauth("unsupported_grant_type", "This grant_type is not supported."))
            }
            Self::GrantTypeNotAllowed => {
                (StatusCode::BAD_REQUEST, oauth("unauthorized_client", "The client may not use this grant_type."))
            }
            Self::ScopeWithoutOpenid => (
                StatusCode::BAD_REQUEST,
                oauth("invalid_scope", "scope must contain openid, and only characters that scopes have."),
            ),
            Self::ActorToken => (StatusCode::BAD_REQUEST, oauth("invalid_request", "actor_token is not supported.")),
            Self::TokenType => (
                StatusCode::BAD_REQUEST,
                oauth("invalid_request", "Access tokens are exchanged for access tokens only."),
            ),
            Self::Target => (StatusCode::BAD_REQUEST, INVALID_TARGET),
            Self::SubjectToken(error) => subject_token(error),
            Self::Device(error) => device(error),
            Self::Client(error) => client(*error),
            Self::TooMany(_) => {
                (StatusCode::TOO_MANY_REQUESTS, oauth("temporarily_unavailable", "Too many attempts. Wait."))
            }
            Self::Dpop(error) => (StatusCode::BAD_REQUEST, dpop(*error)),
            Self::CertificateMissing => {
                (StatusCode::BAD_REQUEST, oauth("invalid_request", "Connect with the instance certificate."))
            }
            Self::TwoBindings => (
                StatusCode::BAD_REQUEST,
                oauth("invalid_request", "Tokens of this client are bound to its certificate."),
            ),
            Self::Token(error) => token(error),
            Self::Session(_) | Self::Store(_) => UNAVAILABLE,
        }
    }
}

impl IntoResponse for TokenRequestError {
    fn into_response(self) -> Response {
        let (status, error) = self.said();
        log(&self, status, error);
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::Client(ClientAuthError::Header | ClientAuthError::WrongBasic) = self {
            // RFC 6749 5.2: the scheme that the client used.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"homeward\""));
        }
        if let Self::TooMany(wait) = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        let body = json!({"error": error.code, "error_description": error.description});
        (status, headers, Json(body)).into_response()
    }
}

fn log(cause: &(dyn std::error::Error + 'static), status: StatusCode, error: OAuthError) {
    if status.is_server_error() {
        error!(%cause, source = ?cause.source(), error = error.code, "a token request failed");
    } else {
        info!(%cause, error = error.code, "a token request was refused");
    }
}

const UNAVAILABLE: (StatusCode, OAuthError) =
    (StatusCode::SERVICE_UNAVAILABLE, oauth("temporarily_unavailable", "Try again."));

fn client(error: ClientAuthError) -> (StatusCode, OAuthError) {
    let wrong = oauth("invalid_client", "Client authentication failed.");
    match error {
        ClientAuthError::Parameter(_) => {
            (StatusCode::BAD_REQUEST, oauth("invalid_request", "A parameter is repeated or is not UTF-8."))
        }
        ClientAuthError::TwoMethods => {
            (StatusCode::BAD_REQUEST, oauth("invalid_request", "Authenticate by one method only."))
        }
        ClientAuthError::Missing
        | ClientAuthError::Public
        | ClientAuthError::Header
        | ClientAuthError::Wrong
        | ClientAuthError::WrongBasic
        | ClientAuthError::Assertion(_) => (StatusCode::UNAUTHORIZED, wrong),
    }
}

/// RFC 8693 2.2.2: invalid for any reason is an invalid request.
fn subject_token(error: &TokenError) -> (StatusCode, OAuthError) {
    let (status, error) = token(error);
    match status.is_server_error() {
        true => (status, error),
        false => (StatusCode::BAD_REQUEST, oauth("invalid_request", "The subject_token cannot be exchanged.")),
    }
}

/// RFC 8628 3.5.
fn device(error: &DeviceError) -> (StatusCode, OAuthError) {
    let refused = |code, description| (StatusCode::BAD_REQUEST, oauth(code, description));
    match error {
        DeviceError::Pending => refused("authorization_pending", "The user has not answered yet."),
        DeviceError::TooFast => refused("slow_down", "Wait five seconds longer between two requests."),
        DeviceError::Denied => refused("access_denied", "The user refused."),
        DeviceError::Expired => refused("expired_token", "The device code has expired."),
        DeviceError::Unknown | DeviceError::OfAnotherClient | DeviceError::Redeemed | DeviceError::Answered => {
            refused("invalid_grant", "The code or token is not valid for this request.")
        }
        DeviceError::Grant(error) => token(error),
        DeviceError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, oauth("server_error", "Try again.")),
        DeviceError::Store(_) => UNAVAILABLE,
    }
}

const INVALID_TARGET: OAuthError = oauth("invalid_target", "The resource was not granted, or may not be called.");

fn token(error: &TokenError) -> (StatusCode, OAuthError) {
    // One sentence for all: whoever guesses learns nothing from it. The log has the rule that was broken.
    let invalid = oauth("invalid_grant", "The code or token is not valid for this request.");
    match error {
        TokenError::CodeUnknown
        | TokenError::CodeOfAnotherClient
        | TokenError::RedirectUriMismatch
        | TokenError::VerifierMissing
        | TokenError::VerifierWrong
        | TokenError::VerifierUnexpected
        | TokenError::CodeReplayed
        | TokenError::CodeExpired
        | TokenError::CodeIsProbe
        | TokenError::RefreshTokenUnknown
        | TokenError::RefreshTokenOfAnotherClient
        | TokenError::RefreshTokenReplayed
        | TokenError::RefreshTokenExpired
        | TokenError::TokenOfAnotherClient
        | TokenError::BoundToAnotherKey
        | TokenError::NotExchangeable
        | TokenError::SessionEnded
        | TokenError::GrantEnded
        | TokenError::TrustWithdrawn
        | TokenError::LinkChanged => (StatusCode::BAD_REQUEST, invalid),
        TokenError::ScopeWidened => {
            (StatusCode::BAD_REQUEST, oauth("invalid_scope", "scope must not go beyond what was granted."))
        }
        TokenError::ResourceNotGranted => (StatusCode::BAD_REQUEST, INVALID_TARGET),
        TokenError::AccessTokenUnknown | TokenError::AccessTokenExpired | TokenError::AccessTokenRevoked => {
            (StatusCode::UNAUTHORIZED, oauth("invalid_token", "The access token is not valid."))
        }
        TokenError::Internal(_) | TokenError::Signing(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, oauth("server_error", "Try again."))
        }
        TokenError::Store(_) => UNAVAILABLE,
    }
}

/// RFC 9449 5, 7.1 and 8.
fn dpop(error: DpopError) -> OAuthError {
    match error {
        DpopError::Nonce => oauth("use_dpop_nonce", "Put the nonce of the DPoP-Nonce header into the DPoP proof."),
        DpopError::Missing => {
            oauth("invalid_dpop_proof", "Send a DPoP proof: tokens of this client are bound to a key.")
        }
        DpopError::Repeated
        | DpopError::Unreadable
        | DpopError::Type
        | DpopError::Algorithm
        | DpopError::Key
        | DpopError::Signature
        | DpopError::Method
        | DpopError::Address
        | DpopError::Time
        | DpopError::AccessToken
        | DpopError::Replayed => oauth("invalid_dpop_proof", "The DPoP proof is not valid for this request."),
    }
}

/// What is wrong with a request to userinfo (RFC 6750 3.1).
#[derive(Debug, thiserror::Error)]
pub(super) enum UserinfoError {
    #[error("there is no access token")]
    Missing,
    #[error("there is more than one access token, or one where none may be")]
    Ambiguous,
    #[error("the access token is not for userinfo")]
    Scope,
    #[error("the access token is bound, and was used without what it is bound to")]
    Unbound,
    #[error(transparent)]
    Dpop(#[from] DpopError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl UserinfoError {
    fn public(&self) -> (StatusCode, Option<OAuthError>) {
        let invalid = oauth("invalid_token", "The access token is not valid.");
        match self {
            // RFC 6750 3.1: a request without token gets no error code.
            Self::Missing => (StatusCode::UNAUTHORIZED, None),
            Self::Ambiguous => (
                StatusCode::BAD_REQUEST,
                Some(oauth("invalid_request", "Send the access token once, in the header or in the body.")),
            ),
            Self::Scope => {
                (StatusCode::FORBIDDEN, Some(oauth("insufficient_scope", "The access token lacks the scope openid.")))
            }
            Self::Unbound => (
                StatusCode::UNAUTHORIZED,
                Some(oauth("invalid_token", "The access token is bound: show what it is bound to.")),
            ),
            Self::Dpop(error) => (StatusCode::UNAUTHORIZED, Some(dpop(*error))),
            Self::Token(
                TokenError::TrustWithdrawn
                | TokenError::LinkChanged
                | TokenError::SessionEnded
                | TokenError::GrantEnded,
            ) => (StatusCode::UNAUTHORIZED, Some(invalid)),
            Self::Token(error) => {
                let (status, error) = token(error);
                (status, Some(error))
            }
            Self::Session(_) => (UNAVAILABLE.0, Some(UNAVAILABLE.1)),
        }
    }
}

impl IntoResponse for UserinfoError {
    fn into_response(self) -> Response {
        let (status, error) = self.public();
        if let Some(error) = error {
            log(&self, status, error);
        }
        let said = error.map_or_else(String::new, |error| {
            format!(", error=\"{}\", error_description=\"{}\"", error.code, error.description)
        });
        let scope = if matches!(self, Self::Scope) { ", scope=\"openid\"" } else { "" };
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 9449 7.1: which scheme would do. A bound token is of no use with the other one.
        let by_proof = format!("DPoP realm=\"homeward\"{said}, algs=\"{}\"", dpop::ALGORITHMS.join(" "));
        let bearer = format!("Bearer realm=\"homeward\"{said}{scope}");
        let challenges = match self {
            Self::Dpop(_) | Self::Unbound => vec![by_proof],
            Self::Missing => vec![bearer, by_proof],
            Self::Ambiguous | Self::Scope | Self::Token(_) | Self::Session(_) => vec![bearer],
        };
        for challenge in challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
        match error {
            Some(error) => {
                let body = json!({"error": error.code, "error_description": error.description});
                (status, headers, Json(body)).into_response()
            }
            None => (status, headers).into_response(),
        }
    }
}

/// What is wrong with a request to the registration endpoint, or to a client's own.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistrationRequestError {
    #[error("there is no bearer token")]
    TokenMissing,
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl IntoResponse for RegistrationRequestError {
    /// RFC 7591 3.2.2. The sentences on metadata are fixed too: they name a member and a rule, and nothing that was sent.
    fn into_response(self) -> Response {
        let again = || "Try again.".to_owned();
        let (status, code, description) = match &self {
            Self::TokenMissing => {
                (StatusCode::UNAUTHORIZED, "invalid_token", "Send the token that ops gave you.".to_owned())
            }
            Self::Registration(RegistrationError::TokenInvalid) => {
                (StatusCode::UNAUTHORIZED, "invalid_token", "The token is not good for this.".to_owned())
            }
            Self::Registration(RegistrationError::Store(error)) => {
                (of_store(error).status, "temporarily_unavailable", again())
            }
            Self::Metadata(error @ (MetadataError::RedirectUri(_) | MetadataError::RedirectUrisMissing)) => {
                (StatusCode::BAD_REQUEST, "invalid_redirect_uri", error.to_string())
            }
            Self::Metadata(error @ (MetadataError::NotAnObject | MetadataError::Member(..))) => {
                (StatusCode::BAD_REQUEST, "invalid_client_metadata", error.to_string())
            }
            Self::Secret(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", again()),
        };
        if status.is_server_error() {
            error!(cause = %self, source = ?std::error::Error::source(&self), "a registration failed");
        } else {
            info!(cause = %self, error = code, "a registration was refused");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 3.1: a request without token gets no error code.
            let challenge = match self {
                Self::TokenMissing => "Bearer realm=\"homeward\"",
                Self::Metadata(_) | Self::Registration(_) | Self::Secret(_) => {
                    "Bearer realm=\"homeward\", error=\"invalid_token\""
                }
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        (status, headers, Json(json!({"error": code, "error_description": description}))).into_response()
    }
}
