//! What the store keeps of sessions.

use std::collections::{BTreeMap, BTreeSet};

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{
    ClientId, InstanceId, LinkTrust, LinkedTo, SessionId, Snapshot, Subject, TrustEpoch, UserId, UserOfHome,
    VerifiedIdentity,
};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// One browser, signed in: under its id.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Who vouched.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// For whom, as the broker knows him.
    pub user: UserId,
    /// For whom.
    pub identity: VerifiedIdentity,
    /// The cookie's secret; none if another user has signed in in the same browser since.
    pub(super) secret: Option<SecretHash>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ends, whatever happens: by the lifetime of when it began. One that is made longer is for sessions that begin
    /// later, because what else knows of this one is kept until then. Unset by earlier releases.
    #[serde(default)]
    pub(super) ends_by: Option<Timestamp>,
    /// The last login that it was used for, as far as that was written.
    pub last_login_at: Timestamp,
    /// When nobody can sign on with it any more.
    pub expires_at: Timestamp,
    /// Until when its tokens may live.
    pub(super) kept_until: Timestamp,
    /// The clients that were entered with it: whom its end has to reach.
    pub opened: BTreeMap<ClientId, Opened>,
}

impl Session {
    /// Whether a browser can have it still: another user's login takes its cookie away.
    pub fn has_browser(&self) -> bool {
        self.secret.is_some()
    }

    /// Whom it is of, by the home's word.
    pub fn person(&self) -> UserOfHome<'_> {
        UserOfHome { home: &self.home, home_id: self.home_id, home_user_id: &self.identity.home_user_id }
    }
}

impl Record for Session {
    const TABLE: &'static str = "session";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

/// What a session opened at a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The relying party.
    pub relying_party: InstanceName,
    /// The user as it knows him.
    pub subject: Subject,
    /// The name by which it knows him; none if it is told none, or a broker of the first release wrote this.
    #[serde(default)]
    pub username: Option<String>,
    /// The life of the trust edge that it was entered by.
    #[serde(default)]
    pub trust: TrustEpoch,
    /// When it was entered first.
    pub since: Timestamp,
    /// The account that the user is linked to, if that has an effect anywhere, and what it rests on that the subject is its, if
    /// it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<(LinkedTo, Option<LinkTrust>)>,
    /// The claims that it has been told of the user in this session, by name; unset if a broker of an earlier release wrote
    /// this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<BTreeSet<String>>,
}

impl Opened {
    /// The same, when this was there before: what was told once stays told, however little is asked for later.
    pub(super) fn behind(self, earlier: Option<&Self>) -> Self {
        let known = earlier.and_then(|earlier| earlier.released.as_ref());
        let released = match (self.released, known) {
            (Some(released), Some(known)) => Some(&released | known),
            (released, known) => released.or_else(|| known.cloned()),
        };
        Self { released, ..self }
    }

    /// Whether the relying party accepts this home's users no more, or does so anew, or the user is not the one any more whom
    /// it took him for.
    pub(super) fn is_closed(&self, home: (&InstanceName, InstanceId), snapshot: &Snapshot) -> bool {
        let denied = snapshot.edge(&self.relying_party, home.0).is_none_or(|edge| edge.epoch != self.trust);
        let another = |(link, by_link): &(LinkedTo, Option<LinkTrust>)| {
            snapshot.follows_link(&self.relying_party, home, link) != *by_link
        };
        denied || self.link.as_ref().is_some_and(another)
    }
}

/// That a session is a user's: under both.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionOfUser {
    pub(super) kept_until: Timestamp,
}

impl SessionOfUser {
    pub(super) fn key(user: &UserId, id: &SessionId) -> String {
        format!("{}{id}", Self::first_of(user))
    }

    /// What the keys of a user begin with.
    pub(super) fn first_of(user: &UserId) -> String {
        format!("{}.", user.as_str())
    }
}

impl Record for SessionOfUser {
    const TABLE: &'static str = "user_session";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}
