//! Sessions: one browser signed in at the broker, and what it opened at relying parties.
//!
//! A session begins with a home's word. Its [`SessionId`] is the `sid` that relying parties are told; the cookie carries
//! that and a secret, of which the store has the hash. A further login of the same user in the same browser goes on with
//! the session under a new secret, so that a cookie that somebody planted or copied before is worth nothing; a login of
//! somebody else leaves it without any. It ends after `session_idle` without a login, after `session` in any case, when
//! the home that vouched is cut off (whoever reads it asks the registry), or because somebody ends it.
//!
//! Tokens ask whether the record of their session is there: ending it is one commit, and everything that came of it is
//! dead by that. So the record stays a little longer than the session itself: as long as its last token may live.
//!
//! Writes of logins are returned, not made: they belong into the commit of what comes of the same login. The end of a
//! session is a commit of its own ([`Sessions::end`]), which puts a logout for each application that was entered with it
//! into the [`Outbox`].

mod crowd;
mod cut_off;
mod ending;
mod outbox;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;

use crate::audit::Audit;
use crate::clock::Timestamp;
use crate::config::{Current, Lifetimes};
use crate::rate_limit::Met;
use crate::registry::{ClientId, InstanceId, KnownName, SessionId, UserId, VerifiedIdentity};
use crate::secret::{OpaqueSecret, SecretError};
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Store, StoreError, Version, Write};

pub use cut_off::follow as follow_cut_off_homes;
pub use ending::{Ended, TellHome};
pub use outbox::{
    AgentOrders, Delivery, DeliveryFoundations, DueLogout, Entered, LogoutId, LogoutIdError, LogoutState, Message,
    Outbox, OutboxError, Outcome, SessionOrder, StoredLogout,
};
pub use record::{Opened, Session, SessionOfUser};

/// A session that is used again is written again only if so large a part of its idle time has passed since.
const TOUCH_EVERY: u32 = 16;

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    table: Table<Session>,
    of_users: Table<SessionOfUser>,
    names: Table<KnownName>,
    outbox: Outbox,
    audit: Audit,
    lifetimes: Current<Lifetimes>,
    crowded: Met,
}

/// A session that was found.
pub struct FoundSession {
    /// What names it.
    pub id: SessionId,
    /// As it is stored.
    pub session: Session,
    version: Version,
}

/// What a home has vouched for.
pub struct Vouched {
    /// Who vouched.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// For whom, as the broker knows him.
    pub user: UserId,
    /// For whom.
    pub identity: VerifiedIdentity,
}

/// A session that begins, or goes on under a new secret.
pub struct BegunSession {
    /// What names it.
    pub id: SessionId,
    /// Value of the cookie.
    pub cookie: String,
    /// What makes it real.
    pub writes: Vec<Write>,
    /// Whether the user has one more with it: then [`Sessions::make_room`] sees to it that he has not too many.
    pub is_new: bool,
}

impl Sessions {
    /// With these lifetimes.
    pub fn new(store: Arc<dyn Store>, lifetimes: impl Into<Current<Lifetimes>>, audit: Audit) -> Self {
        Self {
            table: Table::new(store.clone()),
            of_users: Table::new(store.clone()),
            names: Table::new(store.clone()),
            outbox: Outbox::new(store),
            audit,
            lifetimes: lifetimes.into(),
            crowded: Met::default(),
        }
    }

    /// A session for what a home has vouched for, entered at this client if it learns of the user already: a new one, or
    /// the one that the browser has if that is the same user's.
    ///
    /// # Errors
    /// When no id or secret can be made, or it cannot be written.
    pub fn begin(
        &self,
        current: Option<FoundSession>,
        vouched: Vouched,
        entered: Option<(ClientId, Opened)>,
        now: Timestamp,
    ) -> Result<BegunSession, SessionError> {
        let secret = OpaqueSecret::generate()?;
        let Vouched { home, home_id, user, identity } = vouched;
        let mut writes = Vec::new();
        let name = KnownName::of(&home, &identity.username);
        let (id, mut session, expect) = match current {
            Some(FoundSession { id, session, version }) if session.user == user => {
                (id, Session { identity, ..session }, Expect::Version(version))
            }
            other => {
                writes.extend(other.map(|other| self.detach(other)).transpose()?);
                let opened = BTreeMap::new();
                let (began_at, expires_at) = (now, now);
                let ends_by = Some(now + self.lifetimes.now().session);
                let (last_login_at, kept_until) = (now, now);
                let secret = None;
                let session = Session {
                    home,
                    home_id,
                    user: user.clone(),
                    identity,
                    secret,
                    began_at,
                    ends_by,
                    last_login_at,
                    expires_at,
                    kept_until,
                    opened,
                };
                (SessionId::generate()?, session, Expect::Absent)
            }
        };
        let is_new = expect == Expect::Absent;
        session.secret = Some(secret.hash());
        let entered = entered.map(|(client, opened)| {
            let opened = opened.behind(session.opened.get(&client));
            (client, opened)
        });
        session.opened.extend(entered);
        self.use_at(&mut session, now);
        let kept_until = session.began_at + self.lifetimes.now().session + self.behind();
        writes.push(self.table.put(id.as_str(), &session, expect)?);
        let of_user = SessionOfUser { kept_until };
        writes.push(self.of_users.put(&SessionOfUser::key(&user, &id), &of_user, Expect::Any)?);
        writes.push(self.names.put(&name, &KnownName { user, kept_until: now + KnownName::KEPT }, Expect::Any)?);
        let cookie = format!("{id}.{}", secret.expose());
        Ok(BegunSession { id, cookie, writes, is_new })
    }

