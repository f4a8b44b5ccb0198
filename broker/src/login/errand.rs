//! Logins at homes without agent: the broker itself brings the ticket back, and may ask the provider once for each.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::record::KEPT_BEHIND_END;
use crate::login::{Login, LoginError, OpenedTicket};
use crate::storage::table::Record;
use crate::storage::{Expect, StoreError};

/// A ticket with which a provider has been asked, under the transaction's id: an answer that comes twice, or in two tabs
/// at once, is given to the provider once (RFC 6749 10.5).
#[derive(Serialize, Deserialize)]
pub struct ClaimedTicket {
    expires_at: Timestamp,
}

impl Record for ClaimedTicket {
    const TABLE: &'static str = "login-claimed";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at + KEPT_BEHIND_END)
    }
}

impl Login {
    /// Takes a ticket that a browser brought back from the provider behind this home, before the provider is asked. It can
    /// be taken once.
    ///
    /// # Errors
    /// As [`Login::open_ticket`]; when it was taken already.
    pub async fn claim_ticket(
        &self,
        home: &InstanceName,
        ticket: &str,
        now: Timestamp,
    ) -> Result<OpenedTicket, LoginError> {
        let opened = self.open_ticket(home, ticket, now)?;
        let claimed = ClaimedTicket { expires_at: opened.expires_at };
        let write = self.claimed.put(&opened.transaction.to_string(), &claimed, Expect::Absent)?;
        match self.claimed.commit(vec![write]).await {
            Ok(_) => Ok(opened),
            Err(StoreError::Conflict) => Err(LoginError::TicketUsed),
            Err(error) => Err(error.into()),
        }
    }
}
