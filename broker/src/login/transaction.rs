//! The login transaction: one user's login from the authorization request to the home and back.
//!
//! Until a home has vouched for somebody it is not stored but sealed and handed to the browser, so that strangers who
//! begin logins cannot fill the store. The seal is authenticated: what comes back was made here, for this purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::identity::InstanceName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, LoginError, PendingLink};
use crate::registry::SessionId;
use crate::secret::{Purpose, SealingKeys, SecretHash, random};

/// A login transaction before a home is chosen.
#[derive(Clone, Serialize, Deserialize)]
pub struct Transaction {
    /// Names it in logs and in the store.
    pub id: TransactionId,
    /// What was asked for.
    pub request: AuthorizationRequest,
    /// The browser that began it.
    browser: SecretHash,
    /// Its end.
    pub expires_at: Timestamp,
    /// Set if it is the broker itself that asks, to link two homes.
    #[serde(default)]
    pub link: Option<Box<PendingLink>>,
}

impl Transaction {
    /// A new one for this browser.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub(super) fn begin(
        request: AuthorizationRequest,
        browser: SecretHash,
        lifetime: Duration,
    ) -> Result<Self, LoginError> {
        let expires_at = request.received_at + lifetime;
        Ok(Self { id: TransactionId(random()?), request, browser, expires_at, link: None })
    }

    /// Sealed for the hidden field of the home picker.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal(&self, sealing: &SealingKeys) -> Result<String, LoginError> {
        seal(sealing, Purpose::LoginTransaction, self)
    }

    /// Opens what the picker sent back.
    ///
    /// # Errors
    /// When it was not made here, is too old, or comes from another browser.
    pub(super) fn open(sealing: &SealingKeys, text: &str, browser: &str, now: Timestamp) -> Result<Self, LoginError> {
        let transaction: Self = open(sealing, Purpose::LoginTransaction, text)?;
        transaction.check_browser(browser)?;
        transaction.check_age(now)?;
        Ok(transaction)
    }

    /// Invariant: no browser finishes a login that another browser began.
    ///
    /// # Errors
    /// When this is another browser.
    pub(super) fn check_browser(&self, browser: &str) -> Result<(), LoginError> {
        if self.browser.matches(browser) { Ok(()) } else { Err(LoginError::OtherBrowser) }
    }

    /// # Errors
    /// When its time is over.
    pub(super) fn check_age(&self, now: Timestamp) -> Result<(), LoginError> {
        if now < self.expires_at { Ok(()) } else { Err(LoginError::Expired) }
    }
}

/// A login transaction whose user is asked for consent: all other demands are met.
#[derive(Clone, Serialize, Deserialize)]
pub struct Question {
    /// The login.
    pub transaction: Transaction,
    /// The session of the user who is asked: nobody else answers.
    pub session: SessionId,
}

impl Question {
    /// Sealed for the address and the form of the consent page.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub(super) fn seal(&self, sealing: &SealingKeys) -> Result<String, LoginError> {
        seal(sealing, Purpose::Consent, self)
    }

    /// Opens what the browser brought back.
    ///
    /// # Errors
    /// When it was not made here, is too old, or comes from another browser.
    pub(super) fn open(sealing: &SealingKeys, text: &str, browser: &str, now: Timestamp) -> Result<Self, LoginError> {
        let question: Self = open(sealing, Purpose::Consent, text)?;
        question.transaction.check_browser(browser)?;
        question.transaction.check_age(now)?;
        Ok(question)
    }
}

/// A login transaction on the way to a home.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) home: InstanceName,
    pub(super) transaction: Transaction,
}

impl Ticket {
    pub(super) fn seal(&self, sealing: &SealingKeys) -> Result<String, LoginError> {
        seal(sealing, Purpose::Ticket, self)
    }

    /// Opens what an agent brought.
    ///
    /// # Errors
    /// When it was not made here, is too old, or was made for another home.
    pub(super) fn open(
        sealing: &SealingKeys,
        text: &str,
        caller: &InstanceName,
        now: Timestamp,
    ) -> Result<Self, LoginError> {
        let ticket: Self = open(sealing, Purpose::Ticket, text)?;
        if ticket.home != *caller {
            return Err(LoginError::TicketOfAnotherHome);
        }
        ticket.transaction.check_age(now)?;
        Ok(ticket)
    }
}

fn seal(sealing: &SealingKeys, purpose: Purpose, what: &impl Serialize) -> Result<String, LoginError> {
    Ok(sealing.seal_value(purpose, what)?)
}

fn open<T: DeserializeOwned>(sealing: &SealingKeys, purpose: Purpose, text: &str) -> Result<T, LoginError> {
    sealing.open_value(purpose, text).map_err(|_| LoginError::Unreadable)
}

/// Names a login transaction: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId([u8; 16]);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for TransactionId {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, LoginError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(LoginError::HandleUnknown)
    }
}
