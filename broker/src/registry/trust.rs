//! Trust edges: which relying party accepts the users of which home, and what that home may vouch for.

use std::fmt;
use std::str::FromStr;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::storage::StoreError;
use crate::storage::table::Record;

/// Directed permission: the home releases, the relying party accepts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrustEdge {
    /// Who accepts whom.
    pub id: TrustEdgeId,
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
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl TrustEdge {
    /// Whether the home is an authority for an email address.
    pub fn vouches_for(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').and_then(|(_, domain)| domain.parse::<EmailDomain>().ok());
        domain.is_some_and(|domain| self.email_domains.contains(&domain))
    }
}

impl Record for TrustEdge {
    const TABLE: &'static str = "registry-trust-edge";
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

/// The two ends of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrustEdgeId {
    /// Who accepts.
    pub relying_party: InstanceName,
    /// Whom.
    pub home: InstanceName,
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
    #[error("there is no instance {0}: enrol it first")]
    UnknownInstance(InstanceName),
    /// It never asks for logins.
    #[error("{0} is not a relying party: its agent has no [relying_party]")]
    NoRelyingParty(InstanceName),
    /// It vouches for nobody.
    #[error("{0} is not a home: its agent has no [home]")]
    NoHome(InstanceName),
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
        let edge = TrustEdge {
            id,
            email_domains,
            consent: ConsentPolicy::None,
            api_access: false,
            updated_at: Timestamp::from_secs(0),
        };
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
}
