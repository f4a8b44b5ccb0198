//! The way into the web console, and who is in.
//!
//! A browser comes in by a one-time code that ops made on the machine, or through the federation: then its session here
//! names the session at the broker that let it in, and is worth nothing without that one (whoever lets it pass asks).
//! Of a code and of a session's cookie only the hash is stored. A code is taken by the commit that begins the session, so
//! that of two who have it one is let in, on whichever broker. A session ends after half an hour in which nobody uses it,
//! after eight hours in any case, and when somebody ends it.

mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Audit, Event, Kind};
use crate::clock::Timestamp;
use crate::registry::SessionId;
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Store, StoreError, Write};

pub use record::{ConsoleCode, ConsoleSession, Way};

/// How long a code is good.
pub const CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long a session lives without being used.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// How long it lives at the most.
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);

/// A session that is used is written again only after so long: pages are looked at often.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// What codes begin with, so that one that leaks is known for what it is.
const CODE_PREFIX: &str = "hwc_";

/// Codes and sessions of the web console.
#[derive(Clone)]
pub struct Console {
    codes: Table<ConsoleCode>,
    sessions: Table<ConsoleSession>,
    audit: Audit,
}

/// A browser that is let in.
pub struct Entered {
    /// What names its session.
    pub id: SessionId,
    /// Value of its cookie.
    pub cookie: String,
}

impl Console {
    /// On this store.
    pub fn new(store: Arc<dyn Store>, audit: Audit) -> Self {
        Self { codes: Table::new(store.clone()), sessions: Table::new(store), audit }
    }

    /// Makes a code for whoever asks on the machine, and says until when it is good.
    ///
    /// # Errors
    /// When it cannot be made or stored.
    pub async fn issue_code(&self, by: &str, now: Timestamp) -> Result<(String, Timestamp), ConsoleError> {
        let code = format!("{CODE_PREFIX}{}", OpaqueSecret::generate()?.expose());
        let expires_at = now + CODE_LIFETIME;
        let record = ConsoleCode { by: by.to_owned(), expires_at };
        let write = self.codes.put(SecretHash::of(&code).as_str(), &record, Expect::Absent)?;
        self.codes.commit(vec![write]).await?;
        self.audit.note(Event::new(Kind::ConsoleCodeCreated).detail(format!("good until {expires_at}")));
        Ok((code, expires_at))
    }

    /// Lets the browser in that has a code, and takes the code.
    ///
    /// # Errors
    /// When the code is unknown, used or too old: the same for all.
    pub async fn enter_by_code(&self, code: &str, now: Timestamp) -> Result<Entered, ConsoleError> {
        let entered = self.try_enter_by_code(code, now).await;
        if let Err(ConsoleError::CodeUnknown) = entered {
            self.audit.note(Event::new(Kind::ConsoleRefused).refused("code_unknown"));
        }
        entered
    }

    async fn try_enter_by_code(&self, code: &str, now: Timestamp) -> Result<Entered, ConsoleError> {
        let key = SecretHash::of(code);
        let stored = self.codes.get(key.as_str()).await?.filter(|stored| now < stored.record.expires_at);
        let Stored { record, version } = stored.ok_or(ConsoleError::CodeUnknown)?;
        let taken = self.codes.delete(key.as_str(), Expect::Version(version));
        match self.begin(Way::Code { by: record.by }, vec![taken], now).await {
            // Somebody else has taken it in this moment.
            Err(ConsoleError::Store(StoreError::Conflict)) => Err(ConsoleError::CodeUnknown),
            entered => entered,
        }
    }

    /// Lets a browser in whose user was found to be one of ops.
    ///
    /// # Errors
    /// When its session cannot be stored.
    pub async fn enter(&self, way: Way, now: Timestamp) -> Result<Entered, ConsoleError> {
        self.begin(way, Vec::new(), now).await
    }

    async fn begin(&self, way: Way, mut writes: Vec<Write>, now: Timestamp) -> Result<Entered, ConsoleError> {
        let (id, secret) = (SessionId::generate()?, OpaqueSecret::generate()?);
        let entered = way.note(Event::new(Kind::ConsoleEntered).object(&id));
        let session = ConsoleSession { secret: secret.hash(), way, began_at: now, used_at: now };
        writes.push(self.sessions.put(id.as_str(), &session, Expect::Absent)?);
        self.sessions.commit(writes).await?;
        self.audit.note(entered);
        let cookie = format!("{id}.{}", secret.expose());
        Ok(Entered { id, cookie })
    }

    /// The session of a cookie, if it has not ended. That does not count as use: pages look by themselves, too.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(
        &self,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<(SessionId, ConsoleSession)>, ConsoleError> {
        Ok(self.stored(cookie, now).await?.map(|(id, stored)| (id, stored.record)))
    }

    async fn stored(
        &self,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<(SessionId, Stored<ConsoleSession>)>, ConsoleError> {
        let Some((id, secret)) = cookie.split_once('.') else { return Ok(None) };
        let Ok(id) = id.parse::<SessionId>() else { return Ok(None) };
        let stored = self.sessions.get(id.as_str()).await?;
        let own = stored.filter(|stored| stored.record.secret.matches(secret) && !stored.record.is_over(now));
        Ok(own.map(|stored| (id, stored)))
    }

    /// The same, for somebody who uses it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn use_by(
        &self,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<(SessionId, ConsoleSession)>, ConsoleError> {
        let Some((id, Stored { record, version })) = self.stored(cookie, now).await? else { return Ok(None) };
        if now.since(record.used_at) < TOUCH_EVERY {
            return Ok(Some((id, record)));
        }
        let session = ConsoleSession { used_at: now, ..record };
        let write = self.sessions.put(id.as_str(), &session, Expect::Version(version))?;
        match self.sessions.commit(vec![write]).await {
            Ok(_) => Ok(Some((id, session))),
            // Another request of this browser has written the same, or somebody ends it: the store knows which.
            Err(StoreError::Conflict) => {
                let still = self.sessions.get(id.as_str()).await?.map(|stored| stored.record);
                Ok(still.filter(|session| !session.is_over(now)).map(|session| (id, session)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All sessions that have not ended, the newest last.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn all(&self, now: Timestamp) -> Result<Vec<(SessionId, ConsoleSession)>, ConsoleError> {
        let stored = self.sessions.all().await?.into_iter();
        let living = stored.filter(|(_, stored)| !stored.record.is_over(now));
        let mut all: Vec<_> = living.filter_map(|(id, stored)| Some((id.parse().ok()?, stored.record))).collect();
        all.sort_by_key(|(_, session): &(SessionId, ConsoleSession)| session.began_at);
        Ok(all)
    }

    /// Ends a session; says whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn end(&self, id: &SessionId, why: &'static str) -> Result<bool, ConsoleError> {
        let Some(stored) = self.sessions.get(id.as_str()).await? else { return Ok(false) };
        self.sessions.commit(vec![self.sessions.delete(id.as_str(), Expect::Any)]).await?;
        self.audit.note(stored.record.way.note(Event::new(Kind::ConsoleLeft).object(id)).detail(why));
        Ok(true)
    }

    /// Notes that somebody was not let in whom a home vouches for.
    pub fn refuse(&self, way: &Way) {
        self.audit.note(way.note(Event::new(Kind::ConsoleRefused).refused("not_ops")));
    }
}

/// Why a browser is not let in.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Unknown, used, or too old.
    #[error("the code is not good, or not any more")]
    CodeUnknown,
    /// No randomness.
    #[error("a code or a session could not be made")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
