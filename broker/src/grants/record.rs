//! What a grant is, and what the store keeps of it: one record from the moment its code is redeemed.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::Lifetimes;
use crate::grants::binding::Binding;
use crate::grants::sealed::Serial;
use crate::registry::{
    ClaimsRequest, ClientId, InstanceId, LinkTrust, LinkedTo, Scopes, SessionId, Snapshot, Subject, TransactionId,
    TrustEpoch, UserId, VerifiedIdentity,
};
use crate::secret::{SecretError, random};
use crate::storage::table::Record;

/// How much longer than anything of it a record is kept, so that a clock that is set back revives no code.
pub(super) const KEPT_BEHIND_END: Duration = Duration::from_secs(3600);

/// What a login gives a relying party.
#[derive(Clone, Serialize, Deserialize)]
pub struct Grant {
    /// Who holds it, as OAuth knows it.
    pub client_id: ClientId,
    /// Who holds it, as we know it.
    pub relying_party: InstanceName,
    /// Who vouched.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// The login that it came of, to which its audit and its trace belong; unset by earlier releases.
    #[serde(default)]
    pub login: Option<TransactionId>,
    /// For whom, as the broker knows him.
    pub user: UserId,
    /// For whom, as the relying party knows him.
    pub subject: Subject,
    /// The session that it came of.
    pub session: SessionId,
    /// The life of the trust edge that it rests on.
    #[serde(default)]
    pub trust: TrustEpoch,
    /// Set once tokens are made, if it outlives the session (OpenID Connect Core 11): what the home said of the user. A
    /// code does not carry it: it travels in an address, and a user may be in a hundred groups.
    pub offline: Option<Box<VerifiedIdentity>>,
    /// What was granted.
    pub scopes: Scopes,
    /// What was asked for one by one.
    pub claims: ClaimsRequest,
    /// Whom its access tokens may be for, beside this broker (RFC 8707).
    pub resources: Vec<String>,
    /// Goes into the ID token.
    pub nonce: Option<String>,
    /// When the user last proved who they are.
    pub auth_time: Option<Timestamp>,
    /// To what class that belongs, in the home's words.
    pub acr: Option<String>,
    /// How.
    pub amr: Vec<String>,
    /// The account that the user is linked to, if that has an effect anywhere: an API may know him by it where the relying
    /// party does not.
    #[serde(default)]
    pub link: Option<LinkedTo>,
    /// Set if the relying party knows him by it: what that rests on.
    #[serde(default)]
    pub by_link: Option<LinkTrust>,
}

impl Grant {
    /// Whether relying party and home are still what they were to each other when the grant was made.
    pub fn is_trusted(&self, snapshot: &Snapshot) -> bool {
        let client = snapshot.client(self.client_id.as_str()).is_some();
        let vouching = snapshot.vouching(&self.relying_party, &self.home, self.home_id);
        client && vouching.is_some_and(|(_, edge)| edge.epoch == self.trust) && self.is_who_he_was(snapshot)
    }

    /// Whether the relying party takes the user for the same one still: also who was taken for himself may be another one by
    /// his link now.
    fn is_who_he_was(&self, snapshot: &Snapshot) -> bool {
        self.followed(self.link.as_ref(), snapshot) == self.by_link
    }

    /// Whether it matters what link the user has now.
    pub(super) fn asks_for_link(&self, snapshot: &Snapshot) -> bool {
        let edge = snapshot.edge(&self.relying_party, &self.home);
        self.link.is_some() || edge.is_some_and(|edge| edge.linked.is_some())
    }

    /// Whether the link that the user has now, if any, leaves him who he was: the very link that he, or the user of an API, is
    /// known by; or none that is followed.
    pub(super) fn goes_with(&self, link: Option<&LinkedTo>, snapshot: &Snapshot) -> bool {
        let counts = |known: &&LinkedTo| snapshot.may_follow_link((&self.home, self.home_id), known);
        match self.link.as_ref().filter(counts) {
            Some(own) => link == Some(own),
            None => self.followed(link, snapshot).is_none(),
        }
    }

    fn followed(&self, link: Option<&LinkedTo>, snapshot: &Snapshot) -> Option<LinkTrust> {
        snapshot.follows_link(&self.relying_party, (&self.home, self.home_id), link?)
    }
}

/// Names a grant: 22 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<16>()?)))
    }

    /// As it stands in a key of the store.
    pub(super) fn of_key(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A grant whose code was redeemed, under its id. That the record is there is what makes a code single-use.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredGrant {
    /// What was granted.
    pub grant: Grant,
    /// Whether its tokens are good.
    pub(super) state: GrantState,
    /// Set if there are refresh tokens of it.
    pub(super) family: Option<Family>,
    /// Access tokens that were revoked one by one.
    pub(super) revoked: Vec<Serial>,
    /// Until when it is kept.
    pub(super) kept_until: Timestamp,
}

/// The refresh tokens of one grant: one of them is good, and all that came before it give a thief away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Family {
    /// Of the one that is good.
    pub(super) generation: u32,
    /// When the first was issued.
    pub(super) began_at: Timestamp,
    /// When the last one ends, whatever happens: by the lifetime of when it began. One that is made longer is for families
    /// that begin later, because what else knows of this one is kept until then. Unset by earlier releases.
    #[serde(default)]
    pub(super) ends_by: Option<Timestamp>,
    /// When one was last used, as far as that was written.
    pub(super) used_at: Timestamp,
    /// Who may use them. A client that authenticates is bound by that; a public one is by its key (RFC 9449 5).
    pub(super) binding: Binding,
}

impl Family {
    /// When its refresh tokens end, unless one is used before. Judged by the lifetimes of today: they may have been made
    /// shorter since.
    pub(super) fn end(&self, lifetimes: &Lifetimes) -> Timestamp {
        let end = (self.began_at + lifetimes.refresh_token).min(self.used_at + lifetimes.refresh_token_idle);
        self.ends_by.map_or(end, |by| end.min(by))
    }
}

/// That a grant that outlives its session is a user's: under both.
#[derive(Clone, Serialize, Deserialize)]
pub struct GrantOfUser {
    pub(super) kept_until: Timestamp,
    /// Who holds it; unset if a broker of an earlier release wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<ClientId>,
}

impl GrantOfUser {
    pub(super) fn key(user: &UserId, id: &GrantId) -> String {
        format!("{}{id}", Self::first_of(user))
    }

    /// What the keys of a user begin with.
    pub(super) fn first_of(user: &UserId) -> String {
        format!("{}.", user.as_str())
    }
}

impl Record for GrantOfUser {
    const TABLE: &'static str = "user_grant";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

/// An access token of a client's own that was revoked, under its serial: it has no grant that could know.
#[derive(Clone, Serialize, Deserialize)]
pub struct RevokedToken {
    pub(super) kept_until: Timestamp,
}

impl Record for RevokedToken {
    const TABLE: &'static str = "revoked_token";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

/// Whether a grant's tokens are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantState {
    /// They are.
    Live,
    /// Revoked, or a code or refresh token of it was used twice. Kept, so that no code of it is good again.
    Ended,
}

impl Record for StoredGrant {
    const TABLE: &'static str = "grant";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}
