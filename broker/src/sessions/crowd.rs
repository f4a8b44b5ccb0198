//! How many sessions one user may have: who can log in could begin one after the other, and each is kept, shown to him, and
//! has applications to tell of its end.
//!
//! Nobody is locked out: it is looked at when a session has begun, and the ones that were used longest ago end. They end as
//! any session does; applications hear of it. So whoever has a user's password can end the user's other sessions by a
//! hundred logins. One click on "log out everywhere" is all that he needs for that anyway.
//!
//! What was used longest ago says the store's count of commits: a clock that was set back would end what has just begun.
//!
//! Logins of one moment do not wait for each other: a few more than the most may be there until the next one.

use tracing::info;

use crate::clock::Timestamp;
use crate::registry::{SessionId, Snapshot, UserId};
use crate::sessions::ending::BATCH;
use crate::sessions::{SessionError, SessionOfUser, Sessions, TellHome};
use crate::storage::{Expect, MAX_WRITES};

/// Most sessions of one user.
const MOST_OF_USER: usize = 100;

/// Of so many it is looked whether they are there. More are of an earlier release, and become fewer with each login.
const LOOKED_AT: usize = MOST_OF_USER + MAX_WRITES;

impl Sessions {
    /// Ends the sessions of a user that were used longest ago, if there are too many with the one that has just begun: so
    /// many at once that the next logins have nothing to end. Until there are as many, this reads one short list.
    ///
    /// # Errors
    /// As [`Sessions::end`]. The session that has begun is as good as without it.
    pub async fn make_room(
        &self,
        user: &UserId,
        begun: &SessionId,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let first = SessionOfUser::first_of(user);
        let known = self.of_users.some_beginning(&first, LOOKED_AT).await?;
        if known.len() <= MOST_OF_USER {
            return Ok(());
        }
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (key, _) in known {
            let Some(Ok(id)) = key.strip_prefix(&first).map(str::parse::<SessionId>) else { continue };
            match self.table.get(id.as_str()).await? {
                Some(stored) => there.push((stored.version.revision(), id)),
                // It went by its age, and what stands under its user is kept for as long as any session may last.
                None => gone.push(self.of_users.delete(&key, Expect::Any)),
            }
        }
        if !gone.is_empty() {
            gone.truncate(MAX_WRITES);
            self.of_users.commit(gone).await?;
        }
        if there.len() <= MOST_OF_USER {
            return Ok(());
        }
        there.retain(|(_, id)| id != begun);
        there.sort_by_key(|(used, _)| *used);
        let ids: Vec<SessionId> = there.into_iter().map(|(_, id)| id).take(BATCH).collect();
        let ended = self.end(&ids, TellHome::No, snapshot, now).await?.sessions.len();
        info!(
            user = user.as_str(),
            ended, "a user has more than {MOST_OF_USER} sessions: those used longest ago have ended"
        );
        self.crowded.add(ended as u64);
        Ok(())
    }

    /// How many sessions have ended because their users had too many.
    pub fn crowded_out(&self) -> u64 {
        self.crowded.times()
    }
}
