//! Linked homes: a user who has accounts at two homes, and has shown once that both are his.
//!
//! A link has a direction. Where ops allow it (`trust allow --linked`), a login through the *alias* is known by the subject
//! that the *primary* gives; what else is told of the user is the word of the home that he came from. A user is an alias
//! once or a primary of several, never both, so that nobody has to follow a chain.
//!
//! The same link stands in the records of both its users, which change in one commit. Whether it has an effect is asked
//! anew wherever a subject is decided ([`known_as`]): a link is void while one of its homes is cut off, and for good if one
//! was cut off since it was made, for whoever had that home could have linked its users to himself.
//!
//! A link ends in two steps. The first is one commit, by which it is over: whoever asks for it, and all that came in by it
//! asks, finds none. It stands in the records until the sessions of its alias have ended too, so that whoever was
//! interrupted there, or the broker on duty, finds it again.

mod known_as;
mod standing;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{InstanceId, Registry, UserId};
use crate::secret::{SecretError, random};
use crate::storage::table::{Record, Stored, Table};
use crate::storage::{Expect, Store, StoreError, Write};

pub use known_as::{KnownAs, LinkTrust, LinkedTo, UserOfHome};
pub use standing::{HomeStanding, LinkVoid, judge_link};

/// How often a change is tried again when another one came first.
const TRIES: usize = 8;

/// Most aliases of one user.
const MOST_ALIASES: usize = 8;

/// Links that are read in one step by who looks at all of them.
const STEP: usize = 128;

/// Names a link: 22 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(String);

impl LinkId {
    const LENGTH: usize = 22;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<16>()?)))
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LinkId {
    type Err = LinkIdError;

    fn from_str(text: &str) -> Result<Self, LinkIdError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let good = text.len() == Self::LENGTH && text.bytes().all(known);
        good.then(|| Self(text.to_owned())).ok_or(LinkIdError)
    }
}

/// No id of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a link is 22 letters, digits, - and _: see `link list`")]
pub struct LinkIdError;

/// An account at a home, when it was linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedAccount {
    /// The home.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// The id that the user's subjects are made of.
    pub home_user_id: String,
    /// The user, as the broker knows him.
    pub user: UserId,
    /// His login name there, for people.
    pub username: String,
    /// How often the home had been in quarantine when the user began to link.
    pub quarantines: u32,
}

/// That two accounts are one person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Names it.
    pub id: LinkId,
    /// Whose subject counts.
    pub primary: LinkedAccount,
    /// Who is known by it.
    pub alias: LinkedAccount,
    /// When the user said so.
    pub made_at: Timestamp,
    /// Set once it has ended, and what came in by it has not yet.
    #[serde(default)]
    pub is_over: bool,
}

/// The links of a user, under his id as the broker knows him.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLinks {
    links: Vec<Link>,
}

impl Record for UserLinks {
    const TABLE: &'static str = "link";
}

/// All links.
#[derive(Clone, Debug)]
pub struct Links {
    table: Table<UserLinks>,
}

/// A user's link to his primary, if there is one, as it was read.
#[derive(Debug)]
pub struct FoundLink {
    /// The link, if the user is an alias.
    pub link: Option<Link>,
    /// The write that makes a commit rest on nobody having changed it.
    pub unchanged: Write,
}

