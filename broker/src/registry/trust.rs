//! Trust edges: which relying party accepts the users of which home, and what that home may vouch for.

use std::fmt;
use std::str::FromStr;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::clock::Timestamp;
use crate::registry::{AccountKeyConflict, Consents, GroupMap, Snapshot, TrustSide, UsernameTemplate};
use crate::secret::{SecretError, random};
use crate::storage::StoreError;
use crate::storage::table::Record;

/// Directed permission: the home releases, the relying party accepts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrustEdge {
    /// Who accepts whom.
    pub id: TrustEdgeId,
    /// Who of the two has consented: without both, nobody is let in. An edge of the first release goes on as it was.
    #[serde(default)]
    pub consents: Consents,
    /// Domains whose addresses this home may call verified for this relying party. A home is an authority for nothing
    /// else: otherwise any home could take over accounts that an application matches by email.
    pub email_domains: Vec<EmailDomain>,
    /// Whether users are asked before the relying party learns anything of them.
    #[serde(default)]
    pub consent: ConsentPolicy,
    /// Whether the relying party may call the home's API in the name of users whom the home knows (RFC 8693): the home's
    /// own, and those of homes that it accepts as a relying party.
    #[serde(default)]
    pub api_access: bool,
    /// How the relying party's name of a user is made. An edge of the first release goes on as it was.
    #[serde(default = "UsernameTemplate::name_at_home")]
    pub username_template: UsernameTemplate,
    /// Which groups the relying party learns of. An edge of the first release goes on as it was.
    #[serde(default = "GroupMap::everything")]
    pub groups: GroupMap,
    /// Which life of the edge this is.
    #[serde(default)]
    pub epoch: TrustEpoch,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Whether a user of the home who has linked his account to one at another home is taken for that one: the home speaks
    /// for users of another home by that. Unset if not; else which life of the permission this is, so that nothing which
    /// died with it comes back when it is given anew.
    #[serde(default)]
    pub linked: Option<TrustEpoch>,
}

impl TrustEdge {
    /// One to which both consent, and that says nothing more: the home is an authority for nothing, and no group is told.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn new(id: TrustEdgeId, now: Timestamp) -> Result<Self, SecretError> {
        Ok(Self {
            id,
            consents: Consents::Both,
            email_domains: Vec::new(),
            consent: ConsentPolicy::None,
            api_access: false,
            username_template: UsernameTemplate::default(),
            groups: GroupMap::default(),
            epoch: TrustEpoch::generate()?,
            updated_at: now,
            linked: None,
        })
    }

    /// Tells the log what was allowed.
    pub(super) fn log(&self) {
        let words = |texts: Vec<String>| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
        info!(
            relying_party = %self.id.relying_party,
            home = %self.id.home,
            domains = words(self.email_domains.iter().map(ToString::to_string).collect()),
            user_name = %self.username_template,
            groups = words(self.groups.mappings().map(|mapping| mapping.to_string()).collect()),
            consent = self.consent.as_str(),
            api = self.api_access,
            missing = self.consents.missing().map_or("none", TrustSide::as_str),
            linked = self.linked.is_some(),
            "trust allowed"
        );
    }

    /// Whether the home is an authority for an email address.
    pub fn vouches_for(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').and_then(|(_, domain)| domain.parse::<EmailDomain>().ok());
        domain.is_some_and(|domain| self.email_domains.contains(&domain))
    }
}

impl Record for TrustEdge {
    const TABLE: &'static str = "registry-trust-edge";
}

/// Which life of an edge it is: one that was taken away and allowed again has another one, so that no token that died
/// with the first comes back with the second. Edges of the first release, and the grants that rest on them, share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustEpoch(u64);

impl TrustEpoch {
    /// Another life.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self(u64::from_be_bytes(random()?)))
    }
}

/// Whether users are asked before a relying party learns anything of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentPolicy {
    /// Ops answer for it.
    #[default]
    None,
    /// Once, and again for anything new.
    FirstTime,
    /// At every login.
    Always,
}

