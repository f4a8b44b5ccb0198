//! How many grants of one user may outlive their sessions: a client could ask for one after the other, and each is kept for
//! months.
//!
//! Nobody is locked out: when a grant has begun, the ones that were used longest ago end, of the same client if it is the one
//! that has too many. One in so many looks, by the lot that its id is: a client that wants such a grant at each login would
//! pay for a list each time. So there may be some more than the most for a while.
//!
//! What was used longest ago says the store's count of commits. A clock would end what was granted a moment ago, where it was
//! set back before. What came into the store from another one, and was not used since, is the oldest, in no order.

use tracing::{info, warn};

use crate::audit::{Event, Kind};
use crate::grants::Grants;
use crate::grants::error::TokenError;
use crate::grants::issuing::Tokens;
use crate::grants::record::{GrantId, GrantOfUser, GrantState, StoredGrant};
use crate::registry::{ClientId, UserId};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError, Write};

/// Most grants of one user at one client.
const MOST_AT_CLIENT: usize = 200;

/// Most of one user at all clients.
const MOST_OF_USER: usize = 1000;

/// One of so many that begin looks.
const LOOKS: u8 = 16;

/// So many end at once, twice as many as begin between two looks; and so many that have ended are forgotten: together they
/// are one commit.
const AT_ONCE: usize = 32;
const FORGOTTEN: usize = 50;

impl Grants {
    /// Ends the grants of a user that were used longest ago, if there are too many with the one that these tokens are of.
    /// That is good whatever becomes of the others.
    pub(super) async fn keep_few(&self, tokens: &Tokens, (user, client): (&UserId, &ClientId), begun: &GrantId) {
        if tokens.refresh_token.is_some()
            && begun.as_str().bytes().fold(0, u8::wrapping_add).is_multiple_of(LOOKS)
            && let Err(error) = self.make_room((user, client), begun).await
        {
            warn!(%error, "it could not be seen how many grants a user has");
        }
    }

    /// Until there are too many, this reads one list, which is short for whoever uses a few applications.
    async fn make_room(&self, (user, client): (&UserId, &ClientId), begun: &GrantId) -> Result<(), TokenError> {
        let first = GrantOfUser::first_of(user);
        let all = self.of_users.some_beginning(&first, MOST_OF_USER + FORGOTTEN).await?;
        // What an earlier release wrote names no client.
        let of_client = |entry: &GrantOfUser| entry.client.as_ref().is_none_or(|known| known == client);
        let crowd: Vec<_> = all.iter().filter(|(_, entry)| of_client(&entry.record)).map(|(key, _)| key).collect();
        let (crowd, most, only) = match (crowd.len() > MOST_AT_CLIENT, all.len() > MOST_OF_USER) {
            (true, _) => (crowd, MOST_AT_CLIENT, Some(client)),
            (false, true) => (all.iter().map(|(key, _)| key).collect(), MOST_OF_USER, None),
            (false, false) => return Ok(()),
        };
        let (mut there, mut writes) = (Vec::new(), Vec::new());
        for key in crowd {
            let Some(id) = key.strip_prefix(&first).map(GrantId::of_key) else { continue };
            match self.table.get(id.as_str()).await? {
                Some(stored) if stored.record.state == GrantState::Live => there.push((id, stored)),
                // Nothing brings it back.
                Some(_) | None => writes.push(self.of_users.delete(key, Expect::Any)),
            }
        }
        writes.truncate(FORGOTTEN);
        there.retain(|(_, stored)| only.is_none_or(|client| stored.record.grant.client_id == *client));
        let ending = if there.len() > most { AT_ONCE } else { 0 };
        there.retain(|(id, _)| id != begun);
        there.sort_by_key(|(_, stored)| stored.version.revision());
        there.truncate(ending);
        writes.extend(self.ends(user, there)?);
        if writes.is_empty() {
            return Ok(());
        }
        match self.table.commit(writes).await {
            // One was used in this moment: another login looks again.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if ending == 0 => {}
            Ok(_) => {
                info!(user = user.as_str(), %client, "a user has more than {most} grants: {ending} have ended");
                let ended = Event::new(Kind::GrantsEnded).user(user).detail(format!("of more than {most}: {ending}"));
                self.audit.note(only.into_iter().fold(ended, Event::client));
                self.crowded.add(ending as u64);
            }
        }
        Ok(())
    }

    /// They stay, so that no code of theirs is good again, and the user has them no more.
    fn ends(&self, user: &UserId, grants: Vec<(GrantId, Stored<StoredGrant>)>) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        for (id, Stored { record, version }) in grants {
            let record = StoredGrant { state: GrantState::Ended, ..record };
            writes.push(self.table.put(id.as_str(), &record, Expect::Version(version))?);
            writes.push(self.of_users.delete(&GrantOfUser::key(user, &id), Expect::Any));
        }
        Ok(writes)
    }

    /// How many grants have ended because their users had too many.
    pub fn crowded_out(&self) -> u64 {
        self.crowded.times()
    }
}
