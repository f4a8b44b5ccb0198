//! What the store keeps of the chains: their ends, and where their days begin. Whoever can write the files, and not the
//! store, can take nothing away and change nothing that is found here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::chain::{ChainId, Link};
use crate::clock::Timestamp;
use crate::storage::table::Record;

/// A day in UTC: the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Day(String);

impl Day {
    /// That a moment is in.
    pub(super) fn of(at: Timestamp) -> Self {
        Self(at.to_string().chars().take(10).collect())
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if shape && text.len() == 10 { Ok(Self(text.to_owned())) } else { Err("a day is written as 2026-11-22") }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The newest record of a chain that is on the disk for certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredHead {
    /// What the machine of its broker calls itself.
    pub(super) host: String,
    /// The record.
    pub(super) link: Link,
    /// The file that it is in.
    pub(super) day: Day,
    /// Where the file goes on behind it.
    pub(super) length: u64,
    /// When this was written.
    pub(super) at: Timestamp,
}

impl Record for StoredHead {
    const TABLE: &'static str = "audit_head";
}

/// How the file of a day begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDay {
    /// What its first record follows.
    pub(super) before: Link,
}

impl Record for StoredDay {
    const TABLE: &'static str = "audit_day";
}

impl StoredDay {
    /// Its key in the table.
    pub(super) fn key(chain: ChainId, day: &Day) -> String {
        format!("{chain}.{day}")
    }

    /// What the keys of a chain begin with.
    pub(super) fn keys(chain: ChainId) -> String {
        format!("{chain}.")
    }
}
