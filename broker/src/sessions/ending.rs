//! The end of sessions, and who has to hear of it.
//!
//! One commit deletes the records and puts a logout on its way for each application that was entered with them. Tokens
//! are dead by that, because they ask whether their session is there; the outbox sees to the rest. Whoever uses a session
//! in the same moment finds it gone when he writes it, and has to look again.

use std::collections::BTreeSet;

use homeward_certs::identity::InstanceName;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::registry::{Client, ClientId, SessionId, Snapshot, UserId};
use crate::sessions::outbox::{Entered, LogoutId, LogoutState, Message, StoredLogout, TRIED};
use crate::sessions::{FoundSession, Opened, Session, SessionError, SessionOfUser, Sessions};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError, Write};

/// Most sessions in one commit.
pub(super) const BATCH: usize = 16;

/// How often an end looks again when a session was used in the meantime, or begun.
const TRIES: usize = 8;

/// Whether the home is told too, so that nobody gets in again without proving who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TellHome {
    /// The user, or ops, want the user logged out everywhere.
    Yes,
    /// Only one browser was meant, or the home has said it itself.
    No,
}

/// What has ended.
#[derive(Default)]
pub struct Ended {
    /// The sessions, as they were.
    pub sessions: Vec<(SessionId, Session)>,
    /// Whom it has to reach.
    pub logouts: Vec<(LogoutId, StoredLogout)>,
}

impl Sessions {
    /// Ends these sessions, a few in one commit. Those that are not there any more are none.
    ///
    /// # Errors
    /// When the store does not answer, or they are used faster than they can be ended. What was ended until then has
    /// ended.
    pub async fn end(
        &self,
        ids: &[SessionId],
        mut tell_home: TellHome,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, SessionError> {
        let mut all = Ended::default();
        for batch in ids.chunks(BATCH) {
            let ended = self.end_batch(batch, tell_home, snapshot, now).await?;
            // Once is enough.
            if !ended.sessions.is_empty() {
                tell_home = TellHome::No;
            }
            all.sessions.extend(ended.sessions);
            all.logouts.extend(ended.logouts);
        }
        Ok(all)
    }

    /// Ends all sessions of a user that have begun by now. One that begins while this goes on, by a new word of the home,
    /// may stay.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub async fn end_all(
        &self,
        user: &UserId,
        tell_home: TellHome,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, SessionError> {
        self.end_begun((user, Some(now)), tell_home, snapshot, now).await
    }

    /// Ends all sessions of a user of whom the home has taken back its word, whenever they began: one may have while that
    /// was written down, and no later word of the home is lost but that of a user who was let in again in this moment.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub async fn end_for_good(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, SessionError> {
        self.end_begun((user, None), TellHome::No, snapshot, now).await
    }

