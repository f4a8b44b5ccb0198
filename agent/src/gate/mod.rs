//! The agent as relying party, where the application speaks no OpenID Connect itself. It is a client of the broker
//! ([`client`]) and tells the application who is there, in a way that it understands:
//!
//! * nginx asks about each request ([`http`], `auth_request`) and passes the answer on as headers ([`identity_headers`]);
//! * clients of django-simple-sso find their server here ([`simple_sso`]).
//!
//! Either way:
//!
//! 1. A browser without a session comes to [`Gate::begin`] with the page that it wants ([`return_path`]), and goes to the
//!    broker. What its answer is judged by waits in a cookie of that browser, sealed.
//! 2. [`Gate::finish`] takes the answer ([`crate::provider`]) and makes a [`session`], sealed in a cookie too.
//! 3. [`Gate::recognise`] says whose a cookie is: sealed here, neither idle nor old, and not among those that ended
//!    ([`ended`]) because the user or the broker said so.

pub(crate) mod client;
pub(crate) mod ended;
pub(crate) mod http;
pub(crate) mod identity_headers;
pub(crate) mod pages;
pub(crate) mod return_path;
pub(crate) mod session;
pub(crate) mod simple_sso;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use url::Url;

use self::client::GateClient;
use self::ended::{EndedSessions, Which};
use self::return_path::ReturnPath;
use self::session::Session;
use self::simple_sso::Server;
use self::simple_sso::keys::KeyError;
use crate::config::{Config, PublicUrl};
use crate::disk::{DiskError, PrivateDir};
use crate::provider::seal::{Seal, SealError};
use crate::provider::{Answer, Demand, Pending, Provider, ProviderError};
use crate::random::{self, NoRandomness};

/// Of sessions, in the data directory.
const KEY_FILE: &str = "gate-key.json";
/// What a sealed session is sealed as.
const SESSION: &str = "gate session";

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    client: Arc<GateClient>,
    ended: Arc<EndedSessions>,
    seal: Seal,
    public_url: PublicUrl,
    path: String,
    application: String,
    simple_sso: Option<Server>,
}

/// A login that a browser begins.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where it goes.
    pub(crate) address: Url,
    /// Its cookie.
    pub(crate) sealed: String,
    /// Chooses the cookie's name.
    pub(crate) chance: u8,
}

/// A login that came to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The session's cookie.
    pub(crate) sealed: String,
    /// The name of the login's cookie, which is spent.
    pub(crate) begun_in: String,
    /// The page that was wanted.
    pub(crate) next: ReturnPath,
}

/// Somebody who is signed in.
#[derive(Debug)]
pub(crate) struct Present {
    /// Who.
    pub(crate) session: Session,
    /// A newer cookie, if it is time for one.
    pub(crate) renewed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Waiting {
    pending: Pending,
    next: ReturnPath,
}

/// Why a browser does not get what it came for.
#[derive(Debug, Error)]
pub(crate) enum GateError {
    /// The broker has sent no credentials yet, or they are not proved.
    #[error(
        "the broker has not sent this instance's client credentials yet, or they are not proved; see homeward-agent status"
    )]
    NotReady,
    /// An answer without the cookie of its request.
    #[error("an answer came to a login that this browser did not begin here, or whose cookie it has lost")]
    NotBegunHere,
    /// Parameters that are missing or there twice.
    #[error("the answer to a login cannot be read")]
    BadAnswer,
    /// The broker or its answer.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Without a name the application cannot know the user.
    #[error("the broker says no preferred_username of the user")]
    NoUsername,
    /// The agent's own state.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The agent's own state.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// A request of a script or an image, which cannot follow a login.
    #[error("a login cannot begin in a request that is no navigation")]
    NoNavigation,
    /// A token of django-simple-sso.
    #[error(transparent)]
    SimpleSso(#[from] simple_sso::TokenError),
}