impl Links {
    /// Those of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { table: Table::new(store) }
    }

    /// All links of a user, on whichever side of them; also those that are over.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<Link>, StoreError> {
        Ok(self.read(user).await?.0.links)
    }

    /// The link by which a user is another home's.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_alias(&self, user: &UserId) -> Result<FoundLink, StoreError> {
        let (record, expect) = self.read(user).await?;
        let link = record.links.into_iter().find(|link| link.alias.user == *user && !link.is_over);
        Ok(FoundLink { link, unchanged: self.table.delete(user.as_str(), held(expect)) })
    }

    /// The writes that make a link real, if both users may have it as they stand.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub async fn make(&self, link: &Link) -> Result<Vec<Write>, LinkError> {
        let (primary, alias) = (&link.primary, &link.alias);
        if primary.home == alias.home || primary.home_id == alias.home_id {
            return Err(LinkError::SameHome);
        }
        let (mut of_primary, expect_primary) = self.read(&primary.user).await?;
        if of_primary.links.iter().any(|known| known.alias.user == primary.user) {
            return Err(LinkError::PrimaryIsAlias);
        }
        if of_primary.links.len() >= MOST_ALIASES {
            return Err(LinkError::TooMany);
        }
        let (of_alias, expect_alias) = self.read(&alias.user).await?;
        if !of_alias.links.is_empty() {
            return Err(LinkError::AliasIsLinked);
        }
        of_primary.links.push(link.clone());
        let of_alias = UserLinks { links: vec![link.clone()] };
        Ok(vec![
            self.table.put(primary.user.as_str(), &of_primary, expect_primary)?,
            self.table.put(alias.user.as_str(), &of_alias, expect_alias)?,
        ])
    }

    /// Ends a link, in one commit; says whether it was there and not over. Once what came in by it has ended too, it is to be
    /// forgotten.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn end(&self, link: &Link) -> Result<bool, StoreError> {
        let end = |links: &mut Vec<Link>| {
            let mut found = links.iter_mut().filter(|known| known.id == link.id);
            found.any(|known| !std::mem::replace(&mut known.is_over, true))
        };
        self.change(link, end).await
    }

    /// Forgets a link with which nothing is left to end.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forget(&self, link: &Link) -> Result<(), StoreError> {
        let forget = |links: &mut Vec<Link>| {
            let before = links.len();
            links.retain(|known| known.id != link.id);
            links.len() < before
        };
        self.change(link, forget).await?;
        Ok(())
    }

    /// A page of the links of all users behind this one, and where the next page begins, if there may be one. A link stands
    /// with its alias here.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<(Vec<Link>, Option<String>), StoreError> {
        let page = self.table.page(after, limit).await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(user, _)| user.clone());
        let of_aliases = page.into_iter().flat_map(|(user, stored)| {
            stored.record.links.into_iter().filter(move |link| link.alias.user.as_str() == user)
        });
        Ok((of_aliases.collect(), next))
    }

    /// The link of this id. Looks at all of them: ops ask seldom.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, id: &LinkId) -> Result<Option<Link>, StoreError> {
        let mut after = None;
        loop {
            let (links, next) = self.page(after.as_deref(), STEP).await?;
            if let Some(found) = links.into_iter().find(|link| link.id == *id) {
                return Ok(Some(found));
            }
            if next.is_none() {
                return Ok(None);
            }
            after = next;
        }
    }

    /// Changes a link with both its users, in one commit; says whether there was anything to change.
    async fn change(&self, link: &Link, change: impl Fn(&mut Vec<Link>) -> bool) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let mut writes = Vec::new();
            for user in [&link.primary.user, &link.alias.user] {
                let (mut record, expect) = self.read(user).await?;
                if change(&mut record.links) {
                    writes.push(self.put(user, &record, expect)?);
                }
            }
            let changes = !writes.is_empty();
            match self.table.commit(writes).await {
                Err(StoreError::Conflict) => {}
                done => return done.map(|_| changes),
            }
        }
        Err(StoreError::Conflict)
    }

    async fn read(&self, user: &UserId) -> Result<(UserLinks, Expect), StoreError> {
        Ok(match self.table.get(user.as_str()).await? {
            Some(Stored { record, version }) => (record, Expect::Version(version)),
            None => (UserLinks::default(), Expect::Absent),
        })
    }

    /// A record without links is none.
    fn put(&self, user: &UserId, record: &UserLinks, expect: Expect) -> Result<Write, StoreError> {
        match record.links.is_empty() {
            true => Ok(self.table.delete(user.as_str(), expect)),
            false => self.table.put(user.as_str(), record, expect),
        }
    }
}

impl Registry {
    /// Forgets the links of homes that are not here any more: whoever comes under their names has other users. Gives those that
    /// are over, and whose aliases may have sessions still.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep_links(&self) -> Result<Vec<Link>, StoreError> {
        let (mut after, is_gone) = (None, |link: &Link| self.snapshot().judge_link(link) == Err(LinkVoid::Gone));
        let mut over = Vec::new();
        loop {
            let (links, next) = self.links.page(after.as_deref(), STEP).await?;
            for link in links.iter().filter(|link| is_gone(link)) {
                // Another broker may know of a home what this one has not heard yet.
                for home in [&link.primary.home, &link.alias.home] {
                    self.catch_up_with(home).await?;
                }
                if is_gone(link) {
                    self.links.forget(link).await?;
                }
            }
            over.extend(links.into_iter().filter(|link| link.is_over));
            if next.is_none() {
                return Ok(over);
            }
            after = next;
        }
    }
}

/// The same, for a commit that changes nothing of it: many logins of one user do not wait for each other.
fn held(expect: Expect) -> Expect {
    match expect {
        Expect::Version(version) | Expect::Held(version) => Expect::Held(version),
        Expect::Absent | Expect::Any => expect,
    }
}

/// Why two accounts cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Two users of one home are two users.
    #[error("both accounts are at the same home")]
    SameHome,
    /// That would be a chain.
    #[error("the account that was to be the primary is linked to another one")]
    PrimaryIsAlias,
    /// It has a primary, or is one.
    #[error("the account that was to be the alias is linked already")]
    AliasIsLinked,
    /// Nobody has so many homes.
    #[error("the account has {MOST_ALIASES} linked homes already")]
    TooMany,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