    async fn end_begun(
        &self,
        (user, until): (&UserId, Option<Timestamp>),
        tell_home: TellHome,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, SessionError> {
        let mut all = Ended::default();
        for _ in 0..TRIES {
            let sessions = self.of_user(user).await?.into_iter();
            let meant = |session: &Session| until.is_none_or(|until| session.began_at <= until);
            let ids: Vec<_> = sessions.filter(|(_, session)| meant(session)).map(|(id, _)| id).collect();
            if ids.is_empty() {
                break;
            }
            let tell_home = if all.sessions.is_empty() { tell_home } else { TellHome::No };
            let ended = self.end(&ids, tell_home, snapshot, now).await?;
            all.sessions.extend(ended.sessions);
            all.logouts.extend(ended.logouts);
        }
        Ok(all)
    }

    /// Logs a session out of the clients whose relying party accepts its home no more. It goes on at all others.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub(super) async fn leave_closed(
        &self,
        id: &SessionId,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        for _ in 0..TRIES {
            let Some(Stored { record, version }) = self.table.get(id.as_str()).await? else { return Ok(()) };
            let (home, of_home) = (record.home.clone(), record.home_id);
            let is_closed = |opened: &Opened| opened.is_closed((&home, of_home), snapshot);
            let (closed, opened) = record.opened.into_iter().partition(|(_, opened)| is_closed(opened));
            let session = Session { opened: closed, ..record };
            let mut told = Vec::new();
            for (id, logout) in logouts_of(id, &session, snapshot, now)? {
                told.extend(self.outbox.write(&id, &logout)?);
            }
            let left = self.table.put(id.as_str(), &Session { opened, ..session }, Expect::Version(version))?;
            match self.table.commit_after(told, vec![left]).await {
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    info!(session = %id, %home, "a session was logged out where its home is not accepted any more");
                    return Ok(());
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The writes that tell a client the end of what a session has there, if its user is another one there from now on: what
    /// the session knows of the client is replaced, and nothing else would tell it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn leave_replaced(
        &self,
        found: &FoundSession,
        (client, opened): &(ClientId, Opened),
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Vec<Write>, SessionError> {
        let old = found.session.opened.get(client).filter(|old| old.subject != opened.subject);
        let told = old.and_then(|old| Some((old, message(snapshot, (client, old), &found.id)?)));
        let Some((old, (message, state))) = told else { return Ok(Vec::new()) };
        let logout = logout((&found.session, state), (old.relying_party.clone(), message), now);
        Ok(self.outbox.write(&LogoutId::generate(now)?, &logout)?)
    }

    /// The sessions of a user that somebody can sign on with, or that have living tokens still.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<(SessionId, Session)>, SessionError> {
        let (first, mut sessions) = (SessionOfUser::first_of(user), Vec::new());
        for (key, _) in self.of_users.beginning(&first).await? {
            let Some(Ok(id)) = key.strip_prefix(&first).map(str::parse::<SessionId>) else { continue };
            if let Some(stored) = self.table.get(id.as_str()).await? {
                sessions.push((id, stored.record));
            }
        }
        Ok(sessions)
    }

    async fn end_batch(
        &self,
        ids: &[SessionId],
        tell_home: TellHome,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, SessionError> {
        for _ in 0..TRIES {
            let mut found = Vec::new();
            for id in ids {
                found.extend(self.table.get(id.as_str()).await?.map(|stored| (id.clone(), stored)));
            }
            let logouts = self.logouts(&found, tell_home, snapshot, now)?;
            let mut told = Vec::new();
            for (id, logout) in &logouts {
                told.extend(self.outbox.write(id, logout)?);
            }
            // Of a user who was everywhere, some applications hear of the end a moment before it.
            match self.table.commit_after(told, self.deletions(&found)).await {
                // An application was entered with one of them meanwhile: it has to hear of the end too.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    for (id, Stored { record, .. }) in &found {
                        info!(session = %id, home = %record.home, applications = record.opened.len(), "a session has ended");
                        let ended = Event::new(Kind::SessionEnded).session(id).home(&record.home);
                        self.audit.note(ended.user(&record.user));
                    }
                    let sessions = found.into_iter().map(|(id, stored)| (id, stored.record)).collect();
                    return Ok(Ended { sessions, logouts });
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn deletions(&self, found: &[(SessionId, Stored<Session>)]) -> Vec<Write> {
        let deletions = found.iter().flat_map(|(id, Stored { record, version })| {
            let of_user = SessionOfUser::key(&record.user, id);
            [self.table.delete(id.as_str(), Expect::Version(*version)), self.of_users.delete(&of_user, Expect::Any)]
        });
        deletions.collect()
    }

    /// Whom the end of these sessions has to reach.
    fn logouts(
        &self,
        found: &[(SessionId, Stored<Session>)],
        tell_home: TellHome,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Vec<(LogoutId, StoredLogout)>, SessionError> {
        let (mut logouts, mut at_home) = (Vec::new(), BTreeSet::new());
        for (id, Stored { record: session, .. }) in found {
            logouts.extend(logouts_of(id, session, snapshot, now)?);
            let home = snapshot.instance(&session.home).filter(|home| home.id == session.home_id);
            if tell_home == TellHome::Yes && home.is_some() && at_home.insert(&session.user) {
                let message = Message::Home { home_user_id: session.identity.id_at_home().to_owned() };
                let logout = logout((session, LogoutState::Pending), (session.home.clone(), message), now);
                logouts.push((LogoutId::generate(now)?, logout));
            }
        }
        Ok(logouts)
    }
}

/// What the clients that were entered with a session are told.
fn logouts_of(
    id: &SessionId,
    session: &Session,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<(LogoutId, StoredLogout)>, SessionError> {
    let mut logouts = Vec::new();
    for (client_id, opened) in &session.opened {
        let Some((message, state)) = message(snapshot, (client_id, opened), id) else { continue };
        let logout = logout((session, state), (opened.relying_party.clone(), message), now);
        logouts.push((LogoutId::generate(now)?, logout));
    }
    Ok(logouts)
}

/// What a client is told, and how: by its back channel if it has one, else by its agent if it has one. Nothing if it is
/// gone. One that is cut off is told all the same: a quarantine ends no session at an application.
fn message(
    snapshot: &Snapshot,
    (client_id, opened): (&ClientId, &Opened),
    id: &SessionId,
) -> Option<(Message, LogoutState)> {
    let client = Client::told(snapshot, &opened.relying_party, client_id)?;
    let entered = Entered {
        client_id: client_id.clone(),
        subject: opened.subject.clone(),
        session: id.clone(),
        // Whoever was told no name knows the user by none: the one at home may be somebody else's there.
        username: opened.username.clone().unwrap_or_default(),
    };
    Some(match (&client.relying_party.logout.backchannel, client.enrolled) {
        (Some(_), _) => (Message::Back(entered), LogoutState::Pending),
        (None, true) => (Message::Agent(entered), LogoutState::Pending),
        (None, false) => (Message::Back(entered), LogoutState::NotSupported),
    })
}

fn logout(
    (session, state): (&Session, LogoutState),
    (target, message): (InstanceName, Message),
    now: Timestamp,
) -> StoredLogout {
    let detail = match state {
        LogoutState::NotSupported => "it takes no logout tokens and has no agent",
        LogoutState::Pending | LogoutState::Confirmed | LogoutState::Dead => "",
    };
    StoredLogout {
        target,
        user: session.user.clone(),
        user_name: format!("{}@{}", session.identity.username, session.home),
        message,
        state,
        state_at: now,
        attempts: 0,
        detail: detail.to_owned(),
        created_at: now,
        give_up_at: now + TRIED,
    }
}
