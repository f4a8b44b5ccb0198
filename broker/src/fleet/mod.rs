//! The fleet: what each agent should have, has, and said.
//!
//! An agent holds one stream. [`Fleet::connect`] opens it with the agent's Hello; [`Connection::next`] says what to send
//! it: a [`Desired`] state whenever that differs from what it has, or the end. What the agent says back goes to
//! [`Connection::heard`] and stands in [`Liveness`] for ops and for the home picker.
//!
//! Invariants: a quarantined instance's stream ends with the registry change that quarantines it; of one agent's streams
//! only the newest lives; nothing is queued for a slow agent but the latest state.

mod desired;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homeward_certs::bundle::TrustBundle;
use homeward_certs::identity::InstanceName;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::Issuer;
use crate::keys::KeySet;
use crate::registry::{Liveness, Refusal, Registry, Resource, Snapshot};
use crate::secret::{KeyEncryptionKey, SecretError};

pub use desired::{Credentials, Desired, HomeEntry};

/// An agent that says nothing for so long is gone: three heartbeats.
pub const SILENCE: Duration = Duration::from_secs(110);

/// Over how long agents spread their reconnects, at the least.
const MIN_SPREAD: Duration = Duration::from_secs(1);

/// Reconnects a second that a broker takes without strain.
const RECONNECTS_PER_SECOND: u64 = 500;

/// All agents.
#[derive(Debug)]
pub struct Fleet {
    registry: Registry,
    liveness: Liveness,
    shared: Shared,
    newest: Mutex<HashMap<InstanceName, Newest>>,
    next_stream: AtomicU64,
    clock: Clock,
}

/// What is the same for all agents.
#[derive(Debug)]
pub struct Shared {
    /// For the application's configuration.
    pub issuer: Issuer,
    /// Its JWKS goes to every agent.
    pub keys: KeySet,
    /// What agents must trust.
    pub bundle: TrustBundle,
    /// Opens client secrets for their owners.
    pub kek: Arc<KeyEncryptionKey>,
}

/// The newest stream of an agent, and what it should have.
#[derive(Debug)]
struct Newest {
    stream: watch::Sender<u64>,
    desired: Option<Arc<Desired>>,
}

/// What an agent said of itself.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether a login at this home can work.
    pub home_ready: bool,
    /// One sentence, or nothing.
    pub problem: String,
}

/// What an agent said.
#[derive(Clone, Debug)]
pub enum Word {
    /// The instance uses this revision.
    Ack(u64),
    /// The instance could not take this revision.
    Nack {
        /// Which.
        revision: u64,
        /// `REASON: sentence`.
        reason: String,
    },
    /// Still here.
    Heartbeat(Report),
}

/// What to do with an agent's stream.
#[derive(Clone, Debug)]
pub enum Next {
    /// Send this.
    Send(Arc<Desired>),
    /// End the stream.
    End(EndReason),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The instance is cut off.
    Quarantined,
    /// The instance is no longer known.
    Unknown,
    /// The agent opened another stream.
    Superseded,
}

impl Fleet {
    /// Nobody is there yet.
    pub fn new(registry: Registry, liveness: Liveness, shared: Shared, clock: Clock) -> Self {
        Self { registry, liveness, shared, newest: Mutex::default(), next_stream: AtomicU64::new(1), clock }
    }

    /// An agent opened a stream and said what it has. An older stream of it ends.
    pub fn connect(
        self: &Arc<Self>,
        name: InstanceName,
        applied_revision: u64,
        version: String,
        report: Report,
    ) -> Connection {
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let newest = {
            let mut all = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let entry =
                all.entry(name.clone()).or_insert_with(|| Newest { stream: watch::Sender::new(stream), desired: None });
            entry.stream.send_replace(stream);
            entry.stream.subscribe()
        };
        info!(instance = %name, version, applied_revision, "agent connected");
        let update = |sighting: &mut crate::registry::Sighting| {
            sighting.online = true;
            sighting.agent_version = version;
            sighting.home_ready = report.home_ready;
            sighting.problem = report.problem;
            sighting.applied_revision = applied_revision;
        };
        self.liveness.update(&name, update, self.clock.now());
        let mut changes = self.registry.changes();
        // The first look is at the registry as it is.
        changes.mark_changed();
        Connection { fleet: self.clone(), name, stream, newest, changes, told: applied_revision }
    }

