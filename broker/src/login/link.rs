//! A link of two homes on its way: the user signs in anew at both, one after the other, and then says yes.
//!
//! Until he does it is sealed and in the browser's hands, as all logins are. It is good in the browser and for the session
//! that began it, for ten minutes, and once: what is made of it is made in one commit with the record that it was used.

use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::record::KEPT_BEHIND_END;
use crate::login::{AuthorizationRequest, Demand, Login, LoginError, Prompt, Reply, ResponseMode, Transaction};
use crate::registry::{ClientId, CutOffs, Link, LinkError, LinkId, LinkedAccount, Scopes, SessionId, UserId};
use crate::secret::{Purpose, SecretError, SecretHash};
use crate::storage::table::Record;
use crate::storage::{Expect, StoreError, Write};

/// How long the user has for both logins and the answer.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Who asks a home for such a login: the broker itself, so no client has this name.
const ASKING: (&str, &str) = ("homeward-account", "your account page");

/// An account whose user has just signed in at its home.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProvenAccount {
    /// The account.
    pub account: LinkedAccount,
    /// How often the home had taken back its word of the user by then.
    pub cut_offs: CutOffs,
}

/// How far it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// The user has to sign in at his own home.
    Begun,
    /// He has, and has to sign in at the other one.
    Primary(ProvenAccount),
    /// He has, and is asked.
    Both(ProvenAccount, ProvenAccount),
}

/// A link on its way.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingLink {
    /// What will name the link.
    pub id: LinkId,
    /// The session in which it was begun.
    session: SessionId,
    /// Whose that is.
    user: UserId,
    /// The home of that user.
    primary: InstanceName,
    /// The home to be linked.
    alias: InstanceName,
    /// How often each of the two had been in quarantine when this began.
    quarantines: [u32; 2],
    /// How far it is.
    pub stage: Stage,
    browser: SecretHash,
    began_at: Timestamp,
}

/// Who begins a link, and what for.
pub struct LinkOrder<'a> {
    /// His session.
    pub session: &'a SessionId,
    /// Who he is.
    pub user: &'a UserId,
    /// His home.
    pub home: &'a InstanceName,
    /// The home to be linked.
    pub other: &'a InstanceName,
    /// How often each of the two has been in quarantine.
    pub quarantines: [u32; 2],
    /// The browser's binding.
    pub browser: &'a str,
}

impl PendingLink {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn begin(order: &LinkOrder<'_>, now: Timestamp) -> Result<Self, SecretError> {
        Ok(Self {
            id: LinkId::generate()?,
            session: order.session.clone(),
            user: order.user.clone(),
            primary: order.home.clone(),
            alias: order.other.clone(),
            quarantines: order.quarantines,
            stage: Stage::Begun,
            browser: SecretHash::of(order.browser),
            began_at: now,
        })
    }

    /// Where the user has to sign in next, if anywhere.
    pub fn next_home(&self) -> Option<&InstanceName> {
        match self.stage {
            Stage::Begun => Some(&self.primary),
            Stage::Primary(_) => Some(&self.alias),
            Stage::Both(..) => None,
        }
    }

    /// How often that home had been in quarantine when this began: what it says is of no worth if that is another number
    /// by the time when somebody hears it, for it may have said so before.
    pub fn next_quarantines(&self) -> u32 {
        self.quarantines[usize::from(matches!(self.stage, Stage::Primary(_)))]
    }

    /// The session that began it is the one that goes on with it, whoever else has signed in in this browser since.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check_session(&self, session: &SessionId, user: &UserId) -> Result<(), LinkingError> {
        if self.session == *session && self.user == *user { Ok(()) } else { Err(LinkingError::OtherSession) }
    }

    /// The user has signed in where he had to.
    ///
    /// # Errors
    /// When it is another home, or at his own home another user.
    pub fn prove(self, proven: ProvenAccount) -> Result<Self, LinkingError> {
        if self.next_home() != Some(&proven.account.home) {
            return Err(LinkingError::OtherSession);
        }
        let stage = match self.stage {
            Stage::Begun if proven.account.user != self.user => return Err(LinkingError::OtherUser),
            Stage::Begun => Stage::Primary(proven),
            Stage::Primary(primary) => Stage::Both(primary, proven),
            Stage::Both(..) => return Err(LinkingError::OtherSession),
        };
        Ok(Self { stage, ..self })
    }

    /// The link, if all that it needs was shown.
    pub fn link(&self) -> Option<Link> {
        let Stage::Both(primary, alias) = &self.stage else { return None };
        let (primary, alias) = (primary.account.clone(), alias.account.clone());
        Some(Link { id: self.id.clone(), primary, alias, made_at: self.began_at, is_over: false })
    }

    fn ends_at(&self) -> Timestamp {
        self.began_at + LIFETIME
    }

    fn check(&self, browser: &str, now: Timestamp) -> Result<(), LoginError> {
        if !self.browser.matches(browser) {
            return Err(LoginError::OtherBrowser);
        }
        if now < self.ends_at() { Ok(()) } else { Err(LoginError::Expired) }
    }
}

