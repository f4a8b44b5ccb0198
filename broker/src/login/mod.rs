//! A login: from a relying party's request to a home's word for somebody.
//!
//! 1. [`Login::begin`] makes a [`Transaction`] of a request, bound to one browser. [`decide`] says what comes next.
//! 2. A home is chosen; if the user does it, the transaction is in the page meanwhile, [sealed](Login::seal).
//!    [`Login::ticket_address`] sends the browser there with a ticket. Nothing is stored so far.
//!    A home without agent gets none: the broker asks its provider, and brings the ticket back [itself](Login::claim_ticket).
//! 3. The home's agent reads the ticket ([`Login::open_ticket`]) and uses it up ([`Login::complete_ticket`]) with an
//!    identity or a failure: the first commit.
//! 4. The browser comes back with a one-time handle. [`Login::read_return`] checks handle and browser and hands over what
//!    the home said, together with the write that uses the handle up: whoever acts on it commits that write with his own.
//!
//! A client may have [pushed](PushedRequests) its request before. Where the user has to agree to what is released, the
//! transaction waits for the answer in the browser's hands as a sealed [`Question`]; [`Consents`] keeps the answer.
//!
//! Invariants: a ticket is completed at most once, by the home that it names; a handle is used at most once, in the
//! browser that began; nothing that a home says is believed beyond its limits, or once it has taken it back.

mod consent;
mod errand;
mod error;
mod link;
mod pushed;
mod record;
mod request;
mod step;
mod transaction;
mod word;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;

use crate::audit::Audit;
use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::login::record::{CompletedLogin, LoginState};
use crate::login::transaction::Ticket;
use crate::registry::{
    AssertedIdentity, CutOffs, HeldNames, Home, HomeStatus, InstanceId, Liveness, Registry, Snapshot, SubjectKey,
};
use crate::secret::{SealingKeys, SecretHash};
use crate::storage::table::Table;
use crate::storage::{Expect, Store, Write};

pub use consent::{Agreement, Consent, Consents, FoundConsent};
pub use errand::ClaimedTicket;
pub use error::LoginError;
pub use link::{LinkOrder, LinkingError, PendingLink, ProvenAccount, SpentLink, Stage};
pub use pushed::{Pushed, PushedId, PushedRequest, PushedRequests};
pub use record::{CheckedOutcome, LoginFailure, LoginRecord};
pub use request::{AuthorizationRequest, Demand, Prompt, Reply, ResponseMode};
pub use step::{HomeChoice, Refusal, SignedIn, Step, decide, meets_demands, vouched_for};
pub use transaction::{Question, Transaction, TransactionId};

/// Where the browser comes back to, on the broker.
pub const RETURN_PATH: &str = "/login/return";

/// All logins.
#[derive(Clone)]
pub struct Login {
    sealing: Arc<SealingKeys>,
    records: Table<LoginRecord>,
    claimed: Table<ClaimedTicket>,
    spent_links: Table<SpentLink>,
    names: HeldNames,
    registry: Registry,
    liveness: Liveness,
    issuer: Issuer,
    lifetime: Duration,
    audit: Audit,
}

/// What is said of logins before there is one.
#[derive(Clone, Debug)]
pub struct LoginTerms {
    /// How the broker knows users.
    pub subjects: SubjectKey,
    /// Where browsers come back to.
    pub issuer: Issuer,
    /// How long a login may take.
    pub lifetime: Duration,
    /// Where it notes what homes say.
    pub audit: Audit,
}

/// What a home is told of the login that it is asked for.
#[derive(Debug)]
pub struct OpenedTicket {
    /// Names the login in logs.
    pub transaction: TransactionId,
    /// Who asks.
    pub relying_party: InstanceName,
    /// The name people read.
    pub relying_party_display_name: String,
    /// The user must have proven who they are then or later.
    pub min_auth_time: Option<Timestamp>,
    /// Whether nothing may be shown.
    pub silent: bool,
    /// The user name that the relying party expects. Untrusted text.
    pub login_hint: Option<String>,
    /// Authentication context classes that would do, the best first; empty when any will do.
    pub acr_values: Vec<String>,
    /// Languages of the user. Untrusted text.
    pub ui_locales: Option<String>,
    /// The ticket's end.
    pub expires_at: Timestamp,
}

/// What a home says, unchecked.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and moved once")]
pub enum Outcome {
    /// It vouches for this user.
    Identity(AssertedIdentity),
    /// It vouches for nobody.
    Failure(LoginFailure),
}

