//! One agent's stream: what the agent has, what it should have, and the difference.

use std::sync::Arc;

use homeward_certs::identity::InstanceName;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::fleet::own::{self, Credentials, HomeEntry};
use crate::fleet::shared::{Shared, SharedState};
use crate::fleet::versions::Versions;
use crate::fleet::word::{Acknowledgement, Hello, KnownKeys, Nack, Word};
use crate::fleet::{Fleet, Seat};
use crate::registry::{Acknowledged, Claim, Instance, Resource, Sighting, Snapshot};

/// One agent's stream.
#[derive(Debug)]
pub struct Connection {
    fleet: Arc<Fleet>,
    name: InstanceName,
    /// The key of the identity that opened it. A name that was given a new identity has another one.
    recovery_key: String,
    stream: u64,
    seat: watch::Receiver<Seat>,
    /// That the agent is this broker's; unset if it may have no stream.
    claim: Option<Claim>,
    shared: watch::Receiver<Arc<Shared>>,
    /// Its own resources, with the revision at which they last changed: looked up again when it was touched.
    own: (u64, Versions),
    /// What it has, or was sent.
    told: Versions,
    /// The revision that it was sent last.
    told_revision: u64,
    /// What it said is in use.
    in_use: Versions,
    /// Whether it can be sent differences. An agent of the first release never names a resource and knows snapshots
    /// only; any other does so in its Hello, or at the latest when it acknowledges its first snapshot.
    knows_resources: bool,
    /// Whether it was sent anything on this stream. The first message says how wide to spread a reconnect, even if it
    /// says nothing else: an agent that has just started knows no better than its own default.
    greeted: bool,
}

/// What to do with an agent's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for the [`Update`] when it can be sent.
    Send,
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
    /// The agent opened another stream, here or at another broker.
    Superseded,
}

/// What an agent is sent.
#[derive(Debug)]
pub struct Update {
    /// The store's revision at which what this agent should have last changed.
    pub revision: u64,
    /// Whether it is all that the agent should have.
    pub contents: Contents,
    /// The resources that it brings.
    pub versions: Vec<(Resource, u64)>,
    /// Set if it brings client credentials.
    pub credentials: Option<Credentials>,
    /// The home directory, if it brings that.
    pub homes: Vec<HomeEntry>,
    /// Where the other resources are.
    pub shared: Arc<SharedState>,
}

/// What an update is to the agent's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// All of it.
    Everything,
    /// What has changed, and these, which it should no longer have.
    Changes(Vec<Resource>),
}

impl Connection {
    pub(super) fn open(
        fleet: Arc<Fleet>,
        instance: &Instance,
        stream: u64,
        seat: watch::Receiver<Seat>,
        hello: Hello,
    ) -> Self {
        let uses = Versions::of(&hello.resources);
        let mut connection = Self {
            shared: fleet.shared.subscribe(),
            fleet,
            name: instance.name.clone(),
            recovery_key: instance.recovery_key.clone(),
            stream,
            seat,
            claim: None,
            own: (0, Versions::default()),
            told: uses,
            told_revision: 0,
            in_use: uses,
            knows_resources: !uses.is_empty(),
            greeted: false,
        };
        // Whether the stream may live is judged by `next`, which looks at the registry first of all.
        connection.seat.mark_changed();
        let snapshot = connection.fleet.registry.snapshot();
        if connection.look(&snapshot).is_ok() {
            info!(instance = %connection.name, version = hello.agent_version, "agent connected");
            connection.claim = Some(connection.greet(hello, &snapshot));
        }
        connection
    }

    /// What the agent says that it uses takes the place of all that was known: its machine may have been restored.
    fn greet(&self, hello: Hello, snapshot: &Snapshot) -> Claim {
        let update = |sighting: &mut Sighting| {
            sighting.online = true;
            sighting.agent_version = hello.agent_version;
            sighting.applied_revision = hello.applied_revision;
            sighting.acknowledged = Acknowledged::default();
            hello.report.note(sighting);
            self.note_in_use(&hello.resources, hello.proof, snapshot, sighting);
        };
        self.fleet.liveness.claim(&self.name, update, self.fleet.clock.now())
    }

