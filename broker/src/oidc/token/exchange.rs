//! Grant types that need no login: client credentials (RFC 6749 4.4) and token exchange (RFC 8693), by which one instance
//! calls another one's API as the user.
//!
//! What is named as target is looked up and judged; that an API may not be called and that there is none looks the same,
//! so that nobody learns who is in the federation by asking.

use url::Url;

use crate::clock::Timestamp;
use crate::grants::{Exchange, SubjectToken, Target, TokenError, Tokens};
use crate::oidc::Provider;
use crate::oidc::error::TokenRequestError;
use crate::oidc::token::TokenRequest;
use crate::registry::{ClientAuthMethod, Snapshot, VerifiedIdentity};

/// Identifiers of token types (RFC 8693 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Longest resource, in bytes.
const MAX_RESOURCE: usize = 512;

impl Provider {
    /// A client's own token: about no user, without refresh token (RFC 6749 4.4.3).
    pub(super) fn client_credentials(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        request.check_confidential()?;
        // Every scope is about a user here. RFC 6749 5.2: what cannot be granted is refused, not left out.
        if request.parameters.get("scope")?.is_some() {
            return Err(TokenError::ScopeWidened.into());
        }
        let target = request.target()?;
        let TokenRequest { terms, snapshot, now, .. } = request;
        Ok(self.grants.issue_to_client(terms, target, snapshot, *now)?)
    }

    /// A token of a user, for one for the API of another instance (RFC 8693 2).
    pub(super) async fn exchange(&self, request: &TokenRequest<'_>) -> Result<Tokens, TokenRequestError> {
        request.check_confidential()?;
        let TokenRequest { parameters, terms, snapshot, now } = request;
        // T12: what is not done is refused, never left out.
        if parameters.get("actor_token")?.is_some() || parameters.get("actor_token_type")?.is_some() {
            return Err(TokenRequestError::ActorToken);
        }
        let issued_token_type = match parameters.get("requested_token_type")? {
            None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
            Some(JWT) => JWT,
            Some(_) => return Err(TokenRequestError::TokenType),
        };
        match parameters.get("subject_token_type")? {
            Some(ACCESS_TOKEN) => {}
            Some(_) => return Err(TokenRequestError::TokenType),
            None => return Err(TokenRequestError::Missing),
        }
        let token = parameters.get("subject_token")?.ok_or(TokenRequestError::Missing)?;
        let target = request.target()?.ok_or(TokenRequestError::Missing)?;
        let opened = self.grants.open_subject_token(token, terms, snapshot, *now).await;
        let subject = opened.map_err(TokenRequestError::SubjectToken)?;
        let person = self.person_of(&subject, *now).await?;
        let scope = parameters.get("scope")?;
        let exchange = Exchange { terms: terms.clone(), subject: &subject, person: &person, target, scope };
        let tokens = self.grants.exchange(&exchange, snapshot, *now)?;
        Ok(Tokens { issued_token_type: Some(issued_token_type), ..tokens })
    }

    /// Who a token speaks of: whom its session is of, or whom an offline grant remembers.
    async fn person_of(&self, subject: &SubjectToken, now: Timestamp) -> Result<VerifiedIdentity, TokenRequestError> {
        if let Some(person) = &subject.grant.offline {
            return Ok(VerifiedIdentity::clone(person));
        }
        let session = self.sessions.get(&subject.grant.session, now).await?;
        let ended = TokenRequestError::SubjectToken(TokenError::SessionEnded);
        session.map(|session| session.identity).ok_or(ended)
    }
}

impl<'a> TokenRequest<'a> {
    /// Who only says who it is gets nothing by that alone (RFC 6749 4.4).
    fn check_confidential(&self) -> Result<(), TokenRequestError> {
        match self.terms.client.relying_party.auth_method {
            ClientAuthMethod::None => Err(TokenRequestError::GrantTypeNotAllowed),
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt
            | ClientAuthMethod::PrivateKeyJwt
            | ClientAuthMethod::TlsClientAuth => Ok(()),
        }
    }

    /// For whose API the token is to be, if for one: by its address, or by its name or client id; by both if they agree.
    fn target(&self) -> Result<Option<Target<'a>>, TokenRequestError> {
        let (resource, audience) = (self.parameters.get("resource")?, self.parameters.get("audience")?);
        let by_address = resource.map(|resource| at(resource, self.snapshot)).transpose()?;
        let by_name = audience.map(|audience| named(audience, self.snapshot)).transpose()?;
        match (by_address, by_name) {
            (Some(target), Some(other)) if target.server.name != other.server.name => Err(TokenRequestError::Target),
            (target, other) => Ok(target.or(other)),
        }
    }
}

/// The API that an address is part of (RFC 8707 2): absolute, without fragment, and written as it is meant.
fn at<'a>(resource: &'a str, snapshot: &'a Snapshot) -> Result<Target<'a>, TokenRequestError> {
    let url = Url::parse(resource).ok().filter(|_| resource.len() <= MAX_RESOURCE);
    let plain =
        |url: &Url| url.fragment().is_none() && url.as_str().trim_end_matches('/') == resource.trim_end_matches('/');
    if !url.as_ref().is_some_and(plain) {
        return Err(TokenRequestError::Target);
    }
    let server = snapshot.resource_server(resource).ok_or(TokenRequestError::Target)?;
    Ok(Target { server, resource })
}

/// The API of an instance by name, or by its client id.
fn named<'a>(audience: &str, snapshot: &'a Snapshot) -> Result<Target<'a>, TokenRequestError> {
    let by_name = audience.parse().ok().and_then(|name| snapshot.instance(&name));
    let id = by_name.and_then(|instance| Some(instance.relying_party.as_ref()?.client_id.as_str()));
    // Again by its id: only that says whether it takes part now. A registered client is no API: it shares its name with
    // whoever was registered beside it, and has chosen its address itself.
    let server = snapshot.client(id.unwrap_or(audience)).filter(|server| server.enrolled);
    let server = server.ok_or(TokenRequestError::Target)?;
    Ok(Target { server, resource: server.public_url })
}
