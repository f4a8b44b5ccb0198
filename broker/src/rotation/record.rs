//! A rotation as it is stored: what turns, where it is, and why it stands still if it does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::SigningAlgorithm;
use crate::storage::table::Record;

/// How long ops can read how a rotation ended.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A rotation as it is stored, under its subject: there is at most one of a subject at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRotation {
    /// Tells this rotation from earlier ones of the same subject.
    pub id: Uuid,
    /// What turns.
    pub subject: RotationSubject,
    /// Where it is.
    pub phase: Phase,
    /// When it began.
    pub began_at: Timestamp,
    /// Since when it is in this phase.
    pub phase_at: Timestamp,
    /// Since when its gate waits: the same, until ops let it wait anew.
    pub armed_at: Timestamp,
    /// Who began it: `uid=0`, or `schedule`.
    pub creator: String,
    /// How urgent it is.
    pub urgency: Urgency,
    /// Set while it waits for ops.
    pub paused: Option<Pause>,
    /// Instances that it went on without.
    #[serde(default)]
    pub left_behind: Vec<InstanceName>,
    /// How it ended, or what ops should know of it: one sentence.
    #[serde(default)]
    pub remark: String,
}

impl Record for StoredRotation {
    const TABLE: &'static str = "rotation";

    fn expires_at(&self) -> Option<Timestamp> {
        self.phase.is_end().then(|| self.phase_at + KEPT)
    }
}

/// What turns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RotationSubject {
    /// The signing keys of one algorithm.
    Keys(SigningAlgorithm),
    /// The client credential of one instance.
    Secret(InstanceName),
    /// The CA.
    Authority,
}

impl RotationSubject {
    /// Key in the table.
    pub fn key(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

impl fmt::Display for RotationSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(algorithm) => write!(f, "keys/{}", algorithm.as_str()),
            Self::Secret(instance) => write!(f, "secret/{instance}"),
            Self::Authority => f.write_str("ca"),
        }
    }
}

impl FromStr for RotationSubject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.split_once('/') {
            None if text == "ca" => Ok(Self::Authority),
            Some(("keys", "RS256")) => Ok(Self::Keys(SigningAlgorithm::Rs256)),
            Some(("keys", "ES256")) => Ok(Self::Keys(SigningAlgorithm::Es256)),
            Some(("secret", name)) => name.parse().map(Self::Secret).map_err(|_| SubjectError),
            _ => Err(SubjectError),
        }
    }
}

impl TryFrom<String> for RotationSubject {
    type Error = SubjectError;

    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<RotationSubject> for String {
    fn from(subject: RotationSubject) -> Self {
        subject.to_string()
    }
}

/// Nothing that turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what turns is called keys/RS256, keys/ES256, secret/<instance> or ca")]
pub struct SubjectError;

/// Where a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Keys: the next one is in the JWKS and signs nothing.
    Published,
    /// Keys: the next one signs; the one before stays in the JWKS for the tokens that it signed.
    Active,
    /// Client credential: two are good, and the agent is to bring its application to the new one.
    Offered,
    /// CA: the next one is trusted and signs nothing.
    Prepared,
    /// CA: the next one signs instances; brokers still show the old one's leaf.
    ClientsActivated,
    /// CA: brokers show a leaf of the next one.
    ServersActivated,
    /// CA: the old one signs again; the next one is trusted until nobody has a certificate of it.
    RollingBack,
    /// It is done.
    Done,
    /// It was taken back.
    RolledBack,
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }

    /// As ops read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Active => "active",
            Self::Offered => "offered",
            Self::Prepared => "prepared",
            Self::ClientsActivated => "clients activated",
            Self::ServersActivated => "servers activated",
            Self::RollingBack => "rolling back",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
        }
    }
}

/// How urgent a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Nobody is cut off.
    Planned,
    /// Somebody else knows the old value: it is given up at once.
    Compromised,
}

/// Why a rotation waits for ops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// One sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_as_they_are_written() {
        for text in ["keys/RS256", "keys/ES256", "secret/beta", "ca"] {
            assert_eq!(text.parse::<RotationSubject>().unwrap().to_string(), text);
        }
        for text in ["", "keys", "keys/HS256", "secret/", "secret/Beta", "ca/", "secret/a/b"] {
            assert!(text.parse::<RotationSubject>().is_err(), "{text}");
        }
    }
}
