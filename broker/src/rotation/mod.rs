//! Rotation: signing keys, client credentials and the CA are turned by one gated mechanism.
//!
//! A rotation is a record: what turns, in which phase it is, since when. Between two phases stands a `gate`: nothing
//! starts to be *used* before those who must understand it have acknowledged it, nothing is *retired* while somebody still
//! needs it. What was acknowledged comes from the agents' proofs, as [`Liveness`] has it.
//!
//! | subject | phases |
//! |---|---|
//! | `keys/RS256`, `keys/ES256` | published → active → done: `keys.rs` |
//! | `secret/<instance>` | offered → done: `secret.rs` |
//! | `ca` | prepared → clients activated → servers activated → done: `ca.rs` |
//!
//! [`Rotations::run`] looks at every running rotation whenever an agent has acknowledged something, wherever that is
//! connected, or a rotation was begun, by whichever broker, and once a second. What begins by itself is only what
//! `schedule` has shown as planned. Of several brokers the one on duty does it; the others follow the plan, because they
//! tell caches when the published keys change.
//!
//! Invariants: every move is one commit that expects the record, and all that it changes, to be as it was judged, so that
//! of two brokers one moves and the other looks again; a gate that fails pauses the rotation (that of a client secret
//! ends) and tells ops, it never opens silently.

mod ca;
mod error;
mod gate;
mod keys;
mod record;
mod rotator;
mod schedule;
mod secret;
mod status;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::audit::{Audit, Event, Kind};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::config::{Current, RotationPolicy};
use crate::foundations::Foundations;
use crate::keys::StoredKey;
use crate::registry::{Liveness, Registry, Sighting};
use crate::secret::SealingKeys;
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, StoreError, Write};

pub use error::RotationError;
pub use gate::{Absent, Gate, Participant, Verdict};
pub use record::{Pause, Phase, RotationSubject, StoredRotation, SubjectError, Urgency};
pub use schedule::PlannedMove;
pub use status::{Status, condition};

use gate::Patience;

/// How often running rotations are looked at when nobody says anything.
const TICK: Duration = Duration::from_secs(1);

/// The flow and what it stands on.
#[derive(Debug)]
pub struct Rotations {
    table: Table<StoredRotation>,
    keys: Table<StoredKey>,
    registry: Registry,
    liveness: Liveness,
    authority: Arc<Authority>,
    sealing: Arc<SealingKeys>,
    audit: Audit,
    settings: Current<Settings>,
    woken: Notify,
    next_key_change: watch::Sender<Option<Timestamp>>,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Schedules and patience.
    pub policy: RotationPolicy,
    /// How long something that a signing key has signed may be shown to somebody, at the longest.
    pub longest_token: Duration,
}

/// What a rotation begins or goes on with.
struct Move {
    writes: Vec<Write>,
    phase: Phase,
    remark: String,
}

impl Rotations {
    /// The flow. The receiver tells when the published keys will change next, for caches.
    pub fn new(
        foundations: Foundations,
        settings: impl Into<Current<Settings>>,
    ) -> (Arc<Self>, watch::Receiver<Option<Timestamp>>) {
        let (next_key_change, changes) = watch::channel(None);
        let Foundations { store, registry, liveness, authority, sealing, audit } = foundations;
        let rotations = Self {
            table: Table::new(store.clone()),
            keys: Table::new(store),
            registry,
            liveness,
            authority,
            sealing,
            audit,
            settings: settings.into(),
            woken: Notify::new(),
            next_key_change,
        };
        (Arc::new(rotations), changes)
    }