/// A login whose browser has come back.
pub struct Returned {
    /// The login.
    pub transaction: Transaction,
    /// Who has spoken.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// What it said.
    pub outcome: CheckedOutcome,
    /// How often it had taken back its word of the user by then.
    pub cut_offs: CutOffs,
    /// Uses the handle up, as long as the home stands by its word: belongs into the commit of whatever is made of the
    /// outcome.
    pub finish: Vec<Write>,
}

impl Login {
    /// The flow on what it stands on.
    pub fn new(
        store: Arc<dyn Store>,
        sealing: Arc<SealingKeys>,
        registry: Registry,
        liveness: Liveness,
        LoginTerms { subjects, issuer, lifetime, audit }: LoginTerms,
    ) -> Self {
        Self {
            sealing,
            records: Table::new(store.clone()),
            claimed: Table::new(store.clone()),
            spent_links: Table::new(store.clone()),
            names: HeldNames::new(store, subjects),
            registry,
            liveness,
            issuer,
            lifetime,
            audit,
        }
    }

    /// The homes that a relying party accepts, with their health.
    pub fn homes(&self, snapshot: &Snapshot, relying_party: &InstanceName) -> Vec<HomeChoice> {
        let homes = snapshot.homes_for(relying_party).into_iter();
        let choices = homes.map(|home| HomeChoice {
            name: home.name.clone(),
            display_name: home.display_name.to_owned(),
            public_url: home.public_url(),
            status: self.status(&home),
        });
        choices.collect()
    }

    /// Whether a home can be chosen now.
    pub fn status(&self, home: &Home<'_>) -> HomeStatus {
        home.status(&self.liveness, &self.registry.reachability)
    }

