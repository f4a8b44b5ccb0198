//! Users whose home has taken back its word: disabled there, or removed.
//!
//! Nearly no user has a record. One whom the home disabled has one that counts how often that happened: a login that was
//! completed before is not finished after, whatever its browser still holds. Once the home has removed a user, whoever
//! comes next under the same id is somebody else (ids of database rows are given again): the next incarnation, with
//! subjects, sessions and consents of its own. The records stay for ever, for so do the accounts at relying parties.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::registry::{InstanceId, VerifiedIdentity};
use crate::secret::SecretHash;
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// How often a change is tried again when another one came first.
const TRIES: usize = 8;

/// What is known of users beyond what their homes last said.
#[derive(Clone, Debug)]
pub struct HomeUsers {
    table: Table<HomeUser>,
}

/// A user whose home has taken back its word at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeUser {
    /// Counts the users who had this id, from 0.
    incarnation: u32,
    /// Whether the last of them was removed: the next login is the next one's.
    removed: bool,
    /// How often the home has taken back its word.
    cut_offs: u32,
}

impl Record for HomeUser {
    const TABLE: &'static str = "home_user";
}

/// What a home takes back its word by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The user may not log in, now.
    Disabled,
    /// There is no such user any more.
    Removed,
}

impl Departure {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

/// How often a home has taken back its word of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CutOffs(u32);

impl fmt::Display for CutOffs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user's record, or that there is none, as it was read.
#[derive(Debug)]
pub struct Standing {
    key: String,
    expect: Expect,
    user: HomeUser,
}

impl HomeUsers {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { table: Table::new(store) }
    }

    /// What there is to know of a home's user, by the id that the home knows.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn standing(&self, home: InstanceId, home_user_id: &str) -> Result<Standing, StoreError> {
        let key = key(home, home_user_id);
        let (user, expect) = match self.table.get(&key).await? {
            Some(stored) => (stored.record, Expect::Version(stored.version)),
            None => (HomeUser::default(), Expect::Absent),
        };
        Ok(Standing { key, expect, user })
    }

    /// Notes that a home takes back its word, and says of whom: from this commit on nothing that it said before begins a
    /// session. Whoever was removed stays removed.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn cut_off(
        &self,
        home: InstanceId,
        home_user_id: &str,
        departure: Departure,
    ) -> Result<HomeUser, StoreError> {
        for _ in 0..TRIES {
            let Standing { key, expect, user } = self.standing(home, home_user_id).await?;
            let user = user.cut_off(departure);
            let write = self.table.put(&key, &user, expect)?;
            match self.table.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                done => return done.map(|_| user),
            }
        }
        Err(StoreError::Conflict)
    }

    /// The write that makes a commit rest on nobody having changed this standing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unchanged(&self, standing: &Standing) -> Result<Write, StoreError> {
        match standing.expect {
            Expect::Version(_) | Expect::Held(_) => self.table.put(&standing.key, &standing.user, standing.expect),
            Expect::Absent | Expect::Any => Ok(self.table.delete(&standing.key, standing.expect)),
        }
    }

    /// The write that goes with a login of the next user of an id whose last user was removed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn succession(&self, standing: &Standing) -> Result<Option<Write>, StoreError> {
        let next = || self.table.put(&standing.key, &standing.user.at_login(), standing.expect);
        standing.user.removed.then(next).transpose()
    }
}

impl Standing {
    /// How often the home has taken back its word.
    pub fn cut_offs(&self) -> CutOffs {
        CutOffs(self.user.cut_offs)
    }

    /// As [`HomeUser::current_id`].
    pub fn current_id(&self, home_user_id: &str) -> String {
        self.user.current_id(home_user_id)
    }

    /// The identity of who logs in now.
    pub fn vouched(&self, identity: VerifiedIdentity) -> VerifiedIdentity {
        identity.of_incarnation(self.user.at_login().incarnation)
    }
}

impl HomeUser {
    /// The id of who has the home's id now: what subjects are made of. The home never learns of it.
    pub fn current_id(&self, home_user_id: &str) -> String {
        VerifiedIdentity::id_of(home_user_id, self.incarnation)
    }

    fn cut_off(self, departure: Departure) -> Self {
        let removed = self.removed || departure == Departure::Removed;
        Self { removed, cut_offs: self.cut_offs.saturating_add(1), ..self }
    }

    fn at_login(&self) -> Self {
        let incarnation = self.incarnation.saturating_add(self.removed.into());
        Self { incarnation, removed: false, ..self.clone() }
    }
}

/// An id may hold anything, its hash does not.
fn key(home: InstanceId, home_user_id: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(home.as_bytes()), SecretHash::of(home_user_id).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::World;

    #[tokio::test]
    async fn whoever_gets_the_id_of_a_removed_user_is_somebody_else() {
        let world = World::new().await;
        let (users, home) = (&world.registry.home_users, InstanceId::generate());
        let logs_in = async || {
            let standing = users.standing(home, "7").await.unwrap();
            let writes = users.succession(&standing).unwrap().into_iter().collect();
            world.store.commit(writes).await.unwrap();
            users.standing(home, "7").await.unwrap().current_id("7")
        };
        assert_eq!(logs_in().await, "7");
        users.cut_off(home, "7", Departure::Disabled).await.unwrap();
        assert_eq!(logs_in().await, "7", "who was disabled is who he was when he is enabled again");
        for _ in 0..2 {
            users.cut_off(home, "7", Departure::Removed).await.unwrap();
            assert_eq!(users.standing(home, "7").await.unwrap().current_id("7"), "7", "whose sessions end");
        }
        assert_eq!([logs_in().await, logs_in().await], ["7\u{1f}1", "7\u{1f}1"]);
        let gone = users.cut_off(home, "7", Departure::Removed).await.unwrap();
        assert_eq!(gone.current_id("7"), "7\u{1f}1", "who has it now, whoever had it when somebody looked");
        assert_eq!(logs_in().await, "7\u{1f}2");
        // Another home's user, and another user.
        assert_eq!(users.standing(InstanceId::generate(), "7").await.unwrap().cut_offs(), CutOffs(0));
        assert_eq!(users.standing(home, "8").await.unwrap().cut_offs(), CutOffs(0));
    }

    #[tokio::test]
    async fn a_commit_that_rests_on_a_standing_fails_once_the_home_has_taken_back_its_word() {
        let world = World::new().await;
        let (users, home) = (&world.registry.home_users, InstanceId::generate());
        for _ in 0..2 {
            let standing = users.standing(home, "7").await.unwrap();
            world.store.commit(vec![users.unchanged(&standing).unwrap()]).await.unwrap();
            let standing = users.standing(home, "7").await.unwrap();
            users.cut_off(home, "7", Departure::Disabled).await.unwrap();
            let late = world.store.commit(vec![users.unchanged(&standing).unwrap()]).await;
            assert!(matches!(late, Err(StoreError::Conflict)));
        }
    }
}
