//! Sessions: one browser signed in at the broker.
//!
//! A session begins with a home's word and is found by a cookie whose hash is its key. It gets a new id at every login,
//! so that an id that somebody planted is worth nothing. It ends after `session_idle` without a login, after `session`
//! in any case, and when the home that vouched is cut off (whoever reads it asks the registry).
//!
//! Writes are returned, not made: they belong into the commit of the code that comes of the same login.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{InstanceId, VerifiedIdentity};
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Version, Write};

/// One browser, signed in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Who vouched.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// For whom.
    pub identity: VerifiedIdentity,
    began_at: Timestamp,
    /// The last login that it was used for.
    last_login_at: Timestamp,
    expires_at: Timestamp,
}

impl Record for Session {
    const TABLE: &'static str = "session";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    table: Table<Session>,
    lifetime: Duration,
    idle: Duration,
}

/// A session that was found.
pub struct FoundSession {
    /// As it is stored.
    pub session: Session,
    id: SecretHash,
    version: Version,
}

impl Sessions {
    /// With these lifetimes.
    pub fn new(store: Arc<dyn Store>, lifetime: Duration, idle: Duration) -> Self {
        Self { table: Table::new(store), lifetime, idle }
    }

    /// A new session, the value of its cookie and the write that makes it real.
    ///
    /// # Errors
    /// When no id can be made.
    pub fn begin(
        &self,
        (home, home_id): (InstanceName, InstanceId),
        identity: VerifiedIdentity,
        now: Timestamp,
    ) -> Result<(OpaqueSecret, Write), SessionError> {
        let cookie = OpaqueSecret::generate()?;
        let expires_at = self.end(now, now);
        let session = Session { home, home_id, identity, began_at: now, last_login_at: now, expires_at };
        let write = self.table.put(cookie.hash().as_str(), &session, Expect::Absent)?;
        Ok((cookie, write))
    }

    /// The session of a cookie, if it has not ended.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, cookie: &str, now: Timestamp) -> Result<Option<FoundSession>, SessionError> {
        let id = SecretHash::of(cookie);
        let Some(stored) = self.table.get(id.as_str()).await? else { return Ok(None) };
        // Judged by the lifetimes of today: they may have been made shorter since it began.
        let end = self.end(stored.record.began_at, stored.record.last_login_at).min(stored.record.expires_at);
        Ok((now < end).then_some(FoundSession { session: stored.record, id, version: stored.version }))
    }

    /// The write that notes a login without a home: in the same commit as its code, so that no code comes out of a
    /// session that ends at the same moment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn touch(&self, found: FoundSession, now: Timestamp) -> Result<Write, SessionError> {
        let FoundSession { mut session, id, version } = found;
        session.last_login_at = now;
        session.expires_at = self.end(session.began_at, now);
        Ok(self.table.put(id.as_str(), &session, Expect::Version(version))?)
    }

    /// The write that ends the session of a cookie, whether there is one or not.
    pub fn forget(&self, cookie: &str) -> Write {
        self.table.delete(SecretHash::of(cookie).as_str(), Expect::Any)
    }

    fn end(&self, began_at: Timestamp, last_login_at: Timestamp) -> Timestamp {
        (began_at + self.lifetime).min(last_login_at + self.idle)
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No randomness.
    #[error("a session id could not be made")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