impl ConsentPolicy {
    /// As ops write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FirstTime => "first",
            Self::Always => "always",
        }
    }
}

/// The two ends of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrustEdgeId {
    /// Who accepts.
    pub relying_party: InstanceName,
    /// Whom.
    pub home: InstanceName,
}

impl Snapshot {
    /// Whether an edge can be between these two: one asks for logins, the other vouches.
    ///
    /// # Errors
    /// Which of them does not.
    pub(super) fn check_ends(&self, TrustEdgeId { relying_party, home }: &TrustEdgeId) -> Result<(), TrustError> {
        let find = |name: &InstanceName| self.instance(name).ok_or_else(|| TrustError::UnknownInstance(name.clone()));
        let is_console = self.console().is_some_and(|console| console.name == relying_party);
        let registered = is_console || self.registration(relying_party).is_some();
        if !registered && find(relying_party)?.relying_party.is_none() {
            return Err(TrustError::NoRelyingParty(relying_party.clone()));
        }
        if self.home(home).is_none() {
            find(home)?;
            return Err(TrustError::NoHome(home.clone()));
        }
        Ok(())
    }
}

impl TrustEdgeId {
    /// Key in the table.
    pub fn key(&self) -> String {
        format!("{}.{}", self.relying_party, self.home)
    }
}

/// A domain of email addresses, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmailDomain(String);

impl EmailDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailDomain {
    type Err = EmailDomainError;

    fn from_str(text: &str) -> Result<Self, EmailDomainError> {
        let domain = text.to_ascii_lowercase();
        let label = |label: &str| label.parse::<InstanceName>().is_ok();
        if domain.len() <= 253 && domain.split('.').all(label) { Ok(Self(domain)) } else { Err(EmailDomainError) }
    }
}

impl fmt::Display for EmailDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an email domain is a DNS name such as alpha.example.org, without @")]
pub struct EmailDomainError;

/// Why an edge is refused.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not enrolled.
    #[error(
        "there is no instance {0}: enrol it first, or, without agent, `upstream add` a home or `registration open` a \
             relying party"
    )]
    UnknownInstance(InstanceName),
    /// It never asks for logins.
    #[error("{0} is not a relying party: its agent has no [relying_party]")]
    NoRelyingParty(InstanceName),
    /// It vouches for nobody.
    #[error("{0} is not a home: its agent has no [home]")]
    NoHome(InstanceName),
    /// Nobody allowed it.
    #[error("{} does not accept users of {}: there is nothing to take away", .0.relying_party, .0.home)]
    NoEdge(TrustEdgeId),
    /// The home has not consented.
    #[error("{} does not release its users to {}: there is nothing to take away", .0.home, .0.relying_party)]
    NotReleased(TrustEdgeId),
    /// Two users would be one at the relying party.
    #[error(transparent)]
    AccountKey(#[from] AccountKeyConflict),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_an_authority_for_its_domains_only() {
        let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "alpha".parse().unwrap() };
        let email_domains = vec!["Alpha.example".parse().unwrap()];
        let edge = TrustEdge { email_domains, ..TrustEdge::new(id, Timestamp::from_secs(0)).unwrap() };
        assert!(edge.vouches_for("alice@alpha.example") && edge.vouches_for("alice@ALPHA.example"));
        for other in [
            "alice@beta.example",
            "alice@sub.alpha.example",
            "alice@alpha.example@beta.example",
            "alice@alpha.example.",
            "alice@alpha.example\0",
            "alpha.example",
            "",
        ] {
            assert!(!edge.vouches_for(other), "{other:?}");
        }
    }

    #[test]
    fn an_edge_of_the_first_release_goes_on_as_it_was() {
        let stored = r#"{"id": {"relying_party": "beta", "home": "alpha"}, "email_domains": [], "updated_at": 0}"#;
        let edge: TrustEdge = serde_json::from_str(stored).unwrap();
        assert_eq!(edge.username_template.to_string(), "{username}");
        assert!(edge.is_in_force());
        assert_eq!((edge.groups, edge.epoch), (GroupMap::everything(), TrustEpoch::default()));
    }
}
