//! The server of django-simple-sso, as its unchanged clients know it (version 1.3, wire format of itsdangerous 0.24).
//!
//! 1. A client asks for a request token ([`Server::request_token`]), in a signed request.
//! 2. The browser brings it ([`Server::visit`]), logs in at the gate if it has not yet, and goes back to the client with an
//!    access token ([`Server::authorize`]).
//! 3. The client asks who that is ([`Server::verify`]), signed again.
//!
//! Stricter than theirs: tokens are good once, and users go back only to the address that is configured for the client.
//! Staff and superusers are never made: whoever is one at a client is made so there.

pub(crate) mod keys;
pub(crate) mod signed;

mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use time::OffsetDateTime;
use url::Url;

use self::keys::{Client, KeyError};
use self::signed::SignatureRefused;
pub(crate) use self::tokens::TokenError;
use self::tokens::{Granted, Tokens};
use super::session::Session;
use crate::config::gate::SsoClient;

/// Longest address that a client of theirs can have.
const LONGEST_REDIRECT: usize = 1023;

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    clients: Vec<Client>,
    tokens: Tokens,
}

/// A signed request of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The header `x-services-public-key`.
    pub(crate) public_key: Option<&'a str>,
    /// The body.
    pub(crate) signed: &'a str,
}

/// Why a client's request is refused. The sentences go to the client, whose operator reads them.
#[derive(Debug, Error)]
pub(crate) enum RequestRefused {
    /// No header.
    #[error("No public key")]
    NoPublicKey,
    /// Not one of the clients.
    #[error("Invalid public key: no client of that key is configured here")]
    UnknownClient,
    /// The envelope.
    #[error(transparent)]
    Signature(#[from] SignatureRefused),
    /// What is in the envelope.
    #[error("Failed to process the request: it lacks what it must have")]
    BadRequest,
    /// A client that takes itself for another address than the operator does.
    #[error(
        "Failed to process the request: {found:?} is not below {expected}, which is configured for this client; check that the client knows its own address behind its proxy"
    )]
    Elsewhere {
        /// Where it wants its users.
        found: String,
        /// Where they may go.
        expected: Url,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

#[derive(Deserialize)]
struct TokenRequest {
    redirect_to: String,
}

#[derive(Deserialize)]
struct Verification {
    access_token: String,
    #[serde(default)]
    extra_data: Value,
}

impl Server {
    /// For these clients; `None` if there are none.
    pub(super) fn new(clients: &[SsoClient]) -> Result<Option<Self>, KeyError> {
        let clients = clients.iter().map(Client::load).collect::<Result<Vec<_>, _>>()?;
        Ok((!clients.is_empty()).then(|| Self { clients, tokens: Tokens::default() }))
    }

    /// A client begins a login. Signed, as everything it is told.
    pub(crate) fn request_token(&self, request: Request<'_>, now: OffsetDateTime) -> Result<String, RequestRefused> {
        let (position, client, TokenRequest { redirect_to }) = self.open(request, now)?;
        let address = Url::parse(&redirect_to).ok().filter(|_| redirect_to.len() <= LONGEST_REDIRECT);
        let address = address.filter(|address| client.may_return_to(address));
        let address = address.ok_or_else(|| RequestRefused::Elsewhere {
            found: redirect_to.chars().filter(|c| !c.is_control()).take(200).collect(),
            expected: client.redirect().clone(),
        })?;
        let token = self.tokens.request(position, address, now)?;
        Ok(client.key.sign(&json!({ "request_token": token }).to_string(), now))
    }

    /// A browser brings a request token.
    pub(crate) fn visit(&self, request_token: &str, now: OffsetDateTime) -> Result<(), TokenError> {
        self.tokens.refresh(request_token, now)
    }

    /// Somebody is signed in. Where the browser goes.
    pub(crate) fn authorize(
        &self,
        request_token: &str,
        session: Session,
        now: OffsetDateTime,
    ) -> Result<Url, TokenError> {
        let Granted { client, redirect_to, access_token } = self.tokens.grant(request_token, session, now)?;
        let client = self.clients.get(client).ok_or(TokenError::Unknown)?;
        tracing::info!(client = client.public_key, "a client of django-simple-sso gets a user");
        let payload = URL_SAFE_NO_PAD.encode(Value::String(access_token).to_string());
        let mut address = redirect_to.clone();
        let others = redirect_to.query_pairs().filter(|(name, _)| name != "access_token");
        address
            .query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("access_token", &client.key.sign(&payload, now));
        Ok(address)
    }

    /// A client asks who it is. No token outlives the session that it was made in: `is_over` says of one that it has ended.
    pub(crate) fn verify(
        &self,
        request: Request<'_>,
        is_over: impl FnOnce(&Session) -> bool,
        now: OffsetDateTime,
    ) -> Result<String, RequestRefused> {
        let (position, client, Verification { access_token, extra_data }) = self.open(request, now)?;
        let session = self.tokens.redeem(&access_token, position, now)?;
        if is_over(&session) {
            return Err(TokenError::SessionOver.into());
        }
        Ok(client.key.sign(&user(&session, &extra_data).to_string(), now))
    }

    fn open<T: for<'de> Deserialize<'de>>(
        &self,
        request: Request<'_>,
        now: OffsetDateTime,
    ) -> Result<(usize, &Client, T), RequestRefused> {
        let public_key = request.public_key.ok_or(RequestRefused::NoPublicKey)?;
        let known = self.clients.iter().enumerate().find(|(_, client)| client.public_key == public_key);
        let (position, client) = known.ok_or(RequestRefused::UnknownClient)?;
        let payload = client.key.open(request.signed, now)?;
        let content = serde_json::from_str(payload).map_err(|_| RequestRefused::BadRequest)?;
        Ok((position, client, content))
    }
}

/// What a client's `build_user` writes into its users: their names are what they go by.
fn user(session: &Session, extra_data: &Value) -> Value {
    let mut user = json!({
        "username": session.username,
        "email": session.email,
        "first_name": session.given_name,
        "last_name": session.family_name,
        "is_staff": false,
        "is_superuser": false,
        "is_active": true,
    });
    let asked: Vec<&str> = extra_data.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let known = [
        ("groups", json!(session.groups)),
        ("name", json!(session.name)),
        ("subject", json!(session.subject)),
        ("email_verified", json!(session.email_verified)),
    ];
    let extra: Map<String, Value> = known
        .into_iter()
        .filter(|(name, _)| asked.contains(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    // Only to those that ask: a client that does not know the member fails on it.
    if let (false, Some(user)) = (asked.is_empty(), user.as_object_mut()) {
        user.insert("extra_data".to_owned(), Value::Object(extra));
    }
    user
}

#[cfg(test)]
mod tests;
