//! The chain: each record has the hash of the one before it. No file, no store, no clock.
//!
//! A record is a line of JSON. Its hash is SHA-256 over exactly its bytes, without the newline; its member `prev` is the
//! hash of the record before it, and so the hash covers all of them. The first one follows 64 zeros. `sha256sum` is enough
//! to check it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest line of a record, in bytes: all its fields are bounded.
pub(super) const LONGEST: usize = 64 * 1024;

/// Names one chain: what one broker has written into one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ChainId(Uuid);

impl ChainId {
    /// A new one.
    pub(super) fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for ChainId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Of a line, without its newline.
    pub(super) fn of(line: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, line).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    /// 64 lower-case digits: one hash has one text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err("a hash has 64 digits");
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or("a hash is lower-case hexadecimal")?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The end of a chain: what the next record follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// Number of the last record; 0 before the first.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: Digest,
}

impl Link {
    /// Before the first record.
    pub(super) const FIRST: Self = Self { seq: 0, hash: Digest([0; 32]) };

    /// The end after this line, if it is the next record of the chain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn follow(&self, chain: ChainId, line: &[u8]) -> Result<Self, Break> {
        let read: Linked = serde_json::from_slice(line).map_err(|_| Break::Unreadable)?;
        if read.chain != chain {
            return Err(Break::OtherChain(read.chain));
        }
        if read.seq != self.seq.saturating_add(1) {
            return Err(Break::Number { expected: self.seq.saturating_add(1), found: read.seq });
        }
        if read.prev != self.hash {
            return Err(Break::Hash(self.seq));
        }
        Ok(Self { seq: read.seq, hash: Digest::of(line) })
    }

    /// The end after this line, whatever is before it: where reading goes on behind a break.
    pub(super) fn resume(line: &[u8]) -> Option<Self> {
        let read: Linked = serde_json::from_slice(line).ok()?;
        Some(Self { seq: read.seq, hash: Digest::of(line) })
    }
}

/// What the chain rests on, of a line.
#[derive(Deserialize)]
struct Linked {
    seq: u64,
    prev: Digest,
    chain: ChainId,
}

/// Why a line is not the next record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Break {
    /// Not one of ours.
    #[error("is no record")]
    Unreadable,
    /// Put here from elsewhere.
    #[error("is of another chain, {0}")]
    OtherChain(ChainId),
    /// Removed, repeated or put elsewhere.
    #[error("is record {found} where record {expected} has to be: records were removed, repeated or moved")]
    Number {
        /// The next one.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The one before it is not as it was.
    #[error("does not follow from the record before it: record {0} was edited, or this one")]
    Hash(u64),
}
