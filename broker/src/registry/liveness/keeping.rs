//! What was heard of agents, to the store and from it.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::brokers::{BrokerId, StoredBroker};
use crate::registry::Liveness;
use crate::registry::liveness::Agents;
use crate::registry::liveness::claims::{Draft, Effect, Known, Place};
use crate::registry::report::AgentReport;
use crate::storage::table::{Table, decode};
use crate::storage::{Expect, MAX_WRITES, Revision, StoreError, Watch, WatchEvent, Write};

/// How long what is to be written waits for more of it.
const GATHER: Duration = Duration::from_millis(200);

/// Pause before the store is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Something to be written of an agent.
struct Unsaved {
    name: InstanceName,
    /// Its report; nothing to delete that.
    report: Option<(AgentReport, Draft)>,
}

impl Liveness {
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
            if let Err(error) = self.write(reports, &batch).await {
                let mut agents = self.lock();
                for Unsaved { name, report } in batch {
                    let set = if report.is_some() { &mut agents.unsaved } else { &mut agents.forgotten };
                    set.insert(name);
                }
                return Err(error);
            }
        }
    }

    /// All in one commit, or each in its own if another broker has changed one of them.
    async fn write(&self, reports: &Table<AgentReport>, batch: &[Unsaved]) -> Result<(), StoreError> {
        let writes = batch.iter().map(|unsaved| unsaved.write(reports)).collect::<Result<Vec<_>, _>>()?;
        match reports.commit(writes).await {
            Ok(revision) => {
                batch.iter().for_each(|unsaved| self.written(unsaved, revision));
                return Ok(());
            }
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
        for unsaved in batch {
            match reports.commit(vec![unsaved.write(reports)?]).await {
                Ok(revision) => self.written(unsaved, revision),
                Err(StoreError::Conflict) => self.read_again(reports, &unsaved.name).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn written(&self, unsaved: &Unsaved, revision: Revision) {
        let Some((_, draft)) = &unsaved.report else { return };
        let mut agents = self.lock();
        let Some(known) = agents.known.get_mut(&unsaved.name) else { return };
        let effect = known.written(*draft, revision, &self.0.brokers);
        self.after(effect, agents, &unsaved.name);
    }

    /// Somebody else wrote in between: another broker has the agent, or the answer to an earlier write got lost.
    async fn read_again(&self, reports: &Table<AgentReport>, name: &InstanceName) -> Result<(), StoreError> {
        let Some(stored) = reports.get(name.as_str()).await? else {
            self.lock().known.remove(name);
            return Ok(());
        };
        self.hear(name, Some(stored.record), stored.version.revision());
        let mut agents = self.lock();
        if agents.known.get(name).is_some_and(|known| known.draft().is_some()) {
            agents.unsaved.insert(name.clone());
        }
        Ok(())
    }

    fn take_unsaved(&self) -> Vec<Unsaved> {
        let mut guard = self.lock();
        let agents = &mut *guard;
        let mut batch: Vec<Unsaved> = Vec::new();
        while batch.len() < MAX_WRITES
            && let Some(name) = agents.forgotten.iter().next().cloned()
        {
            agents.forgotten.remove(&name);
            batch.push(Unsaved { name, report: None });
        }
        while batch.len() < MAX_WRITES
            && let Some(name) = agents.unsaved.iter().next().cloned()
        {
            agents.unsaved.remove(&name);
            batch.extend(draft(agents, name, self.0.brokers.me()));
        }
        batch
    }

    pub(super) async fn keep_saved(self) {
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

    /// Believes what the store has of agents that are not this broker's own.
    pub(super) async fn read_all(&self) -> Result<(), StoreError> {
        let Some(reports) = &self.0.reports else { return Ok(()) };
        let mut there = BTreeMap::new();
        for (name, stored) in reports.all().await? {
            let name: InstanceName = name.parse().map_err(|_| StoreError::Corrupt("agent report"))?;
            there.insert(name, (stored.record, stored.version.revision()));
        }
        self.lock().known.retain(|name, known| matches!(known.place, Place::Here(_)) || there.contains_key(name));
        for (name, (report, revision)) in there {
            self.hear(&name, Some(report), revision);
        }
        Ok(())
    }

    pub(super) async fn follow_reports(self, mut changes: Watch) {
        while let Some(event) = changes.next().await {
            match event {
                WatchEvent::Changed { key, value, revision } => {
                    let Ok(name) = key.id().parse::<InstanceName>() else { continue };
                    match value.map(|value| decode(&value)).transpose() {
                        Ok(report) => self.hear(&name, report, revision),
                        Err(error) => warn!(instance = %name, %error, "what an agent said elsewhere cannot be read"),
                    }
                }
                WatchEvent::Reload => {
                    while let Err(error) = self.read_all().await {
                        warn!(%error, "what agents said elsewhere cannot be read; trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    pub(super) async fn follow_presence(self, mut presence: watch::Receiver<Arc<BTreeMap<BrokerId, StoredBroker>>>) {
        // The sender lives as long as this.
        while presence.changed().await.is_ok() {
            let mut agents = self.lock();
            let changed =
                agents.known.values_mut().filter_map(|known| known.look_who_lives(&self.0.brokers).then_some(()));
            let changed = changed.count();
            drop(agents);
            if changed > 0 {
                info!(agents = changed, "agents of other brokers came or went with those");
                self.tell();
            }
        }
    }

    fn hear(&self, name: &InstanceName, report: Option<AgentReport>, revision: Revision) {
        let mut agents = self.lock();
        let effect = match (agents.known.get_mut(name), report) {
            (Some(known), report) => known.hear(report, revision, &self.0.brokers),
            // What this broker wrote before it forgot the agent.
            (None, Some(report)) if report.broker == Some(self.0.brokers.me()) => Effect::Nothing,
            (None, Some(report)) => {
                let known = Known::of(report, revision, &self.0.brokers);
                let news = if known.sighting.online { Effect::News } else { Effect::Nothing };
                agents.known.insert(name.clone(), known);
                news
            }
            (None, None) => Effect::Nothing,
        };
        self.after(effect, agents, name);
    }

    fn after(&self, effect: Effect, mut agents: MutexGuard<'_, Agents>, name: &InstanceName) {
        if effect == Effect::Forgotten {
            agents.known.remove(name);
        }
        drop(agents);
        if effect != Effect::Nothing {
            self.tell();
        }
    }
}

fn draft(agents: &mut Agents, name: InstanceName, me: BrokerId) -> Option<Unsaved> {
    let known = agents.known.get_mut(&name)?;
    let draft = known.draft()?;
    known.saved = Some(known.sighting.last_seen_at);
    Some(Unsaved { name, report: Some((AgentReport::of(&known.sighting, me), draft)) })
}

impl Unsaved {
    fn write(&self, reports: &Table<AgentReport>) -> Result<Write, StoreError> {
        match &self.report {
            Some((report, draft)) => reports.put(self.name.as_str(), report, draft.expect),
            None => Ok(reports.delete(self.name.as_str(), Expect::Any)),
        }
    }
}
