//! What was last heard of an agent, as it is stored: what must outlive a restart of the broker, and what other brokers
//! need to know of an agent that is not theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::brokers::BrokerId;
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
    /// Whether its stream was open. Nobody believes this of a broker that is gone.
    pub(super) connected: bool,
    /// Who has, or had, its stream. A broker of the first release said nothing from here on.
    #[serde(default)]
    pub(super) broker: Option<BrokerId>,
    #[serde(default)]
    connected_at: Option<Timestamp>,
    #[serde(default)]
    home_ready: bool,
    #[serde(default)]
    problem: String,
    #[serde(default)]
    wanted_revision: u64,
}

impl Record for AgentReport {
    const TABLE: &'static str = "agent_report";
}

impl AgentReport {
    /// What of a sighting is stored by the broker that has the stream.
    pub(super) fn of(sighting: &Sighting, broker: BrokerId) -> Self {
        Self {
            acknowledged: sighting.acknowledged.clone(),
            refusals: sighting.refusals.clone(),
            agent_version: sighting.agent_version.clone(),
            applied_revision: sighting.applied_revision,
            last_seen_at: sighting.last_seen_at,
            connected: sighting.online,
            broker: Some(broker),
            connected_at: Some(sighting.connected_at),
            home_ready: sighting.home_ready,
            problem: sighting.problem.clone(),
            wanted_revision: sighting.wanted_revision,
        }
    }

    /// The sighting of an agent that is not connected to this broker, and perhaps to no other.
    pub(super) fn into_sighting(self) -> Sighting {
        Sighting {
            acknowledged: self.acknowledged,
            refusals: self.refusals,
            agent_version: self.agent_version,
            applied_revision: self.applied_revision,
            connected_at: self.connected_at.unwrap_or(self.last_seen_at),
            home_ready: self.home_ready,
            problem: self.problem,
            wanted_revision: self.wanted_revision,
            ..Sighting::unheard(self.last_seen_at)
        }
    }
}