/// That a pending link was used, under its id.
#[derive(Serialize, Deserialize)]
pub struct SpentLink {
    kept_until: Timestamp,
}

impl Record for SpentLink {
    const TABLE: &'static str = "link_spent";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

impl Login {
    /// The login that a link needs next, whose answer comes back to this address. It is asked for as by `prompt=login`:
    /// somebody who only sits at the browser shows nothing.
    ///
    /// # Errors
    /// When its time is over, or it cannot be made.
    pub fn begin_for_link(
        &self,
        pending: PendingLink,
        browser: &str,
        address: String,
        now: Timestamp,
    ) -> Result<Transaction, LoginError> {
        pending.check(browser, now)?;
        let reply = Reply::Callback { redirect_uri: address, mode: ResponseMode::Query, state: None };
        let name = ASKING.0.parse().map_err(|_| LoginError::RelyingPartyGone)?;
        let client = (ClientId::of_key(ASKING.0), name);
        let prompt = Prompt::Interactive([Demand::Login].into());
        let plain = AuthorizationRequest::plain(client, reply, Scopes::none(), now);
        let request = AuthorizationRequest { prompt, ..plain };
        let mut transaction = Transaction::begin(request, pending.browser.clone(), self.lifetime)?;
        transaction.link = Some(Box::new(pending));
        Ok(transaction)
    }

    /// Sealed for addresses and forms.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal_link(&self, pending: &PendingLink) -> Result<String, LoginError> {
        Ok(self.sealing.seal_value(Purpose::Link, pending)?)
    }

    /// Opens what a browser brought back.
    ///
    /// # Errors
    /// When it was not made here, is too old, or comes from another browser.
    pub fn reopen_link(&self, sealed: &str, browser: &str, now: Timestamp) -> Result<PendingLink, LoginError> {
        let pending: PendingLink =
            self.sealing.open_value(Purpose::Link, sealed).map_err(|_| LoginError::Unreadable)?;
        pending.check(browser, now)?;
        Ok(pending)
    }

    /// The write that uses it up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn spend_link(&self, pending: &PendingLink) -> Result<Write, StoreError> {
        let spent = SpentLink { kept_until: pending.ends_at() + KEPT_BEHIND_END };
        self.spent_links.put(&pending.id.to_string(), &spent, Expect::Absent)
    }

    /// Whether it was used.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_spent(&self, pending: &PendingLink) -> Result<bool, StoreError> {
        Ok(self.spent_links.get(&pending.id.to_string()).await?.is_some())
    }
}

impl Transaction {
    /// What a home is told of who asks, if that is the broker itself.
    pub(super) fn asked_by_broker(&self) -> Option<&'static str> {
        self.link.as_ref().map(|_| ASKING.1)
    }
}

/// Why two homes are not linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkingError {
    /// Somebody else has signed in since, or signed out.
    #[error("the link was begun in another session, or is at another step")]
    OtherSession,
    /// At his own home, somebody else has signed in.
    #[error("another user signed in than the one who began the link")]
    OtherUser,
    /// The home did not ask, or does not say when it did.
    #[error("the home does not say that the user has just signed in")]
    NotFresh,
    /// The home vouches for nobody.
    #[error("the home did not let the user in")]
    NotLetIn,
    /// No application takes this home's users for another one's, or a home is cut off.
    #[error("the home cannot be linked to this one, or not any more")]
    NotOffered,
    /// It was used before.
    #[error("the link was made already, once and for all")]
    Spent,
    /// The accounts.
    #[error(transparent)]
    Refused(#[from] LinkError),
}
