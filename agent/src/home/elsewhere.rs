//! Users who log in at a provider of the application's own, by the home methods `oidc` and `simple_sso`: the browser leaves
//! the portal with the ticket's login under way, and comes back to a callback.
//!
//! What its answer is judged by waits here, for half an hour, bounded, and belongs to one browser (its cookie) and one
//! `state`; it is taken out when the answer comes, whatever that is. So an answer counts once, and in the browser that
//! asked (RFC 6749 10.12).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homeward_proto::v1::complete_ticket_request::Outcome;
use homeward_proto::v1::{LoginFailure, OpenTicketResponse, VerifiedIdentity};
use homeward_telemetry::traces;
use thiserror::Error;
use tokio::time::Instant;
use url::form_urlencoded;

use super::decision::Note;
use super::form_token::Browser;
use super::oidc::OidcHome;
use super::reply::Reply;
use super::simple_sso::{ServerError, SimpleSsoHome};
use super::ticket::Ticket;
use super::{Portal, PortalError, Visit};
use crate::clock;
use crate::config::Config;
use crate::config::home::HomeMethod;
use crate::disk::PrivateDir;
use crate::parameters::ParameterError;
use crate::provider::verify::IdTokenRefused;
use crate::provider::wire::WireError;
use crate::provider::{Answer, Pending, ProviderError};
use crate::secret_file::SecretFileError;

/// How many logins may be under way.
const MOST: usize = 500;
/// How many of one ticket.
const MOST_OF_TICKET: usize = 4;
/// How long, as in [`crate::provider`].
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Where users log in.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// By which protocol.
    pub(super) provider: LoginProvider,
    waiting: Mutex<VecDeque<Waiting>>,
}

/// A provider of the application's own.
#[derive(Debug)]
pub(crate) enum LoginProvider {
    /// OpenID Connect.
    Oidc(Box<OidcHome>),
    /// A server of django-simple-sso.
    SimpleSso(Box<SimpleSsoHome>),
}

#[derive(Debug)]
struct Waiting {
    state: String,
    browser: Browser,
    ticket: Ticket,
    /// With OpenID Connect.
    pending: Option<Pending>,
    until: Instant,
}

