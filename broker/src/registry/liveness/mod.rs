//! Who is there: what the agents' streams told the brokers. The fleet writes it; the home picker, ops and the gates of
//! rotations read it.
//!
//! It lives in memory. What should outlive a restart (what an agent acknowledged and refused, when it was last seen), and
//! what other brokers need to know of it, is written to the store in the background, many agents in one commit
//! ([`report`](super::report)): losing the last moments of it costs nothing, because each agent says in its Hello what it
//! uses. Every broker follows what the others write.
//!
//! An agent is online if this broker has its stream, or a broker that lives says that it has it. A broker that has a new
//! stream *claims* the agent: it writes the report whatever stands there. Of two claims the later in the order of the store
//! counts; whoever sees that his is the earlier one ends his stream ([`Claim::lost`]), and writes nothing more, because
//! everything but a claim expects the report to be as this broker left it.

mod claims;
mod keeping;
mod sighting;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homeward_certs::identity::InstanceName;
use tokio::sync::{Notify, watch};

use crate::brokers::{BrokerId, Brokers};
use crate::clock::Timestamp;
use crate::registry::report::AgentReport;
use crate::storage::table::Table;
use crate::storage::{Store, StoreError};

pub use claims::Claim;
pub use sighting::{Acknowledged, HomeStatus, KeySetProof, Refusal, Resource, Sighting};

use claims::{Known, Place};

/// The last that was heard of every agent.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    brokers: Brokers,
    agents: Mutex<Agents>,
    news: watch::Sender<u64>,
    unsaved: Notify,
    /// Without it, everything stays in memory.
    reports: Option<Table<AgentReport>>,
}

#[derive(Debug, Default)]
struct Agents {
    known: HashMap<InstanceName, Known>,
    /// Whose report in the store is out of date.
    unsaved: HashSet<InstanceName>,
    /// Whose report is to be deleted.
    forgotten: HashSet<InstanceName>,
    /// Counts the claims of this broker.
    claims: u64,
}

impl Liveness {
    /// Loads what was heard before, and by others. The future writes what is heard from now on and follows what others
    /// write; it must be run.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(
        store: Arc<dyn Store>,
        brokers: Brokers,
    ) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let reports = Table::<AgentReport>::new(store);
        // Begun before the table is read, so that no change falls between.
        let changes = reports.watch().await?;
        let presence = brokers.changes();
        let heard = Heard { brokers, reports: Some(reports), ..Heard::default() };
        let liveness = Self(Arc::new(heard));
        liveness.read_all().await?;
        let keep = liveness.clone();
        let keep = async move {
            tokio::join!(
                keep.clone().keep_saved(),
                keep.clone().follow_reports(changes),
                keep.follow_presence(presence)
            );
        };
        Ok((liveness, keep))
    }

    /// An agent has opened a stream at this broker, and said this. An older stream of it has lost its claim.
    pub fn claim(&self, name: &InstanceName, change: impl FnOnce(&mut Sighting), now: Timestamp) -> Claim {
        let mut agents = self.lock();
        agents.claims += 1;
        let id = agents.claims;
        let known = agents.known.entry(name.clone()).or_insert_with(|| Known::unheard(now));
        let claim = known.claim(id);
        let seen = |sighting: &mut Sighting| {
            sighting.last_seen_at = now;
            change(sighting);
        };
        // Whatever was known of it: the other brokers are to hear of the claim.
        agents.unsaved.insert(name.clone());
        agents.forgotten.remove(name);
        self.0.unsaved.notify_one();
        self.change(agents, name, seen);
        claim
    }

    /// Changes what is known of an agent, if the claim still counts: the last words of a stream that was lost, or of an
    /// agent that was forgotten, change nothing.
    pub fn amend(&self, name: &InstanceName, claim: &Claim, change: impl FnOnce(&mut Sighting)) {
        let agents = self.lock();
        if agents.known.get(name).is_some_and(|known| known.is_claimed_by(claim)) {
            self.change(agents, name, change);
        }
    }

    fn change(&self, mut agents: MutexGuard<'_, Agents>, name: &InstanceName, change: impl FnOnce(&mut Sighting)) {
        let Some(known) = agents.known.get_mut(name) else { return };
        let before = known.sighting.clone();
        let mut after = Sighting::clone(&before);
        change(&mut after);
        if after.online && !before.online {
            after.connected_at = after.last_seen_at;
        }
        let news = after.is_news_after(&before);
        let save = after.is_to_be_saved_after(&before, known.saved)
            || (after.is_for_others_after(&before) && self.0.brokers.has_company());
        known.sighting = Arc::new(after);
        if save && agents.unsaved.insert(name.clone()) {
            self.0.unsaved.notify_one();
        }
        drop(agents);
        if news {
            self.tell();
        }
    }

    fn tell(&self) {
        self.0.news.send_modify(|count| *count += 1);
    }

    /// Forgets an agent whose instance was evicted.
    pub fn forget(&self, name: &InstanceName) {
        let mut agents = self.lock();
        agents.known.remove(name);
        agents.forgotten.insert(name.clone());
        drop(agents);
        self.0.unsaved.notify_one();
        self.tell();
    }

    /// Wakes whenever an agent has acknowledged or refused something, has come or gone.
    pub fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// What is known of an agent.
    pub fn sighting(&self, name: &InstanceName) -> Option<Sighting> {
        self.lock().known.get(name).map(|known| Sighting::clone(&known.sighting))
    }

    /// What is known of all agents, in no order.
    pub fn sightings(&self) -> Vec<(InstanceName, Arc<Sighting>)> {
        self.lock().known.iter().map(|(name, known)| (name.clone(), known.sighting.clone())).collect()
    }

    /// Which other broker has an agent's stream, if one that lives has.
    pub fn held_elsewhere(&self, name: &InstanceName) -> Option<BrokerId> {
        let agents = self.lock();
        let known = agents.known.get(name).filter(|known| known.sighting.online)?;
        match known.place {
            Place::Elsewhere { broker, .. } => Some(broker),
            Place::Here(_) | Place::Nowhere => None,
        }
    }

    /// How many agents are connected to which broker.
    pub fn agents_by_broker(&self) -> BTreeMap<BrokerId, u32> {
        let (me, mut count) = (self.0.brokers.me(), BTreeMap::new());
        for known in self.lock().known.values().filter(|known| known.sighting.online) {
            let broker = match known.place {
                Place::Elsewhere { broker, .. } => broker,
                Place::Here(_) | Place::Nowhere => me,
            };
            *count.entry(broker).or_default() += 1;
        }
        count
    }

    /// Whether a home can be chosen now.
    pub fn home_status(&self, name: &InstanceName) -> HomeStatus {
        match self.lock().known.get(name).map(|known| &known.sighting) {
            Some(sighting) if sighting.online && sighting.home_ready => HomeStatus::Ready,
            Some(sighting) if sighting.online => HomeStatus::NotReady,
            _ => HomeStatus::Offline,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Agents> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Liveness {
    /// An agent of this broker said this.
    pub(crate) fn update(&self, name: &InstanceName, change: impl FnOnce(&mut Sighting), now: Timestamp) {
        drop(self.claim(name, change, now));
    }
}
