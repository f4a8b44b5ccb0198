//! The portal: where this instance, as home, vouches for one of its users in one login elsewhere.
//!
//! 1. The broker sends the browser here with a ticket; [`Portal::begin`] opens it over gRPC and learns what the relying
//!    party asks: how fresh the login must be, and whether anything may be shown.
//! 2. The application is asked who this browser is ([`session`]), with the browser's own cookies, if that method is on.
//! 3. [`decision`] says what is next, and nothing else does: vouch, send the browser to the application's own login page
//!    and back, show the form, or explain why there is no way on.
//! 4. The form's name and password ([`Portal::sign_in`]) are judged by who knows this home's users ([`directory`]) and go
//!    nowhere else. If that asks for a code, the sign-in waits ([`second_factor`]) until it comes
//!    ([`Portal::give_code`]): a second factor is never skipped.
//!    Where the application is a provider of logins itself, its users log in there instead ([`elsewhere`]).
//!    Users of other homes who have an account there are not vouched for (`foreign`).
//! 5. The ticket is used up with a verified identity or a reason, and the browser goes back to the broker.
//! 6. Who was signed in at the application is asked about again later ([`watch`]): when that session has ended, the broker
//!    hears of it ([`report`]). So it does when somebody may not log in any more ([`accounts`]).
//!
//! A stranger without a ticket of a login that is under way can try no password here; one with a ticket is slowed down
//! by [`limits`]. Every form carries a token that is bound to the browser and the ticket ([`form_token`]).

pub(crate) mod accounts;
pub(crate) mod decision;
pub(crate) mod directory;
pub(crate) mod elsewhere;
mod foreign;
pub(crate) mod form_token;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod oidc;
pub(crate) mod pages;
pub(crate) mod reply;
pub(crate) mod report;
pub(crate) mod second_factor;
pub(crate) mod session;
pub(crate) mod simple_sso;
pub(crate) mod source;
pub(crate) mod ticket;
pub(crate) mod vouching;
pub(crate) mod watch;

mod vouched;
mod watchlist;

use std::net::IpAddr;
use std::sync::Arc;

use ::http::HeaderValue;
use homeward_proto::v1::complete_ticket_request::Outcome;
use homeward_proto::v1::{LoginFailure, OpenTicketResponse, VerifiedIdentity};
use homeward_telemetry::traces;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::time::Instant;
use url::form_urlencoded;

use self::accounts::AccountWatch;
use self::decision::{Ask, Note, Seen, Step};
use self::directory::password::SignIn;
use self::directory::{Directory, Verdict};
use self::elsewhere::{Elsewhere, ElsewhereError};
use self::form_token::{Browser, FormTokens};
use self::limits::{Limits, Try};
use self::reply::{CodePage, ExplanationPage, FormPage, Reply};
use self::second_factor::PendingSignIns;
use self::session::Recognised;
use self::ticket::{Ticket, Tickets};
use self::watch::Watch;
use crate::application::Application;
use crate::config::home::HomeMethod;
use crate::config::{Config, PublicUrl};
use crate::connection::Broker;
use crate::identity::Identity;
use crate::random::NoRandomness;
use crate::recipe::home::{Home, Page as AppPage};
use crate::telemetry::Telemetry;
use crate::{clock, recipe};

/// This instance as home.
#[derive(Debug)]
pub(crate) struct Portal {
    recipe: Home,
    methods: Vec<HomeMethod>,
    home_name: String,
    public_url: PublicUrl,
    path: String,
    trusted_proxies: Vec<IpNet>,
    application: Application,
    tickets: Tickets,
    form_tokens: FormTokens,
    limits: Limits,
    directory: Arc<Directory>,
    pending: PendingSignIns,
    watches: Watches,
    elsewhere: Option<Arc<Elsewhere>>,
}

