//! What a broker writes of itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::storage::table::Record;

/// Names one process that is a broker: another one after each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerId(Uuid);

impl BrokerId {
    /// A new one.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for BrokerId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A broker that runs, or did a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBroker {
    /// Of its machine.
    pub name: String,
    /// Of its program.
    pub version: String,
    /// By its own clock.
    pub started_at: Timestamp,
    /// Where it listens for browsers, and for agents.
    #[serde(default)]
    pub addresses: (String, String),
    /// The key-encryption key that it is configured with, and the one before it.
    #[serde(default)]
    pub keys: (String, Option<String>),
    /// What ops are to do about it.
    #[serde(default)]
    pub remark: Option<String>,
    /// Another one with every sign of life.
    pub(super) beat: u64,
}

impl StoredBroker {
    /// This program on a machine of this name, which starts now.
    pub fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now,
            addresses: Default::default(),
            keys: Default::default(),
            remark: None,
            beat: 0,
        }
    }

    /// Whether it says the same of itself as in another sign of life.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        *self == Self { beat: self.beat, ..other.clone() }
    }
}

impl Record for StoredBroker {
    const TABLE: &'static str = "broker";
}

/// Who does what one broker does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDuty {
    pub(super) broker: BrokerId,
}

impl StoredDuty {
    /// There is one duty, which has all that one broker does.
    pub(super) const ALL: &'static str = "all";
}

impl Record for StoredDuty {
    const TABLE: &'static str = "duty";
}
