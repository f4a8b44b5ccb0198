//! What was heard of one agent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A sign of life alone is written this often at the most: ten thousand agents say that they are there every 30 s.
const SIGN_OF_LIFE: Duration = Duration::from_secs(300);

/// What an agent's desired state consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// What the application logs in at the broker with.
    ClientCredentials,
    /// The JWKS.
    KeySet,
    /// CA certificates to accept.
    TrustBundle,
    /// Homes whose users are accepted.
    Homes,
    /// The CA that the instance's certificate is to be of.
    RenewalOrder,
}

/// What an instance is known to use, by its agent's proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Keys that it can verify with.
    pub key_ids: Vec<String>,
    /// How that is known.
    pub key_set_proof: Option<KeySetProof>,
    /// Version of the trust bundle; 0 for none.
    pub bundle_version: u64,
    /// Version of the client credential; 0 for none.
    pub secret_version: u64,
}

/// How it is known that an instance can verify with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySetProof {
    /// The application names it.
    Shown,
    /// The agent made the application fetch the key set.
    Warmed,
    /// The application keeps none.
    NoCache,
    /// Only time has passed.
    MaxAge,
    /// It verifies nothing.
    NoRelyingParty,
}

/// A resource that an instance could not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// UPPER_SNAKE_CASE.
    pub reason: String,
    /// One sentence for ops.
    pub detail: String,
    /// The version of the resource that was refused.
    pub version: u64,
    /// Since when.
    pub since: Timestamp,
}

/// The last that was heard of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whether its stream is open.
    pub online: bool,
    /// Since when it is; when it last became so if it is not.
    pub connected_at: Timestamp,
    /// When it last said anything.
    pub last_seen_at: Timestamp,
    /// What it calls itself.
    pub agent_version: String,
    /// Whether a login at this home can work.
    pub home_ready: bool,
    /// One sentence, or nothing when all is well.
    pub problem: String,
    /// The revision that the instance uses; 0 for none.
    pub applied_revision: u64,
    /// The revision that it should use; 0 if none was sent.
    pub wanted_revision: u64,
    /// What it could not take, until it does.
    pub refusals: BTreeMap<Resource, Refusal>,
    /// What it is known to use.
    pub acknowledged: Acknowledged,
}

/// Whether a home can be chosen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeStatus {
    /// It can.
    Ready,
    /// Its agent is not connected.
    Offline,
    /// Its agent says that it cannot.
    NotReady,
}

impl Sighting {
    /// Of an agent that this broker has not heard.
    pub(in crate::registry) fn unheard(last_seen_at: Timestamp) -> Self {
        Self {
            online: false,
            connected_at: last_seen_at,
            last_seen_at,
            agent_version: String::new(),
            home_ready: false,
            problem: String::new(),
            applied_revision: 0,
            wanted_revision: 0,
            refusals: BTreeMap::new(),
            acknowledged: Acknowledged::default(),
        }
    }

    /// Whether rotations may have to look again.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        (self.online, &self.acknowledged, &self.refusals) != (before.online, &before.acknowledged, &before.refusals)
    }

    /// Whether the store should know soon.
    pub(super) fn is_to_be_saved_after(&self, before: &Self, saved: Option<Timestamp>) -> bool {
        self.is_news_after(before)
            || (self.applied_revision, &self.agent_version) != (before.applied_revision, &before.agent_version)
            || saved.is_none_or(|saved| self.last_seen_at.since(saved) >= SIGN_OF_LIFE)
    }

    /// Whether other brokers should know soon: what they show to users and to ops, and else nobody needs.
    pub(super) fn is_for_others_after(&self, before: &Self) -> bool {
        (self.home_ready, &self.problem, self.wanted_revision)
            != (before.home_ready, &before.problem, before.wanted_revision)
    }
}