    /// A transaction for this request in this browser.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn begin(&self, request: AuthorizationRequest, browser: SecretHash) -> Result<Transaction, LoginError> {
        Transaction::begin(request, browser, self.lifetime)
    }

    /// The transaction for the picker's hidden field.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal(&self, transaction: &Transaction) -> Result<String, LoginError> {
        transaction.seal(&self.sealing)
    }

    /// The transaction that a picker's form brings back. Possession of the browser's cookie is what makes the form
    /// ours: nobody else can have it sent.
    ///
    /// # Errors
    /// When it was not made here, is too old, or comes from another browser.
    pub fn reopen(&self, sealed: &str, browser: &str, now: Timestamp) -> Result<Transaction, LoginError> {
        Transaction::open(&self.sealing, sealed, browser, now)
    }

    /// The question for the consent page's address and form.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal_question(&self, question: &Question) -> Result<String, LoginError> {
        question.seal(&self.sealing)
    }

    /// The question that a consent page's address or form brings back.
    ///
    /// # Errors
    /// When it was not made here, is too old, or comes from another browser.
    pub fn reopen_question(&self, sealed: &str, browser: &str, now: Timestamp) -> Result<Question, LoginError> {
        Question::open(&self.sealing, sealed, browser, now)
    }

    /// A ticket for a home.
    ///
    /// # Errors
    /// When the relying party does not accept the home, or it cannot log anybody in now.
    pub fn ticket(&self, transaction: &Transaction, home: &InstanceName) -> Result<String, LoginError> {
        let snapshot = self.registry.snapshot();
        let accepted = accepted(&snapshot, transaction, home).ok_or(LoginError::HomeNotAccepted)?;
        if self.status(&accepted) != HomeStatus::Ready {
            return Err(LoginError::HomeNotReady);
        }
        Ticket { home: home.clone(), transaction: transaction.clone() }.seal(&self.sealing)
    }

    /// The address that takes the browser to a home's portal with a ticket.
    ///
    /// # Errors
    /// As [`Login::ticket`].
    pub fn ticket_address(&self, transaction: &Transaction, home: &InstanceName) -> Result<String, LoginError> {
        let (ticket, snapshot) = (self.ticket(transaction, home)?, self.registry.snapshot());
        let portal = snapshot.instance(home).and_then(|home| home.home.as_ref()).ok_or(LoginError::HomeNotAccepted)?;
        Ok(format!("{}?ticket={ticket}", portal.portal_url))
    }

    /// Reads a ticket that a browser brought to the caller. Does not use it up.
    ///
    /// # Errors
    /// When it is not the caller's ticket, its time is over, or trust was withdrawn meanwhile.
    pub fn open_ticket(&self, caller: &InstanceName, ticket: &str, now: Timestamp) -> Result<OpenedTicket, LoginError> {
        let ticket = Ticket::open(&self.sealing, ticket, caller, now)?;
        let snapshot = self.registry.snapshot();
        let (display_name, _) = parties(&snapshot, &ticket)?;
        let request = ticket.transaction.request;
        Ok(OpenedTicket {
            transaction: ticket.transaction.id,
            relying_party_display_name: display_name.to_owned(),
            min_auth_time: request.min_auth_time(),
            silent: request.prompt == Prompt::Silent,
            acr_values: request.wanted_classes(),
            relying_party: request.relying_party,
            login_hint: request.login_hint,
            ui_locales: request.ui_locales,
            expires_at: ticket.transaction.expires_at,
        })
    }

    /// Uses a ticket up with what a home says that was heard, and gives the address where the browser goes now.
    ///
    /// # Errors
    /// As [`Login::open_ticket`]; when the home of this name is another one by now, the ticket was used already, or the
    /// identity breaks a rule.
    pub async fn complete_ticket(
        &self,
        (caller, heard): (&InstanceName, InstanceId),
        ticket: &str,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<String, LoginError> {
        let ticket = Ticket::open(&self.sealing, ticket, caller, now)?;
        let snapshot = self.registry.snapshot();
        let (_, home) = parties(&snapshot, &ticket)?;
        if home.id != heard {
            // Its users are not those of whom the name speaks now.
            return Err(LoginError::HomeNotAccepted);
        }
        self.complete(ticket.transaction, (ticket.home, heard), outcome, now).await
    }

    /// Reads what the home said, for the browser that comes back with a handle. A wrong handle or browser changes
    /// nothing, so that nobody can spoil somebody else's login.
    ///
    /// # Errors
    /// When handle or browser are wrong, the handle was used already, its time is over, or the home has taken back its
    /// word of the user since.
    pub async fn read_return(&self, handle: &str, browser: &str, now: Timestamp) -> Result<Returned, LoginError> {
        let (id, secret) = handle.split_once('.').ok_or(LoginError::HandleUnknown)?;
        let id = id.parse::<TransactionId>()?.to_string();
        let stored = self.records.get(&id).await?.ok_or(LoginError::HandleUnknown)?;
        let LoginState::Completed(login) = stored.record.state else { return Err(LoginError::HandleUsed) };
        if !login.handle.matches(secret) {
            return Err(LoginError::HandleUnknown);
        }
        login.transaction.check_browser(browser)?;
        login.transaction.check_age(now)?;
        let finished = LoginRecord { state: LoginState::Finished, expires_at: stored.record.expires_at };
        let mut finish = vec![self.records.put(&id, &finished, Expect::Version(stored.version))?];
        let CompletedLogin { transaction, home, home_id, outcome, cut_offs, handle: _ } = *login;
        if let CheckedOutcome::Identity(identity) = &outcome {
            let users = &self.registry.home_users;
            let standing = users.standing(home_id, identity.id_at_home()).await?;
            if standing.cut_offs() != cut_offs {
                return Err(LoginError::TakenBack);
            }
            // Nor is it taken back between here and the commit.
            finish.push(users.unchanged(&standing)?);
        }
        Ok(Returned { transaction, home, home_id, outcome, cut_offs, finish })
    }
}

/// The name people read of the relying party of a ticket, and its home, if both may take part in logins still.
fn parties<'a>(snapshot: &'a Snapshot, ticket: &Ticket) -> Result<(&'a str, Home<'a>), LoginError> {
    let Ticket { home, transaction } = ticket;
    let display_name = match transaction.asked_by_broker() {
        Some(display_name) => display_name,
        None => {
            let client = snapshot.client(transaction.request.client_id.as_str());
            client.ok_or(LoginError::RelyingPartyGone)?.display_name
        }
    };
    Ok((display_name, accepted(snapshot, transaction, home).ok_or(LoginError::HomeNotAccepted)?))
}

/// A home that may vouch in a login now. The broker itself asks only the home that it means.
fn accepted<'a>(snapshot: &'a Snapshot, transaction: &Transaction, home: &InstanceName) -> Option<Home<'a>> {
    match transaction.asked_by_broker() {
        Some(_) => snapshot.vouching_home(home),
        None => snapshot.homes_for(&transaction.request.relying_party).into_iter().find(|known| known.name == home),
    }
}