    /// Begins to turn something.
    ///
    /// # Errors
    /// When it turns already (a compromised value takes over from a planned turn), or there is no such thing.
    pub async fn begin(
        &self,
        subject: RotationSubject,
        urgency: Urgency,
        creator: &str,
        now: Timestamp,
    ) -> Result<StoredRotation, RotationError> {
        let old = self.table.get(&subject.key()).await?;
        let expect = match &old {
            None => Expect::Absent,
            // A key that signs has turned: the next turn does not wait for the old key's last token.
            Some(old) if old.record.phase.is_end() || old.record.phase == Phase::Active => Expect::Version(old.version),
            // (A CA that turns already cannot begin anew: it is taken back first.)
            Some(old) if urgency == Urgency::Compromised && subject != RotationSubject::Authority => {
                Expect::Version(old.version)
            }
            Some(_) => return Err(RotationError::AlreadyTurning(subject)),
        };
        let begun = match &subject {
            RotationSubject::Keys(algorithm) => self.begin_keys(*algorithm, urgency, now).await?,
            RotationSubject::Secret(instance) => self.begin_secret(instance, urgency, now).await?,
            RotationSubject::Authority => self.begin_authority(now).await?,
        };
        let rotation = StoredRotation {
            id: Uuid::new_v4(),
            phase: begun.phase,
            began_at: now,
            phase_at: now,
            armed_at: now,
            creator: creator.to_owned(),
            urgency,
            paused: None,
            left_behind: Vec::new(),
            remark: begun.remark,
            subject,
        };
        self.commit(&rotation, expect, begun.writes).await?;
        info!(subject = %rotation.subject, id = %rotation.id, ?urgency, creator, phase = ?rotation.phase, "rotation begun");
        self.audit.note(record(Kind::RotationBegun, &rotation));
        Ok(rotation)
    }

    /// Begins to turn several things.
    ///
    /// # Errors
    /// The first refusal; what began before it goes on.
    pub async fn begin_each(
        &self,
        subjects: Vec<RotationSubject>,
        urgency: Urgency,
        creator: &str,
        now: Timestamp,
    ) -> Result<Vec<StoredRotation>, RotationError> {
        let mut begun = Vec::with_capacity(subjects.len());
        for subject in subjects {
            begun.push(self.begin(subject, urgency, creator, now).await?);
        }
        Ok(begun)
    }

    /// Takes a rotation back.
    ///
    /// # Errors
    /// When it does not run, or the old value is gone.
    pub async fn roll_back(&self, subject: &RotationSubject, now: Timestamp) -> Result<StoredRotation, RotationError> {
        let Stored { record: rotation, version } = self.running(subject).await?;
        let back = match subject {
            RotationSubject::Keys(algorithm) => self.roll_back_keys(*algorithm, &rotation, now).await?,
            RotationSubject::Secret(instance) => self.roll_back_secret(instance).await?,
            RotationSubject::Authority => self.roll_back_authority(&rotation, now).await?,
        };
        let rotation = moved(rotation, &back, now);
        self.commit(&rotation, Expect::Version(version), back.writes).await?;
        warn!(subject = %rotation.subject, id = %rotation.id, phase = ?rotation.phase, "rotation taken back");
        self.audit.note(record(Kind::RotationRolledBack, &rotation));
        Ok(rotation)
    }

    /// Lets a rotation that has paused wait anew for those it waits for.
    ///
    /// # Errors
    /// When it has not paused.
    pub async fn resume(&self, subject: &RotationSubject, now: Timestamp) -> Result<StoredRotation, RotationError> {
        let Stored { record: mut rotation, version } = self.running(subject).await?;
        if rotation.paused.take().is_none() {
            return Err(RotationError::NotPaused(subject.clone()));
        }
        rotation.armed_at = now;
        self.commit(&rotation, Expect::Version(version), Vec::new()).await?;
        info!(subject = %rotation.subject, id = %rotation.id, "rotation resumed");
        self.audit.note(record(Kind::RotationResumed, &rotation));
        Ok(rotation)
    }

