//! Whose a name is, for ever.
//!
//! Applications find accounts by names (`preferred_username`, `homeward_name`), but inside one home a name is nobody's own:
//! DingTalk's nicknames are everybody's choice, Microsoft's `preferred_username` may change at any time, GitHub gives a
//! login that was given up to the next who asks for it, people are renamed, and whoever comes after a user who was removed
//! may get his name with his id. Applications that compare names without case take `ALICE` for `alice`. So a name is that
//! of the first user who logged in with it, in whatever case, also when he is gone; any other has it respelt, with a piece
//! of his own subject behind it. The records stay for ever, for so do the accounts at relying parties.
//!
//! They are kept under the home's name and not under its id, because it is the home's name that stands in what is told:
//! another installation or provider that gets it has other users.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{InstanceId, SubjectKey, UserId, VerifiedIdentity};
use crate::secret::SecretHash;
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// Who has a name at a home. Under both.
#[derive(Serialize, Deserialize)]
pub struct HeldName {
    user: UserId,
}

impl Record for HeldName {
    const TABLE: &'static str = "held_name";
}

/// All names that anybody has.
#[derive(Clone)]
pub struct HeldNames {
    table: Table<HeldName>,
    known: Table<KnownName>,
    subjects: SubjectKey,
}

impl HeldNames {
    /// With the key that users' ids are made with.
    pub fn new(store: Arc<dyn Store>, subjects: SubjectKey) -> Self {
        Self { table: Table::new(store.clone()), known: Table::new(store), subjects }
    }

    /// The identity, with whether its name is another user's; and the write that goes with its login, if nobody has the
    /// name yet. That fails if somebody gets it in the meantime.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn judge(
        &self,
        (home, home_id): (&InstanceName, InstanceId),
        identity: VerifiedIdentity,
    ) -> Result<(VerifiedIdentity, Option<Write>), StoreError> {
        let user = self.subjects.user(home_id, &identity.home_user_id);
        let name = identity.username.to_lowercase();
        let key = format!("{home}.{}", SecretHash::of(&name).as_str());
        if let Some(stored) = self.table.get(&key).await? {
            return Ok((identity.whose_name_is_held(stored.record.user != user), None));
        }
        let user_before = self.user_before(home, &[&identity.username, &name]).await?;
        let holder = HeldName { user: user_before.unwrap_or_else(|| user.clone()) };
        let write = self.table.put(&key, &holder, Expect::Absent)?;
        Ok((identity.whose_name_is_held(holder.user != user), Some(write)))
    }

    /// Who was known by one of these names last, before names were held: an upgrade gives no name away.
    async fn user_before(&self, home: &InstanceName, names: &[&str]) -> Result<Option<UserId>, StoreError> {
        for name in names {
            if let Some(known) = self.known.get(&KnownName::of(home, name)).await? {
                return Ok(Some(known.record.user));
            }
        }
        Ok(None)
    }
}

/// Who was known at a home by a user name: for ops, who say `alice@alpha`. Under home and name.
#[derive(Clone, Serialize, Deserialize)]
pub struct KnownName {
    /// Who.
    pub user: UserId,
    /// Until when ops may say it.
    pub kept_until: Timestamp,
}

impl KnownName {
    /// How long after the last login.
    pub const KEPT: Duration = Duration::from_secs(400 * 86_400);

    /// Key in the table: a name may hold anything, its hash does not.
    pub fn of(home: &InstanceName, username: &str) -> String {
        format!("{home}.{}", SecretHash::of(username).as_str())
    }
}

impl Record for KnownName {
    const TABLE: &'static str = "login_name";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}
