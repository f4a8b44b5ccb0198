//! Who is there: what the agents' streams told this broker. The fleet writes it; the home picker, ops and the gates of
//! rotations read it.
//!
//! It lives in memory. What should outlive a restart (what an agent acknowledged and refused, when it was last seen) is
//! written to the store in the background, many agents in one commit ([`report`](super::report)): losing the last moments
//! of it costs nothing, because each agent says in its Hello what it uses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::clock::Timestamp;
use crate::registry::report::AgentReport;
use crate::storage::table::Table;
use crate::storage::{Expect, MAX_WRITES, Store, StoreError};

/// A sign of life alone is written this often at the most: ten thousand agents say that they are there every 30 s.
const SIGN_OF_LIFE: Duration = Duration::from_secs(300);

/// How long what is to be written waits for more of it.
const GATHER: Duration = Duration::from_millis(200);

/// Pause before the store is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The last that was heard of every agent.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    agents: Mutex<Agents>,
    news: watch::Sender<u64>,
    unsaved: Notify,
    /// Without it, everything stays in memory.
    reports: Option<Table<AgentReport>>,
}

#[derive(Debug, Default)]
struct Agents {
    known: HashMap<InstanceName, Known>,
    /// Whose report in the store is out of date, or to be deleted.
    unsaved: HashSet<InstanceName>,
}

#[derive(Debug)]
struct Known {
    sighting: Arc<Sighting>,
    /// The last sign of life in the store.
    saved: Option<Timestamp>,
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
    pub(super) fn unheard(last_seen_at: Timestamp) -> Self {
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
    fn is_news_after(&self, before: &Self) -> bool {
        (self.online, &self.acknowledged, &self.refusals) != (before.online, &before.acknowledged, &before.refusals)
    }

    /// Whether the store should know soon.
    fn is_to_be_saved_after(&self, before: &Self, saved: Option<Timestamp>) -> bool {
        self.is_news_after(before)
            || (self.applied_revision, &self.agent_version) != (before.applied_revision, &before.agent_version)
            || saved.is_none_or(|saved| self.last_seen_at.since(saved) >= SIGN_OF_LIFE)
    }
}

impl Liveness {
    /// Loads what was heard before this broker started. The future writes what is heard from now on, and must be run.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let reports = Table::<AgentReport>::new(store);
        let mut agents = Agents::default();
        for (name, stored) in reports.all().await? {
            let name = name.parse().map_err(|_| StoreError::Corrupt("agent report"))?;
            let saved = Some(stored.record.last_seen_at);
            let sighting = stored.record.into_sighting();
            agents.known.insert(name, Known { sighting: Arc::new(sighting), saved });
        }
        let heard = Heard { agents: Mutex::new(agents), reports: Some(reports), ..Heard::default() };
        let liveness = Self(Arc::new(heard));
        Ok((liveness.clone(), liveness.keep_saved()))
    }

    /// Changes what is known of an agent, who becomes known by it.
    pub fn update(&self, name: &InstanceName, change: impl FnOnce(&mut Sighting), now: Timestamp) {
        let mut agents = self.lock();
        let unheard = || Known { sighting: Arc::new(Sighting::unheard(now)), saved: None };
        agents.known.entry(name.clone()).or_insert_with(unheard);
        let seen = |sighting: &mut Sighting| {
            sighting.last_seen_at = now;
            change(sighting);
        };
        self.change(agents, name, seen);
    }

    /// Changes what is known of an agent, if it is known: the last words of one that was forgotten make nobody remember.
    pub fn amend(&self, name: &InstanceName, change: impl FnOnce(&mut Sighting)) {
        self.change(self.lock(), name, change);
    }

    fn change(&self, mut agents: MutexGuard<'_, Agents>, name: &InstanceName, change: impl FnOnce(&mut Sighting)) {
        let Some(known) = agents.known.get_mut(name) else { return };
        let before = known.sighting.clone();
        let mut after = Sighting::clone(&before);
        change(&mut after);
        if after.online && !before.online {
            after.connected_at = after.last_seen_at;
        }
        let (news, save) = (after.is_news_after(&before), after.is_to_be_saved_after(&before, known.saved));
        known.sighting = Arc::new(after);
        if save && agents.unsaved.insert(name.clone()) {
            self.0.unsaved.notify_one();
        }
        drop(agents);
        if news {
            self.0.news.send_modify(|count| *count += 1);
        }
    }

    /// Forgets an agent whose instance was evicted.
    pub fn forget(&self, name: &InstanceName) {
        let mut agents = self.lock();
        agents.known.remove(name);
        agents.unsaved.insert(name.clone());
        drop(agents);
        self.0.unsaved.notify_one();
        self.0.news.send_modify(|count| *count += 1);
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

    /// Whether a home can be chosen now.
    pub fn home_status(&self, name: &InstanceName) -> HomeStatus {
        match self.lock().known.get(name).map(|known| &known.sighting) {
            Some(sighting) if sighting.online && sighting.home_ready => HomeStatus::Ready,
            Some(sighting) if sighting.online => HomeStatus::NotReady,
            _ => HomeStatus::Offline,
        }
    }

    /// Writes all that the store does not know yet.
    ///
    /// # Errors
    /// When the store does not answer; then it is still to be written.
    pub async fn save(&self) -> Result<(), StoreError> {
        let Some(reports) = &self.0.reports else { return Ok(()) };
        loop {
            let batch = self.take_unsaved();
            if batch.is_empty() {
                return Ok(());
            }
            let writes = batch.iter().map(|(name, sighting)| match sighting {
                Some(sighting) => reports.put(name.as_str(), &AgentReport::of(sighting), Expect::Any),
                None => Ok(reports.delete(name.as_str(), Expect::Any)),
            });
            let written = match writes.collect() {
                Ok(writes) => reports.commit(writes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                self.lock().unsaved.extend(batch.into_iter().map(|(name, _)| name));
                return Err(error);
            }
        }
    }

    fn take_unsaved(&self) -> Vec<(InstanceName, Option<Arc<Sighting>>)> {
        let mut guard = self.lock();
        let agents = &mut *guard;
        let names: Vec<_> = agents.unsaved.iter().take(MAX_WRITES).cloned().collect();
        let take = |name: InstanceName| {
            agents.unsaved.remove(&name);
            let known = agents.known.get_mut(&name);
            let sighting = known.map(|known| {
                known.saved = Some(known.sighting.last_seen_at);
                known.sighting.clone()
            });
            (name, sighting)
        };
        names.into_iter().map(take).collect()
    }

    async fn keep_saved(self) {
        loop {
            self.0.unsaved.notified().await;
            tokio::time::sleep(GATHER).await;
            if let Err(error) = self.save().await {
                warn!(%error, "what agents said could not be stored; trying again");
                tokio::time::sleep(RETRY).await;
                self.0.unsaved.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Agents> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