/// Who notices later that somebody who was vouched for has logged out, or may not log in any more.
#[derive(Debug, Clone)]
pub(crate) struct Watches {
    /// Sessions at the application.
    pub(crate) sessions: Arc<Watch>,
    /// Accounts.
    pub(crate) accounts: Arc<AccountWatch>,
}

/// One request of one browser about one ticket.
#[derive(Debug)]
pub(crate) struct Visit {
    /// What it brought.
    pub(crate) ticket: Ticket,
    /// Its cookies, for the application and for nobody else.
    pub(crate) cookies: Option<HeaderValue>,
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// Who it is, as far as forms go.
    pub(crate) browser: Browser,
    /// Whether it comes back from the application's login page.
    pub(crate) returned: bool,
}

/// What a user typed.
#[derive(Debug)]
pub(crate) struct TypedCredentials {
    /// Login name.
    pub(crate) username: String,
    /// Password.
    pub(crate) password: SecretString,
}

/// Why the browser gets none of these.
#[derive(Debug, Error)]
pub(crate) enum PortalError {
    /// No ticket in the address.
    #[error("no ticket, or not one ticket")]
    NoTicket,
    /// The broker does not take the ticket.
    #[error("the broker refused the ticket ({code:?} {reason})")]
    TicketRefused {
        /// gRPC code.
        code: tonic::Code,
        /// ErrorInfo reason.
        reason: String,
    },
    /// The broker is not there.
    #[error("the broker cannot be asked: {0}")]
    BrokerUnavailable(String),
    /// A form that this portal did not give to this browser.
    #[error("the form's token is missing or of another browser")]
    ForgedForm,
    /// Not a form, or not with these fields.
    #[error("the form cannot be read")]
    BadForm,
    /// More than any form has.
    #[error("the form is too large")]
    TooLarge,
    /// Password logins are off.
    #[error("there is no such page")]
    NotFound,
    /// What the application says of the user is not enough.
    #[error("the application's answers lack the user's {0}")]
    IdentityIncomplete(&'static str),
    /// What this home says of the user is not what the contract allows.
    #[error("the broker refused the user's identity: {0}")]
    IdentityRefused(String),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The application's provider.
    #[error("at the application's provider: {0}")]
    Elsewhere(#[source] ElsewhereError),
    /// The broker's answer is no address.
    #[error("the broker's answer is no address to go to")]
    NoReturnAddress,
}

impl Portal {
    /// The portal, if the instance is a home, and so has users.
    pub(crate) fn new(
        config: &Config,
        identity: &Identity,
        broker: Arc<Broker>,
        application: Application,
        (directory, watches): (Option<Arc<Directory>>, Watches),
    ) -> Result<Option<Self>, NoRandomness> {
        let Some((home, directory)) = config.home.as_ref().zip(directory) else { return Ok(None) };
        let named = Some(config.display_name.clone()).filter(|name| !name.is_empty());
        // A home whose users the application does not know needs no recipe for them.
        let recipe = config.recipe.home.clone().unwrap_or_default();
        let per_minute = recipe.password.as_ref().and_then(|password| password.tries.per_minute);
        Ok(Some(Self {
            recipe,
            methods: home.methods.clone(),
            home_name: named.unwrap_or_else(|| identity.instance().to_string()),
            public_url: config.public_url.clone(),
            path: config.portal.path.clone(),
            trusted_proxies: config.portal.trusted_proxies.clone(),
            application,
            tickets: Tickets::new(broker),
            form_tokens: FormTokens::new()?,
            limits: Limits::new(per_minute, home.failures),
            directory,
            pending: PendingSignIns::default(),
            watches,
            elsewhere: None,
        }))
    }

    /// A portal whose users log in at a provider of the application's own.
    pub(crate) fn with_elsewhere(self, elsewhere: Option<Arc<Elsewhere>>) -> Self {
        Self { elsewhere, ..self }
    }

    /// The same, where it is counted how logins end.
    pub(crate) fn counted(self, telemetry: Telemetry) -> Self {
        Self { tickets: self.tickets.counted(telemetry), ..self }
    }

    /// A browser arrives with a ticket.
    pub(crate) async fn begin(&self, visit: &Visit) -> Result<Reply, PortalError> {
        let ticket = self.tickets.open(&visit.ticket).await?;
        let step = traces::step("the portal recognises the user", &ticket.transaction);
        traces::during(step, self.recognise(visit, ticket)).await
    }

    async fn recognise(&self, visit: &Visit, ticket: OpenTicketResponse) -> Result<Reply, PortalError> {
        if let Some(elsewhere) = &self.elsewhere {
            return self.send_elsewhere(elsewhere, visit, &ticket).await;
        }
        let recognised = match self.methods.contains(&HomeMethod::Session) {
            true => session::recognise(&self.application, &self.recipe, visit).await,
            false => Recognised::NotAsked,
        };
        let seen = Seen::new(&recognised, &self.recipe, &ticket.acr_values);
        let step = decision::decide(&Ask::new(&ticket, &self.recipe), &self.methods, &seen, visit.returned);
        tracing::info!(
            transaction = ticket.transaction,
            relying_party = ticket.relying_party,
            ?seen,
            ?step,
            "a login began"
        );
        match (step, recognised) {
            (Step::Vouch, Recognised::Somebody(answers)) => {
                let identity = vouching::identity(&self.recipe, &answers, HomeMethod::Session, clock::now())?;
                if let Some(refused) = self.refuse_foreign(visit, &ticket, &identity.home_user_id).await? {
                    return Ok(refused);
                }
                self.vouch_for_session(visit, identity).await
            }
            (Step::Vouch, _) | (Step::LoginRequired, _) => self.fail(visit, LoginFailure::LoginRequired).await,
            (Step::Unavailable, _) => self.fail(visit, LoginFailure::Unavailable).await,
            (Step::LogIn, _) => Ok(self.to_application(self.recipe.login.as_ref(), visit)),
            (Step::Reauthenticate, _) => {
                let page = self.recipe.reauthenticate.as_ref().or(self.recipe.login.as_ref());
                Ok(self.to_application(page, visit))
            }
            (Step::Form(note), _) => Ok(self.form(visit, &ticket, ticket.login_hint.clone(), note)),
            (Step::Explain(note), _) => Ok(self.explain(visit, &ticket, note)),
        }
    }

    /// A browser sends the form.
    pub(crate) async fn sign_in(
        &self,
        visit: &Visit,
        typed: TypedCredentials,
        form_token: &str,
    ) -> Result<Reply, PortalError> {
        let ticket = self.open_for_form(visit, form_token).await?;
        let step = traces::step("the portal judges a password", &ticket.transaction);
        traces::during(step, self.judge(visit, typed, ticket)).await
    }

    async fn judge(
        &self,
        visit: &Visit,
        typed: TypedCredentials,
        ticket: OpenTicketResponse,
    ) -> Result<Reply, PortalError> {
        if ticket.silent {
            return self.fail(visit, LoginFailure::LoginRequired).await;
        }
        // Before the application hears of it: its own limit may lock the user out, or everybody behind this agent.
        let Some(charged) = self.limits.begin(visit.source, &typed.username, Instant::now()) else {
            tracing::warn!(source = %visit.source, "too many password tries");
            self.tickets.too_many_tries();
            return Ok(self.form(visit, &ticket, typed.username, Some(Note::TooManyTries)));
        };
        let username = typed.username.clone();
        let verdict = self.directory.judge(typed, visit.source).await?;
        tracing::info!(transaction = ticket.transaction, relying_party = ticket.relying_party, source = %visit.source, ?verdict, "a password was tried");
        self.answer(visit, &ticket, (verdict, charged), username).await
    }

    /// A browser sends a code.
    pub(crate) async fn give_code(
        &self,
        visit: &Visit,
        code: &SecretString,
        form_token: &str,
    ) -> Result<Reply, PortalError> {
        let ticket = self.open_for_form(visit, form_token).await?;
        let now = Instant::now();
        let Some((sign_in, until)) = self.pending.take(&visit.browser, &visit.ticket, now) else {
            return Ok(self.form(visit, &ticket, ticket.login_hint.clone(), Some(Note::CodeTooLate)));
        };
        let Some(charged) = self.limits.begin_code(visit.source, sign_in.username(), now) else {
            tracing::warn!(source = %visit.source, "too many tries of codes");
            self.tickets.too_many_tries();
            let page = self.code(visit, &ticket, &sign_in, Some(Note::TooManyTries));
            self.pending.keep_until((&visit.browser, &visit.ticket), sign_in, until);
            return Ok(page);
        };
        let username = sign_in.username().to_owned();
        let code = SecretString::from(code.expose_secret().split_whitespace().collect::<String>());
        let verdict = sign_in.give_code(&code).await?;
        let step = traces::step("the portal judges a code", &ticket.transaction);
        tracing::info!(transaction = ticket.transaction, relying_party = ticket.relying_party, source = %visit.source, ?verdict, "a code was tried");
        traces::during(step, self.answer(visit, &ticket, (verdict, charged), username)).await
    }

    /// The user gives up.
    pub(crate) async fn cancel(&self, visit: &Visit, form_token: &str) -> Result<Reply, PortalError> {
        if !self.form_tokens.verify(&visit.browser, &visit.ticket, form_token) {
            return Err(PortalError::ForgedForm);
        }
        if let Some((sign_in, _)) = self.pending.take(&visit.browser, &visit.ticket, Instant::now()) {
            sign_in.end().await;
        }
        self.fail(visit, LoginFailure::Cancelled).await
    }

    /// The ticket of a form that this portal gave to this browser.
    async fn open_for_form(&self, visit: &Visit, form_token: &str) -> Result<OpenTicketResponse, PortalError> {
        if !self.methods.iter().any(|method| method.has_form()) {
            return Err(PortalError::NotFound);
        }
        if !self.form_tokens.verify(&visit.browser, &visit.ticket, form_token) {
            return Err(PortalError::ForgedForm);
        }
        self.tickets.open(&visit.ticket).await
    }

    /// What a verdict comes to for the browser, and for the one who tried.
    async fn answer(
        &self,
        visit: &Visit,
        ticket: &OpenTicketResponse,
        (verdict, charged): (Verdict, Try),
        username: String,
    ) -> Result<Reply, PortalError> {
        match verdict {
            Verdict::Ok(identity) => {
                charged.succeed();
                if let Some(refused) = self.refuse_foreign(visit, ticket, &identity.home_user_id).await? {
                    return Ok(refused);
                }
                self.vouch_for_password(visit, *identity).await
            }
            Verdict::CodeNeeded(sign_in) => {
                let note = sign_in.was_wrong().then_some(Note::CodeWrong);
                if note.is_none() {
                    charged.pay_back();
                }
                let page = self.code(visit, ticket, &sign_in, note);
                self.pending.keep((&visit.browser, &visit.ticket), sign_in, Instant::now());
                Ok(page)
            }
            Verdict::Refused(note) => {
                if note == Note::ApplicationDown {
                    charged.pay_back();
                }
                match note {
                    Note::SecondFactorMissing => Ok(self.explain(visit, ticket, note)),
                    note => Ok(self.form(visit, ticket, username, Some(note))),
                }
            }
        }
    }

    /// Somebody whose password was judged this moment, whatever the application remembers of it.
    async fn vouch_for_password(&self, visit: &Visit, mut identity: VerifiedIdentity) -> Result<Reply, PortalError> {
        identity.auth_time = Some(clock::timestamp(clock::now()));
        if !identity.amr.iter().any(|method| method == "pwd") {
            identity.amr.insert(0, "pwd".to_owned());
        }
        self.watches.sessions.settle(&identity.home_user_id, None).await;
        self.vouch(visit, identity).await
    }

    /// Somebody who is signed in at the application: when that ends, the broker is told.
    async fn vouch_for_session(&self, visit: &Visit, identity: VerifiedIdentity) -> Result<Reply, PortalError> {
        let Some(cookies) = &visit.cookies else { return self.vouch(visit, identity).await };
        let home_user_id = identity.home_user_id.clone();
        self.watches.sessions.settle(&home_user_id, Some(cookies)).await;
        let reply = self.vouch(visit, identity).await?;
        self.watches.sessions.remember(&home_user_id, cookies, visit.source);
        Ok(reply)
    }

    async fn vouch(&self, visit: &Visit, identity: VerifiedIdentity) -> Result<Reply, PortalError> {
        self.watches.accounts.vouched(&identity.home_user_id, clock::now());
        self.tickets.complete(&visit.ticket, Outcome::Identity(identity)).await.map(Reply::Redirect)
    }

    async fn fail(&self, visit: &Visit, failure: LoginFailure) -> Result<Reply, PortalError> {
        self.tickets.complete(&visit.ticket, Outcome::Failure(failure.into())).await.map(Reply::Redirect)
    }

    fn form(&self, visit: &Visit, ticket: &OpenTicketResponse, username: String, note: Option<Note>) -> Reply {
        Reply::Form(FormPage {
            relying_party: relying_party(ticket),
            username,
            note,
            application_login: self.application_login(visit),
            form_token: self.form_tokens.issue(&visit.browser, &visit.ticket),
        })
    }

    fn code(&self, visit: &Visit, ticket: &OpenTicketResponse, sign_in: &SignIn, note: Option<Note>) -> Reply {
        Reply::Code(CodePage {
            relying_party: relying_party(ticket),
            username: sign_in.username().to_owned(),
            kind: sign_in.code_kind(),
            note,
            form_token: self.form_tokens.issue(&visit.browser, &visit.ticket),
        })
    }

    fn explain(&self, visit: &Visit, ticket: &OpenTicketResponse, note: Note) -> Reply {
        Reply::Explanation(ExplanationPage {
            relying_party: relying_party(ticket),
            note,
            application_login: self.application_login(visit),
            application: (note == Note::SecondFactorMissing).then(|| format!("{}/", self.public_url.origin())),
            form_token: self.form_tokens.issue(&visit.browser, &visit.ticket),
        })
    }

    fn to_application(&self, page: Option<&AppPage>, visit: &Visit) -> Reply {
        // The configuration refuses the method `session` for a recipe without a login page.
        let fallback = || AppPage { path: recipe::AppPath::root(), next_parameter: None };
        Reply::Redirect(self.application_page(page.unwrap_or(&fallback()), visit))
    }

    fn application_login(&self, visit: &Visit) -> Option<String> {
        let page = self.recipe.login.as_ref().filter(|page| page.next_parameter.is_some());
        page.filter(|_| self.methods.contains(&HomeMethod::Session)).map(|page| self.application_page(page, visit))
    }

    /// A page of the application that sends the browser back here when it is done, if it can.
    fn application_page(&self, page: &AppPage, visit: &Visit) -> String {
        let address = format!("{}{}", self.public_url.origin(), page.path);
        let Some(next) = &page.next_parameter else { return address };
        // A path, not an address: applications refuse to go on to another host, and rightly.
        let back = format!("{}login?ticket={}&back=1", self.path, visit.ticket.as_str());
        let query = form_urlencoded::Serializer::new(String::new()).append_pair(next, &back).finish();
        format!("{address}?{query}")
    }
}

fn relying_party(ticket: &OpenTicketResponse) -> String {
    let named = Some(&ticket.relying_party_display_name).filter(|name| !name.is_empty());
    named.unwrap_or(&ticket.relying_party).clone()
}

impl From<NoRandomness> for PortalError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

#[cfg(test)]
mod tests;