    /// Lets a rotation go on without those who have not acknowledged. Says who they are.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn force(&self, subject: &RotationSubject, now: Timestamp) -> Result<StoredRotation, RotationError> {
        let stored = self.running(subject).await?;
        let gate = self.gate(&stored.record, now).await?;
        let left_behind = gate.laggards().into_iter().map(|laggard| laggard.instance.clone()).collect();
        warn!(subject = %stored.record.subject, ?left_behind, "rotation goes on by order of ops");
        let forced = record(Kind::RotationForced, &stored.record);
        let advanced = self.advance(stored, left_behind, now).await?;
        self.audit.note(forced);
        Ok(advanced)
    }

    async fn running(&self, subject: &RotationSubject) -> Result<Stored<StoredRotation>, RotationError> {
        let stored = self.table.get(&subject.key()).await?.filter(|stored| !stored.record.phase.is_end());
        stored.ok_or_else(|| RotationError::NotTurning(subject.clone()))
    }

    /// Writes a rotation and what goes with it, at once.
    async fn commit(
        &self,
        rotation: &StoredRotation,
        expect: Expect,
        mut writes: Vec<Write>,
    ) -> Result<(), RotationError> {
        let moves = !writes.is_empty();
        writes.push(self.table.put(&rotation.subject.key(), rotation, expect)?);
        let revision = self.table.commit(writes).await?;
        // Whoever ordered it finds it done: a join token of the next moment carries the new pin.
        let followed = match &rotation.subject {
            RotationSubject::Secret(_) if moves => self.registry.reached(revision).await,
            RotationSubject::Authority if moves => self.authority.reached(revision).await,
            _ => Ok(()),
        };
        if let Err(error) = followed {
            // It is committed all the same, and gates judge nothing by an old picture.
            warn!(subject = %rotation.subject, %error, "a rotation has moved, and this broker does not see it yet");
        }
        self.woken.notify_one();
        Ok(())
    }

    /// Looks at everything once: moves what may move, begins what is due. Says whether a rotation runs.
    ///
    /// # Errors
    /// When the store does not answer. A rotation that another broker moved in between is looked at again later.
    pub async fn look(&self, now: Timestamp) -> Result<bool, RotationError> {
        let mut runs = false;
        self.sweep_keys(now).await?;
        for (_, stored) in self.table.all().await? {
            if stored.record.phase.is_end() {
                continue;
            }
            runs = true;
            let subject = stored.record.subject.clone();
            match self.step(stored, now).await {
                Ok(()) => {}
                Err(RotationError::Store(StoreError::Conflict)) => debug!(%subject, "another broker was faster"),
                Err(error) => error!(%subject, %error, "a rotation cannot go on; trying again"),
            }
        }
        let plan = self.follow_plan(now).await?;
        for planned in plan.iter().filter(|planned| planned.is_begin() && planned.at <= now) {
            match self.begin(planned.subject.clone(), Urgency::Planned, "schedule", now).await {
                Ok(_) => {}
                Err(RotationError::Store(StoreError::Conflict)) => {
                    debug!(subject = %planned.subject, "another broker was faster");
                }
                Err(error) => {
                    error!(subject = %planned.subject, %error, "a planned rotation cannot begin; trying again");
                }
            }
        }
        Ok(runs)
    }

    async fn step(&self, stored: Stored<StoredRotation>, now: Timestamp) -> Result<(), RotationError> {
        if stored.record.subject == RotationSubject::Authority && self.authority_is_behind(&stored.record) {
            return Ok(());
        }
        let gate = self.gate(&stored.record, now).await?;
        let rotation = &stored.record;
        let verdict = gate.judge(rotation.armed_at, self.patience(rotation), now);
        if let (RotationSubject::Secret(name), false) = (&rotation.subject, verdict == Verdict::Waiting)
            && self.is_behind(name).await?
        {
            return Ok(());
        }
        match verdict {
            Verdict::Open { left_behind } => self.advance(stored, left_behind, now).await.map(drop),
            Verdict::Waiting => Ok(()),
            Verdict::Failed { .. } if matches!(rotation.subject, RotationSubject::Secret(_)) => {
                self.end_unproved_secret(stored, &gate, now).await
            }
            Verdict::Failed { by } => self.pause(stored, &by, now).await,
        }
    }

    fn patience(&self, rotation: &StoredRotation) -> Patience {
        let policy = self.settings.now().policy;
        let window = match rotation.phase {
            // Agents were told to spread their renewals over this long.
            Phase::ClientsActivated | Phase::RollingBack => self.renewal_window(),
            _ => Duration::ZERO,
        };
        Patience {
            acknowledge_within: policy.acknowledge_within + window,
            grace_for_absent: policy.grace_for_absent,
            notice: gate::NOTICE + window,
            urgency: rotation.urgency,
        }
    }

    async fn pause(
        &self,
        stored: Stored<StoredRotation>,
        by: &[InstanceName],
        now: Timestamp,
    ) -> Result<(), RotationError> {
        let Stored { record: mut rotation, version } = stored;
        if rotation.paused.is_some() {
            return Ok(());
        }
        let some: Vec<_> = by.iter().take(5).map(ToString::to_string).collect();
        let more = if by.len() > some.len() { format!(" and {} more", by.len() - some.len()) } else { String::new() };
        let reason = format!("connected, and not acknowledged in time: {}{more}", some.join(", "));
        error!(
            subject = %rotation.subject, phase = ?rotation.phase, reason,
            "ALERT: a rotation has paused; `homeward-broker rotation status` says who holds it up and why"
        );
        rotation.paused = Some(Pause { reason, since: now });
        self.commit(&rotation, Expect::Version(version), Vec::new()).await?;
        self.audit.note(record(Kind::RotationPaused, &rotation).refused("not_acknowledged"));
        Ok(())
    }

    async fn gate(&self, rotation: &StoredRotation, now: Timestamp) -> Result<Gate, RotationError> {
        match &rotation.subject {
            RotationSubject::Keys(algorithm) => self.gate_of_keys(*algorithm, rotation.phase, now).await,
            RotationSubject::Secret(instance) => Ok(self.gate_of_secret(instance, rotation)),
            RotationSubject::Authority => Ok(self.gate_of_authority(rotation, now)),
        }
    }

    /// What is known of every agent.
    fn sightings(&self) -> HashMap<InstanceName, Arc<Sighting>> {
        self.liveness.sightings().into_iter().collect()
    }

    /// The next phase, in one commit.
    async fn advance(
        &self,
        stored: Stored<StoredRotation>,
        left_behind: Vec<InstanceName>,
        now: Timestamp,
    ) -> Result<StoredRotation, RotationError> {
        let Stored { record: rotation, version } = stored;
        let next = match &rotation.subject {
            RotationSubject::Keys(algorithm) => self.advance_keys(*algorithm, &rotation, now).await?,
            RotationSubject::Secret(instance) => self.close_old_secret(instance, &left_behind, now).await?,
            RotationSubject::Authority => self.advance_authority(&rotation, now).await?,
        };
        let mut rotation = moved(rotation, &next, now);
        if !left_behind.is_empty() {
            warn!(subject = %rotation.subject, ?left_behind, "ALERT: a rotation goes on without these instances");
        }
        rotation.left_behind.extend(left_behind);
        rotation.left_behind.sort();
        rotation.left_behind.dedup();
        self.commit(&rotation, Expect::Version(version), next.writes).await?;
        info!(subject = %rotation.subject, id = %rotation.id, phase = ?rotation.phase, "rotation moved");
        self.audit.note(record(Kind::RotationMoved, &rotation));
        Ok(rotation)
    }
}

/// What is noted of a rotation.
fn record(kind: Kind, rotation: &StoredRotation) -> Event {
    let event =
        Event::new(kind).object(&rotation.subject).detail(format!("{}, {}", rotation.phase.as_str(), rotation.creator));
    match &rotation.subject {
        RotationSubject::Secret(instance) => event.instance(instance),
        RotationSubject::Keys(_) | RotationSubject::Authority => event,
    }
}

/// The rotation in its next phase.
fn moved(rotation: StoredRotation, next: &Move, now: Timestamp) -> StoredRotation {
    StoredRotation {
        phase: next.phase,
        phase_at: now,
        armed_at: now,
        paused: None,
        remark: next.remark.clone(),
        ..rotation
    }
}