/// Why there is no gate.
#[derive(Debug, Error)]
pub enum GateNotOpened {
    /// Its key.
    #[error("{0}")]
    Seal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A client's key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Gate {
    /// The gate of this agent, if there is one.
    pub(crate) fn open(
        config: &Config,
        data: &PrivateDir,
        client: Option<Arc<GateClient>>,
        ended: Option<Arc<EndedSessions>>,
    ) -> Result<Option<Self>, GateNotOpened> {
        let Some(((section, client), ended)) = config.gate.as_ref().zip(client).zip(ended) else { return Ok(None) };
        let named = Some(config.display_name.clone()).filter(|name| !name.is_empty());
        Ok(Some(Self {
            client,
            ended,
            seal: Seal::kept(data, KEY_FILE)?,
            public_url: config.public_url.clone(),
            path: config.portal.path.clone(),
            application: named.unwrap_or_else(|| config.public_url.authority()),
            simple_sso: Server::new(&section.clients)?,
        }))
    }

    /// Whose cookie this is.
    pub(crate) fn recognise(&self, cookie: Option<&str>, now: OffsetDateTime) -> Option<Present> {
        let session: Session = self.seal.open(SESSION, cookie?)?;
        if self.is_over(&session, now) {
            return None;
        }
        // A cookie that cannot be renewed now is good for as long as it is.
        let renewed = session.renewed(now).and_then(|renewed| self.seal.seal(SESSION, &renewed).ok());
        Some(Present { session, renewed })
    }

    /// Whether a session has ended, by itself or by somebody.
    pub(crate) fn is_over(&self, session: &Session, now: OffsetDateTime) -> bool {
        !session.is_live(now) || self.ended.contains(session)
    }

    /// A browser goes to the broker.
    pub(crate) async fn begin(&self, next: ReturnPath, now: OffsetDateTime) -> Result<Begun, GateError> {
        let (address, pending) = self.provider()?.begin(&Demand::default(), now).await?;
        let sealed = self.seal.seal(&login(pending.label()), &Waiting { pending, next })?;
        let [chance] = random::bytes()?;
        Ok(Begun { address, sealed, chance })
    }

    /// A browser comes back, with the names and values of its logins' cookies.
    pub(crate) async fn finish(
        &self,
        query: &str,
        logins: &[(String, &str)],
        now: OffsetDateTime,
    ) -> Result<Finished, GateError> {
        let answer = Answer::parse(query).ok_or(GateError::BadAnswer)?;
        let label = answer.label().ok_or(GateError::NotBegunHere)?.to_owned();
        let open = |(name, sealed): &(String, &str)| Some((name.clone(), self.seal.open(&login(&label), sealed)?));
        let begun = logins.iter().find_map(open);
        let (begun_in, Waiting { pending, next }) = begun.ok_or(GateError::NotBegunHere)?;
        let provider = self.provider()?;
        let signed_in = provider.finish(&pending, answer, now).await?;
        let said = provider.claims(&signed_in).await?;
        let session = Session::new(signed_in.subject, &said, now)?;
        tracing::info!(username = session.username, subject = session.subject, "somebody signed in at the gate");
        Ok(Finished { sealed: self.seal.seal(SESSION, &session)?, begun_in, next })
    }

    /// Ends the session of this cookie. Where the browser goes, to log out at the broker too.
    pub(crate) async fn log_out(&self, cookie: Option<&str>, now: OffsetDateTime) -> Result<Url, GateError> {
        if let Some(present) = self.recognise(cookie, now) {
            self.ended.end(Which::Session(present.session.id), now)?;
        }
        let home = format!("{}/", self.public_url.origin());
        let provider = self.provider()?;
        let Some(mut page) = provider.logout_page().await else {
            return Url::parse(&home).map_err(|source| ProviderError::Address(source).into());
        };
        // OpenID Connect RP-Initiated Logout 2: without an id_token_hint, the broker asks the user first.
        page.query_pairs_mut()
            .append_pair("client_id", &provider.registration().client_id)
            .append_pair("post_logout_redirect_uri", &home);
        Ok(page)
    }

    fn provider(&self) -> Result<Arc<Provider>, GateError> {
        self.client.provider_in_use().ok_or(GateError::NotReady)
    }
}

fn login(label: &str) -> String {
    format!("gate login {label}")
}

impl From<NoRandomness> for GateError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl From<SealError> for GateNotOpened {
    fn from(error: SealError) -> Self {
        Self::Seal(Box::new(error))
    }
}

#[cfg(test)]
mod tests;
