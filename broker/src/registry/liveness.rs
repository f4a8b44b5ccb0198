//! Who is there: what the agents' streams told this broker, in memory. The fleet writes it, the home picker reads it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Timestamp;

/// The last that was heard of every agent.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    sightings: Mutex<HashMap<InstanceName, Sighting>>,
    acknowledgements: watch::Sender<u64>,
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeStatus {
    /// It can.
    Ready,
    /// Its agent is not connected.
    Offline,
    /// Its agent says that it cannot.
    NotReady,
}

impl Liveness {
    /// Changes what is known of an agent.
    pub fn update(&self, name: &InstanceName, change: impl FnOnce(&mut Sighting), now: Timestamp) {
        let mut sightings = self.lock();
        let sighting = sightings.entry(name.clone()).or_insert_with(|| Sighting {
            online: false,
            connected_at: now,
            last_seen_at: now,
            agent_version: String::new(),
            home_ready: false,
            problem: String::new(),
            applied_revision: 0,
            wanted_revision: 0,
            refusals: BTreeMap::new(),
            acknowledged: Acknowledged::default(),
        });
        sighting.last_seen_at = now;
        let (before, refused) = (sighting.acknowledged.clone(), sighting.refusals.len());
        let was_online = sighting.online;
        change(sighting);
        if sighting.online && !was_online {
            sighting.connected_at = now;
        }
        let news = before != sighting.acknowledged || refused != sighting.refusals.len();
        drop(sightings);
        if news {
            self.0.acknowledgements.send_modify(|count| *count += 1);
        }
    }

    /// Wakes whenever an agent has acknowledged or refused something.
    pub fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.0.acknowledgements.subscribe()
    }

    /// What is known of an agent.
    pub fn sighting(&self, name: &InstanceName) -> Option<Sighting> {
        self.lock().get(name).cloned()
    }

    /// What is known of every agent, in no order.
    pub fn sightings(&self) -> HashMap<InstanceName, Sighting> {
        self.lock().clone()
    }

    /// Whether a home can be chosen now.
    pub fn home_status(&self, name: &InstanceName) -> HomeStatus {
        match self.lock().get(name) {
            Some(sighting) if sighting.online && sighting.home_ready => HomeStatus::Ready,
            Some(sighting) if sighting.online => HomeStatus::NotReady,
            _ => HomeStatus::Offline,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceName, Sighting>> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