/// Why nobody logs in there.
#[derive(Debug, Error)]
pub(crate) enum ElsewhereError {
    /// An answer that this browser has not asked for, or that came before.
    #[error("an answer came to a login that this browser did not begin here, or that is over")]
    NotBegunHere,
    /// Parameters that are missing or there twice.
    #[error("the answer to a login cannot be read")]
    BadAnswer,
    /// OpenID Connect.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The client there.
    #[error(transparent)]
    Registration(Box<super::oidc::registration::RegistrationError>),
    /// django-simple-sso.
    #[error(transparent)]
    SimpleSso(#[from] ServerError),
    /// What it says of the user is not enough.
    #[error("{0}")]
    Identity(#[source] Box<PortalError>),
}

/// Why users cannot log in there.
#[derive(Debug, Error)]
pub enum NotOpened {
    /// The configuration has been checked; this is for what it cannot say.
    #[error("[home] names a method that neither recipe nor configuration describe")]
    Incomplete,
    /// TLS, or a file of CAs.
    #[error("[home.oidc] {0}")]
    Wire(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key.
    #[error("[home.simple_sso] private_key_file: {0}")]
    KeyFile(#[source] SecretFileError),
    /// What the recipe's command needs.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

impl Elsewhere {
    /// If that is the home's method.
    pub(crate) fn open(config: &Config, data: &PrivateDir) -> Result<Option<Self>, NotOpened> {
        let methods = config.home.as_ref().map(|home| home.methods.as_slice()).unwrap_or_default();
        let provider = match methods {
            [HomeMethod::Oidc] => LoginProvider::Oidc(Box::new(OidcHome::open(config, data)?)),
            [HomeMethod::SimpleSso] => LoginProvider::SimpleSso(Box::new(SimpleSsoHome::open(config)?)),
            _ => return Ok(None),
        };
        Ok(Some(Self::new(provider)))
    }

    /// Before the first user waits for it: the agent's client at the provider.
    pub(crate) async fn prepare(self: Arc<Self>) {
        let LoginProvider::Oidc(home) = &self.provider else { return };
        if let Err(error) = home.client.provider().await {
            tracing::warn!(%error, "the agent is no client of the application's provider yet; each login tries again");
        }
    }

    /// Nobody is under way.
    pub(crate) fn new(provider: LoginProvider) -> Self {
        Self { provider, waiting: Mutex::default() }
    }

    fn keep(&self, waiting: Waiting) {
        let mut list = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        list.retain(|other| other.until > now);
        let of_ticket = |other: &Waiting| other.ticket == waiting.ticket;
        if list.iter().filter(|other| of_ticket(other)).count() >= MOST_OF_TICKET {
            let oldest = list.iter().position(of_ticket);
            oldest.and_then(|oldest| list.remove(oldest));
        }
        if list.len() >= MOST {
            list.pop_front();
        }
        list.push_back(waiting);
    }

    fn take(&self, state: &str, browser: &Browser) -> Option<Waiting> {
        let mut list = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = list.iter().position(|waiting| waiting.state == state && waiting.browser == *browser)?;
        list.remove(found).filter(|waiting| waiting.until > Instant::now())
    }
}

impl Portal {
    /// A browser with a ticket leaves for the provider.
    pub(super) async fn send_elsewhere(
        &self,
        elsewhere: &Elsewhere,
        visit: &Visit,
        ticket: &OpenTicketResponse,
    ) -> Result<Reply, PortalError> {
        let begun = match &elsewhere.provider {
            LoginProvider::Oidc(oidc) => {
                let begun = oidc.begin(ticket).await;
                begun.map(|(address, pending)| (address, pending.state().to_owned(), Some(pending)))
            }
            // Its server can neither be asked silently nor for a fresh login.
            LoginProvider::SimpleSso(_) if ticket.silent => {
                return self.fail(visit, LoginFailure::LoginRequired).await;
            }
            LoginProvider::SimpleSso(_) if ticket.min_auth_time.is_some() => {
                return Ok(self.explain(visit, ticket, Note::StillTooOld));
            }
            LoginProvider::SimpleSso(server) => {
                let begun = server.begin(clock::now()).await;
                begun.map(|(address, state)| (address, state, None)).map_err(ElsewhereError::from)
            }
        };
        match begun {
            Ok((address, state, pending)) => {
                let (browser, until) = (visit.browser.clone(), Instant::now() + LIFETIME);
                elsewhere.keep(Waiting { state, browser, ticket: visit.ticket.clone(), pending, until });
                Ok(Reply::Leave(address.into()))
            }
            Err(error) => self.explain_elsewhere(visit, ticket, error).await,
        }
    }

    /// A browser comes back from there; `visit` makes of a ticket what it would have brought.
    pub(crate) async fn come_back(
        &self,
        query: &str,
        browser: &Browser,
        visit: impl FnOnce(Ticket) -> Visit,
    ) -> Result<(Visit, Reply), PortalError> {
        let elsewhere = self.elsewhere.as_ref().ok_or(PortalError::NotFound)?;
        let state = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state");
        let waiting = state.and_then(|(_, state)| elsewhere.take(&state, browser));
        let waiting = waiting.ok_or(PortalError::Elsewhere(ElsewhereError::NotBegunHere))?;
        let visit = visit(waiting.ticket.clone());
        let identity = match (&elsewhere.provider, &waiting.pending) {
            (LoginProvider::Oidc(oidc), Some(pending)) => match Answer::parse(query) {
                Some(answer) => oidc.finish(pending, answer, clock::now()).await,
                None => Err(ElsewhereError::BadAnswer),
            },
            (LoginProvider::SimpleSso(server), _) => server.finish(query, clock::now()).await,
            (LoginProvider::Oidc(_), None) => Err(ElsewhereError::NotBegunHere),
        };
        let reply = match identity {
            Ok(identity) => self.vouch_elsewhere(&visit, identity).await?,
            Err(error) => {
                let ticket = self.tickets.open(&visit.ticket).await?;
                self.explain_elsewhere(&visit, &ticket, error).await?
            }
        };
        Ok((visit, reply))
    }

    async fn vouch_elsewhere(&self, visit: &Visit, identity: VerifiedIdentity) -> Result<Reply, PortalError> {
        let ticket = self.tickets.open(&visit.ticket).await?;
        if let Some(refused) = self.refuse_foreign(visit, &ticket, &identity.home_user_id).await? {
            return Ok(refused);
        }
        self.watches.sessions.settle(&identity.home_user_id, None).await;
        self.watches.accounts.vouched(&identity.home_user_id, clock::now());
        let step = traces::step("the portal vouches for a user of its provider", &ticket.transaction);
        let completed = self.tickets.complete(&visit.ticket, Outcome::Identity(identity));
        traces::during(step, completed).await.map(Reply::Redirect)
    }

    /// What a failure comes to: for the relying party, if the user is not to be shown anything or has given up; else for
    /// the user.
    async fn explain_elsewhere(
        &self,
        visit: &Visit,
        ticket: &OpenTicketResponse,
        error: ElsewhereError,
    ) -> Result<Reply, PortalError> {
        tracing::warn!(transaction = ticket.transaction, relying_party = ticket.relying_party, %error, "a login at the application's provider failed");
        let (failure, note) = match &error {
            ElsewhereError::Provider(ProviderError::Refused(code)) if code.needs_interaction() => {
                return self.fail(visit, LoginFailure::LoginRequired).await;
            }
            ElsewhereError::Provider(ProviderError::Refused(code)) if code.is_denial() => {
                return self.fail(visit, LoginFailure::Cancelled).await;
            }
            ElsewhereError::Provider(ProviderError::IdToken(IdTokenRefused::TooOld | IdTokenRefused::NoAuthTime)) => {
                (LoginFailure::LoginRequired, Note::StillTooOld)
            }
            ElsewhereError::Provider(ProviderError::Unreachable { .. } | ProviderError::Metadata(_))
            | ElsewhereError::Registration(_)
            | ElsewhereError::SimpleSso(ServerError::Unreachable(_)) => {
                (LoginFailure::Unavailable, Note::ApplicationDown)
            }
            ElsewhereError::SimpleSso(ServerError::Disabled) => (LoginFailure::Denied, Note::Disabled),
            ElsewhereError::NotBegunHere
            | ElsewhereError::BadAnswer
            | ElsewhereError::Provider(_)
            | ElsewhereError::SimpleSso(_)
            | ElsewhereError::Identity(_) => return Err(error.into()),
        };
        if ticket.silent { self.fail(visit, failure).await } else { Ok(self.explain(visit, ticket, note)) }
    }
}

impl From<ElsewhereError> for PortalError {
    fn from(error: ElsewhereError) -> Self {
        match error {
            ElsewhereError::Identity(error) => *error,
            error => Self::Elsewhere(error),
        }
    }
}

impl From<WireError> for NotOpened {
    fn from(error: WireError) -> Self {
        Self::Wire(Box::new(error))
    }
}

impl From<PortalError> for ElsewhereError {
    fn from(error: PortalError) -> Self {
        Self::Identity(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::simple_sso;

    fn waiting(state: &str, browser: &Browser, ticket: &str) -> Waiting {
        let until = Instant::now() + LIFETIME;
        Waiting {
            state: state.to_owned(),
            browser: browser.clone(),
            ticket: ticket.parse().unwrap(),
            pending: None,
            until,
        }
    }

    #[test]
    fn an_answer_counts_once_and_in_the_browser_that_asked() {
        let elsewhere =
            Elsewhere::new(LoginProvider::SimpleSso(Box::new(simple_sso::tests::home("https://alpha.example"))));
        let (browser, other) = (Browser::new().unwrap(), Browser::new().unwrap());
        elsewhere.keep(waiting("one", &browser, "t"));
        assert!(elsewhere.take("one", &other).is_none() && elsewhere.take("two", &browser).is_none());
        assert!(elsewhere.take("one", &browser).is_some());
        assert!(elsewhere.take("one", &browser).is_none());
    }

    #[test]
    fn one_ticket_takes_no_room_from_others() {
        let elsewhere =
            Elsewhere::new(LoginProvider::SimpleSso(Box::new(simple_sso::tests::home("https://alpha.example"))));
        let browser = Browser::new().unwrap();
        elsewhere.keep(waiting("alice", &browser, "t"));
        for number in 0..MOST {
            elsewhere.keep(waiting(&number.to_string(), &browser, "u"));
        }
        assert!(elsewhere.take("alice", &browser).is_some());
        assert!(elsewhere.take("0", &browser).is_none());
    }
}
