//! Who is there: what the agents' streams told this broker, in memory. The fleet writes it, the home picker reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;

/// The last that was heard of every agent.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<HashMap<InstanceName, Sighting>>>);

/// The last that was heard of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whether its stream is open.
    pub online: bool,
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
    /// Its last refusal, until it acknowledges something newer.
    pub refusal: String,
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
            last_seen_at: now,
            agent_version: String::new(),
            home_ready: false,
            problem: String::new(),
            applied_revision: 0,
            wanted_revision: 0,
            refusal: String::new(),
        });
        sighting.last_seen_at = now;
        change(sighting);
    }

    /// What is known of an agent.
    pub fn sighting(&self, name: &InstanceName) -> Option<Sighting> {
        self.lock().get(name).cloned()
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
