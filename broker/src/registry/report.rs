//! What was last heard of an agent, as it is stored: what must outlive a restart of the broker, no more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{Acknowledged, Refusal, Resource, Sighting};
use crate::storage::table::Record;

/// What was last heard of an agent, under its instance's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AgentReport {
    acknowledged: Acknowledged,
    refusals: BTreeMap<Resource, Refusal>,
    agent_version: String,
    applied_revision: u64,
    pub(super) last_seen_at: Timestamp,
    /// Whether its stream was open. No broker believes this of itself after a restart; it tells which agents were cut
    /// off by the broker's end, and so were seen later than `last_seen_at` says.
    connected: bool,
}

impl Record for AgentReport {
    const TABLE: &'static str = "agent_report";
}

impl AgentReport {
    /// What of a sighting is stored.
    pub(super) fn of(sighting: &Sighting) -> Self {
        Self {
            acknowledged: sighting.acknowledged.clone(),
            refusals: sighting.refusals.clone(),
            agent_version: sighting.agent_version.clone(),
            applied_revision: sighting.applied_revision,
            last_seen_at: sighting.last_seen_at,
            connected: sighting.online,
        }
    }

    /// The sighting of an agent that is not connected now.
    pub(super) fn into_sighting(self) -> Sighting {
        Sighting {
            acknowledged: self.acknowledged,
            refusals: self.refusals,
            agent_version: self.agent_version,
            applied_revision: self.applied_revision,
            ..Sighting::unheard(self.last_seen_at)
        }
    }
}
