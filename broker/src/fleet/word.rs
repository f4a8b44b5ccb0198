//! What an agent says, and what it changes in what is known of it.

use crate::clock::Timestamp;
use crate::registry::{KeySetProof, Refusal, Resource, Sighting};

/// Most keys that an instance is believed to know: a key set has a handful.
const MAX_KEY_IDS: usize = 32;

/// Longest `kid` that is believed, in bytes.
const MAX_KEY_ID: usize = 64;

/// What an agent says of itself.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether a login at this home can work.
    pub home_ready: bool,
    /// One sentence, or nothing.
    pub problem: String,
}

/// How an agent introduces itself.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The revision that the instance uses; 0 for none.
    pub applied_revision: u64,
    /// What it calls itself.
    pub agent_version: String,
    /// How it is.
    pub report: Report,
    /// The resources that the instance uses, with their versions.
    pub resources: Vec<(Resource, u64)>,
    /// The keys that it can verify with.
    pub proof: Option<KnownKeys>,
}

/// The keys that an instance can verify with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKeys {
    /// The `kid` of each.
    pub key_ids: Vec<String>,
    /// How that is known.
    pub method: KeySetProof,
}

/// What an agent says later.
#[derive(Clone, Debug)]
pub enum Word {
    /// The instance uses this.
    Ack(Acknowledgement),
    /// The instance could not take this.
    Nack(Nack),
    /// Still here.
    Heartbeat(Report),
}

/// The instance uses resources of a revision.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// The revision.
    pub revision: u64,
    /// Which; all of the revision if empty.
    pub resources: Vec<(Resource, u64)>,
    /// With the key set.
    pub proof: Option<KnownKeys>,
}

/// The instance could not take something.
#[derive(Clone, Debug)]
pub struct Nack {
    /// The revision that it came with.
    pub revision: u64,
    /// Which resource; the whole revision if unset.
    pub resource: Option<(Resource, u64)>,
    /// UPPER_SNAKE_CASE.
    pub reason: String,
    /// One sentence for ops.
    pub detail: String,
}

impl Report {
    pub(super) fn note(self, sighting: &mut Sighting) {
        sighting.home_ready = self.home_ready;
        sighting.problem = self.problem;
    }
}

impl KnownKeys {
    /// Only keys that the broker publishes count: nothing that an agent makes up can open a gate or fill the store.
    pub(super) fn note(self, published: &[String], sighting: &mut Sighting) {
        let told = self.key_ids.into_iter().take(MAX_KEY_IDS);
        let mut key_ids: Vec<_> = told.filter(|kid| kid.len() <= MAX_KEY_ID && published.contains(kid)).collect();
        key_ids.sort_unstable();
        key_ids.dedup();
        sighting.acknowledged.key_ids = key_ids;
        sighting.acknowledged.key_set_proof = Some(self.method);
    }
}

impl Nack {
    /// Notes the refusal of one resource; says whether it is a new one. One that is said again stands since it was first
    /// said.
    pub(super) fn note(&self, resource: Resource, version: u64, now: Timestamp, sighting: &mut Sighting) -> bool {
        let before = sighting.refusals.get(&resource);
        let repeated = before.filter(|before| before.reason == self.reason && before.version == version);
        let (since, unheard) = (repeated.map_or(now, |before| before.since), repeated.is_none());
        let refusal = Refusal { reason: self.reason.clone(), detail: self.detail.clone(), version, since };
        sighting.refusals.insert(resource, refusal);
        unheard
    }
}