    /// Waits until there may be something to send, or the stream has to end. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            tokio::select! {
                biased;
                touched = self.seat.changed() => {
                    if touched.is_err() || self.seat.borrow().stream != self.stream {
                        return Next::End(EndReason::Superseded);
                    }
                    if let Err(reason) = self.look(&self.fleet.registry.snapshot()) {
                        return Next::End(reason);
                    }
                }
                () = lost(self.claim.as_ref()) => {
                    // Of an instance that was evicted, that is the reason.
                    let reason = self.look(&self.fleet.registry.snapshot()).err();
                    return Next::End(reason.unwrap_or(EndReason::Superseded));
                }
                // The fleet, which holds the other end, outlives its connections.
                Ok(()) = self.shared.changed() => {}
            }
            self.settle();
            if !self.greeted || self.wanted(&self.shared.borrow()) != self.told {
                return Next::Send;
            }
        }
    }

    /// What the agent should be sent now, if anything.
    pub fn update(&mut self) -> Option<Update> {
        // The versions that are sent are those of the contents beside them. An instance that may have no stream any more
        // has been touched: `next` ends it.
        let snapshot = self.fleet.registry.snapshot();
        self.look(&snapshot).ok()?;
        let shared = self.shared.borrow().clone();
        let mut wanted = self.wanted(&shared);
        let scope = if self.knows_resources { self.told } else { Versions::default() };
        let credentials = wanted.beyond(&scope).get(Resource::ClientCredentials).map(|_| self.credentials(&snapshot));
        if let Some(None) = credentials {
            if !self.knows_resources {
                // A snapshot without credentials would take them from the application.
                return None;
            }
            // The other resources reach the agent all the same.
            wanted.set(Resource::ClientCredentials, self.told.get(Resource::ClientCredentials));
        }
        if std::mem::replace(&mut self.greeted, true) && wanted == self.told {
            return None;
        }
        let changed = wanted.beyond(&scope);
        let removed = self.told.missing_in(&wanted);
        removed.iter().for_each(|resource| self.in_use.set(*resource, None));
        let homes = changed.get(Resource::Homes).map(|_| own::homes(&self.name, &snapshot));
        (self.told, self.told_revision) = (wanted, self.revision(&shared));
        Some(Update {
            revision: self.told_revision,
            contents: if self.knows_resources { Contents::Changes(removed) } else { Contents::Everything },
            versions: changed.entries().collect(),
            credentials: credentials.flatten(),
            homes: homes.unwrap_or_default(),
            shared: shared.state.clone(),
        })
    }

    /// Notes what the agent said.
    pub fn heard(&mut self, word: Word) {
        match word {
            Word::Ack(ack) => self.acknowledged(ack),
            Word::Nack(nack) => self.refused(&nack),
            Word::Heartbeat(report) => self.amend(|sighting| report.note(sighting)),
        }
    }

    fn acknowledged(&mut self, ack: Acknowledgement) {
        self.knows_resources |= !ack.resources.is_empty();
        let resources = if ack.resources.is_empty() && ack.revision == self.told_revision {
            self.told.entries().collect()
        } else {
            ack.resources
        };
        for (resource, version) in &resources {
            self.in_use.set(*resource, Some(*version));
        }
        let snapshot = self.fleet.registry.snapshot();
        self.amend(|sighting| self.note_in_use(&resources, ack.proof, &snapshot, sighting));
        self.settle();
    }

    fn refused(&mut self, nack: &Nack) {
        self.knows_resources |= nack.resource.is_some();
        let refused = nack.resource.map_or_else(|| self.told.beyond(&self.in_use), |refused| Versions::of(&[refused]));
        let (now, mut unheard) = (self.fleet.clock.now(), Vec::new());
        self.amend(|sighting| {
            unheard =
                refused.entries().filter(|(resource, version)| nack.note(*resource, *version, now, sighting)).collect();
        });
        let Nack { revision, reason, detail, .. } = nack;
        for (resource, _) in unheard {
            warn!(instance = %self.name, revision, ?resource, reason, detail, "an instance could not take a resource");
        }
    }

    /// Notes resources that the instance uses.
    fn note_in_use(
        &self,
        resources: &[(Resource, u64)],
        proof: Option<KnownKeys>,
        snapshot: &Snapshot,
        sighting: &mut Sighting,
    ) {
        let shared = self.shared.borrow().clone();
        let wanted = self.wanted(&shared);
        if let Some(proof) = proof {
            proof.note(&shared.state.key_ids, sighting);
        }
        for (resource, version) in resources {
            if wanted.get(*resource) == Some(*version) {
                sighting.refusals.remove(resource);
            }
            match resource {
                // A version that does not exist yet is no reason to retire anything.
                Resource::TrustBundle if *version <= shared.state.bundle.version => {
                    sighting.acknowledged.bundle_version = *version;
                }
                Resource::ClientCredentials => {
                    let instance = snapshot.instance(&self.name);
                    let issuer = &self.fleet.terms.issuer;
                    if let Some(meant) = instance.and_then(|it| own::secret_version(it, issuer, *version)) {
                        sighting.acknowledged.secret_version = meant;
                    }
                }
                Resource::KeySet | Resource::TrustBundle | Resource::Homes | Resource::RenewalOrder => {}
            }
        }
    }

    /// Looks at the agent's own part of the registry.
    fn look(&mut self, snapshot: &Snapshot) -> Result<(), EndReason> {
        let instance = snapshot.instance(&self.name).ok_or(EndReason::Unknown)?;
        // The certificate was judged when the call came: whoever had it and waited with his Hello, or was not woken in the
        // moment between two identities, must not be sent what is the next one's.
        if instance.recovery_key != self.recovery_key {
            return Err(EndReason::Unknown);
        }
        if !instance.is_active() {
            return Err(EndReason::Quarantined);
        }
        self.own = (snapshot.told_at(&self.name), own::versions(instance, snapshot, &self.fleet.terms.issuer));
        Ok(())
    }

    /// What the agent should have.
    fn wanted(&self, shared: &Shared) -> Versions {
        let mut wanted = self.own.1;
        for (resource, version) in shared.versions.entries() {
            wanted.set(resource, Some(version));
        }
        wanted
    }

    fn revision(&self, shared: &Shared) -> u64 {
        self.own.0.max(shared.state.revision)
    }

    /// Notes which revision the agent should use, and whether it does.
    fn settle(&self) {
        let shared = self.shared.borrow().clone();
        let wanted_revision = self.revision(&shared);
        let settled = self.wanted(&shared).beyond(&self.in_use).is_empty();
        let (mut applied, Some(claim)) = (false, &self.claim) else { return };
        self.fleet.liveness.amend(&self.name, claim, |sighting| {
            sighting.wanted_revision = wanted_revision;
            applied = settled && sighting.applied_revision != wanted_revision;
            if applied {
                sighting.applied_revision = wanted_revision;
            }
        });
        if applied {
            info!(instance = %self.name, revision = wanted_revision, "revision in use");
        }
    }

    /// The credentials, or nothing when they cannot be opened.
    fn credentials(&self, snapshot: &Snapshot) -> Option<Credentials> {
        let party = snapshot.instance(&self.name)?.relying_party.as_ref()?;
        let credentials = Credentials::wanted(party, &self.fleet.terms.issuer, &self.fleet.terms.sealing);
        credentials
            .inspect_err(|error| warn!(instance = %self.name, %error, "client credentials cannot be put together"))
            .ok()
    }

    /// Notes what the agent said, and that it said something.
    fn amend(&self, change: impl FnOnce(&mut Sighting)) {
        let (now, Some(claim)) = (self.fleet.clock.now(), &self.claim) else { return };
        self.fleet.liveness.amend(&self.name, claim, |sighting| {
            sighting.last_seen_at = now;
            change(sighting);
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.fleet.leave(&self.name, self.stream, || {
            info!(instance = %self.name, "agent disconnected");
            self.amend(|sighting| sighting.online = false);
        });
    }
}

async fn lost(claim: Option<&Claim>) {
    match claim {
        Some(claim) => claim.lost().await,
        None => std::future::pending().await,
    }
}