    /// The session of a cookie, if it has not ended.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, cookie: &str, now: Timestamp) -> Result<Option<FoundSession>, SessionError> {
        let Some((id, secret)) = cookie.split_once('.') else { return Ok(None) };
        let Ok(id) = id.parse::<SessionId>() else { return Ok(None) };
        let Some(Stored { record: session, version }) = self.table.get(id.as_str()).await? else { return Ok(None) };
        let own = session.secret.as_ref().is_some_and(|hash| hash.matches(secret));
        Ok((own && !self.is_over(&session, now)).then_some(FoundSession { id, session, version }))
    }

    /// Where logouts are on their way to those whom they have to reach.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Who was known by this user name at a home, last of all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn user_named(&self, home: &InstanceName, username: &str) -> Result<Option<UserId>, SessionError> {
        Ok(self.names.get(&KnownName::of(home, username)).await?.map(|stored| stored.record.user))
    }

    /// At most so many sessions behind this one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn page(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, Session)>, SessionError> {
        let page = self.table.page(after.map(SessionId::as_str), limit).await?.into_iter();
        Ok(page.filter_map(|(id, stored)| Some((id.parse().ok()?, stored.record))).collect())
    }

    /// The session of this name as tokens need it: also shortly after its end, unless somebody ended it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(&self, id: &SessionId, now: Timestamp) -> Result<Option<Session>, SessionError> {
        let stored = self.table.get(id.as_str()).await?;
        Ok(stored.map(|stored| stored.record).filter(|session| now < session.kept_until))
    }

    /// The write that notes a login without a home: nothing if there is nothing new to note.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn enter(
        &self,
        found: FoundSession,
        (client, opened): (ClientId, Opened),
        now: Timestamp,
    ) -> Result<Option<Write>, SessionError> {
        let FoundSession { id, mut session, version } = found;
        let since = session.opened.get(&client).map_or(opened.since, |known| known.since);
        let opened = Opened { since, ..opened.behind(session.opened.get(&client)) };
        let known = session.opened.get(&client) == Some(&opened);
        // What is written knows nothing yet of a lifetime that was made longer.
        let covered = self.end_of(&session) <= session.expires_at;
        if known && covered && now.since(session.last_login_at) < self.lifetimes.now().session_idle / TOUCH_EVERY {
            return Ok(None);
        }
        session.opened.insert(client, opened);
        self.use_at(&mut session, now);
        Ok(Some(self.table.put(id.as_str(), &session, Expect::Version(version))?))
    }

    /// Whether nobody can sign on with it any more. Judged by the lifetimes of today: they may have been made shorter
    /// since it began.
    pub fn is_over(&self, session: &Session, now: Timestamp) -> bool {
        now >= self.end_of(session).min(session.expires_at)
    }

    /// The write that leaves a session without a cookie.
    fn detach(&self, found: FoundSession) -> Result<Write, StoreError> {
        let session = Session { secret: None, ..found.session };
        self.table.put(found.id.as_str(), &session, Expect::Version(found.version))
    }

    fn use_at(&self, session: &mut Session, now: Timestamp) {
        session.last_login_at = now;
        session.expires_at = self.end_of(session);
        session.kept_until = session.expires_at + self.behind();
    }

    fn end_of(&self, session: &Session) -> Timestamp {
        let lifetimes = self.lifetimes.now();
        let end = (session.began_at + lifetimes.session).min(session.last_login_at + lifetimes.session_idle);
        session.ends_by.map_or(end, |by| end.min(by))
    }

    /// How long a token may outlive its session's last use.
    fn behind(&self) -> Duration {
        let lifetimes = self.lifetimes.now();
        lifetimes.authorization_code + lifetimes.access_token
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