    /// Over how long an agent should spread its reconnect.
    pub fn retry_spread(&self) -> Duration {
        let agents = self.registry.snapshot().instances().count() as u64;
        MIN_SPREAD.max(Duration::from_secs(agents / RECONNECTS_PER_SECOND))
    }

    /// What is known of every agent.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// What an agent should have by this picture of the registry. Keeps its revision while its content stays the same,
    /// so that a change that concerns others wakes nobody.
    fn desired(&self, name: &InstanceName, snapshot: &Snapshot) -> Result<Option<Arc<Desired>>, SecretError> {
        let Some(instance) = snapshot.instance(name) else { return Ok(None) };
        let fresh = Desired::of(instance, snapshot, &self.shared)?;
        let mut all = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = all.get_mut(name) else { return Ok(None) };
        let desired = match &entry.desired {
            Some(known) if known.has_content_of(&fresh) => known.clone(),
            _ => Arc::new(fresh),
        };
        entry.desired = Some(desired.clone());
        Ok(Some(desired))
    }
}

/// One agent's stream.
#[derive(Debug)]
pub struct Connection {
    fleet: Arc<Fleet>,
    name: InstanceName,
    stream: u64,
    newest: watch::Receiver<u64>,
    changes: watch::Receiver<Arc<Snapshot>>,
    /// The revision that the agent has or was sent last.
    told: u64,
}

impl Connection {
    /// Waits for something to tell the agent. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            tokio::select! {
                biased;
                superseded = self.newest.wait_for(|newest| *newest != self.stream) => {
                    drop(superseded);
                    return Next::End(EndReason::Superseded);
                }
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Next::End(EndReason::Superseded);
                    }
                }
            }
            let snapshot = self.changes.borrow_and_update().clone();
            match snapshot.instance(&self.name) {
                None => return Next::End(EndReason::Unknown),
                Some(instance) if !instance.is_active() => return Next::End(EndReason::Quarantined),
                Some(_) => {}
            }
            match self.fleet.desired(&self.name, &snapshot) {
                Ok(Some(desired)) if desired.revision != self.told => {
                    self.told = desired.revision;
                    let wanted = desired.revision;
                    self.update(|sighting| sighting.wanted_revision = wanted);
                    return Next::Send(desired);
                }
                Ok(Some(desired)) => self.update(|sighting| sighting.wanted_revision = desired.revision),
                Ok(None) => {}
                Err(error) => warn!(instance = %self.name, %error, "an agent's state cannot be put together"),
            }
        }
    }

    /// Notes what the agent said.
    pub fn heard(&self, word: Word) {
        match word {
            Word::Ack(revision) => {
                info!(instance = %self.name, revision, "revision acknowledged");
                self.update(|sighting| {
                    sighting.applied_revision = revision;
                    sighting.refusals.clear();
                });
            }
            Word::Nack { revision, reason } => {
                warn!(instance = %self.name, revision, reason, "revision refused");
                let since = self.now();
                let (reason, detail) = reason.split_once(": ").unwrap_or((&reason, ""));
                let refusal = Refusal { reason: reason.into(), detail: detail.into(), version: revision, since };
                self.update(|sighting| drop(sighting.refusals.insert(Resource::ClientCredentials, refusal)));
            }
            Word::Heartbeat(report) => self.update(|sighting| {
                sighting.home_ready = report.home_ready;
                sighting.problem = report.problem;
            }),
        }
    }

    fn update(&self, change: impl FnOnce(&mut crate::registry::Sighting)) {
        self.fleet.liveness.update(&self.name, change, self.now());
    }

    fn now(&self) -> Timestamp {
        self.fleet.clock.now()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if *self.newest.borrow() == self.stream {
            info!(instance = %self.name, "agent disconnected");
            self.update(|sighting| sighting.online = false);
        }
    }
}
