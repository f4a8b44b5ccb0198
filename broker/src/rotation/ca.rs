//! The CA turns: the next one is trusted, then signs instances, then brokers; then the old one is given up. Until then all
//! of it can be taken back.

use std::sync::Arc;
use std::time::Duration;

use crate::authority::{CaPhase, CaState, CaStep};
use crate::clock::Timestamp;
use crate::registry::{Instance, Resource};
use crate::rotation::gate::{Absent, Gate, Participant};
use crate::rotation::record::{Phase, RotationSubject, StoredRotation};
use crate::rotation::{Move, RotationError, Rotations, TICK};

/// Renewals a second that agents are told to keep to.
const RENEWALS_PER_SECOND: u64 = 250;

/// The least time that agents spread their renewals over.
const LEAST_WINDOW: Duration = Duration::from_secs(30);

/// How long brokers show the new CA's certificate before the old CA is given up for good.
const SOAK: Duration = Duration::from_secs(60);

impl Rotations {
    /// Over how long agents spread the renewal that a turn of the CA asks of all of them.
    pub fn renewal_window(&self) -> Duration {
        let agents = self.registry.snapshot().size() as u64;
        LEAST_WINDOW.max(Duration::from_secs(agents / RENEWALS_PER_SECOND))
    }

    /// When the CA that signs was made.
    pub(super) fn authority_since(&self) -> Timestamp {
        let signer = self.authority.state().authorities().into_iter().find(|listed| listed.signs_instances);
        // There always is one; were there none, nothing would be due.
        signer.map_or(Timestamp::from_secs(i64::MAX), |signer| signer.created_at)
    }

    pub(super) async fn begin_authority(&self, now: Timestamp) -> Result<Move, RotationError> {
        let writes = self.authority.transition(CaStep::Prepare, now).await?;
        Ok(Move { writes, phase: Phase::Prepared, remark: String::new() })
    }

    pub(super) fn gate_of_authority(&self, rotation: &StoredRotation, now: Timestamp) -> Gate {
        let state = self.authority.state();
        if self.authority_is_behind(rotation) {
            let words = "the broker reads what it has just written";
            return Gate { participants: Vec::new(), not_before: now + TICK, absent: Absent::Hold, words };
        }
        match rotation.phase {
            Phase::Prepared => Gate {
                participants: self.trusting(state.bundle.version),
                not_before: rotation.phase_at,
                absent: Absent::Grace,
                words: "every connected agent trusts the new CA",
            },
            Phase::ClientsActivated | Phase::RollingBack => Gate {
                participants: self.certified(&state, now),
                not_before: rotation.phase_at,
                // Whoever is away drops out when his certificate ends, and comes back by his recovery key.
                absent: Absent::Hold,
                words: "every certificate that has not expired is of the CA that signs now",
            },
            _ => Gate {
                participants: Vec::new(),
                not_before: rotation.phase_at + self.settings.now().policy.acknowledge_within.min(SOAK),
                absent: Absent::Hold,
                words: "a last moment in which all of it can be taken back",
            },
        }
    }

    /// Whether the commit of the last move is still on its way here: to judge by the state before it, or by nobody at all,
    /// would open the gate.
    pub(super) fn authority_is_behind(&self, rotation: &StoredRotation) -> bool {
        self.authority.state().phase != phase_of_authority(rotation.phase)
    }

    /// Who trusts the bundle of this version.
    fn trusting(&self, version: u64) -> Vec<Participant> {
        self.agents(|_| true, |_, seen| seen.is_some_and(|seen| seen.acknowledged.bundle_version >= version))
    }

    /// Whose certificate is of the CA that signs now.
    fn certified(&self, state: &CaState, now: Timestamp) -> Vec<Participant> {
        let lives = |instance: &Instance| instance.certificate.not_after > now;
        self.agents(lives, |instance, _| state.is_of_signer(instance.certificate.authority.as_deref()))
    }

    fn agents(
        &self,
        counts: impl Fn(&Instance) -> bool,
        acknowledged: impl Fn(&Instance, Option<&crate::registry::Sighting>) -> bool,
    ) -> Vec<Participant> {
        let (snapshot, sightings) = (self.registry.snapshot(), self.sightings());
        let concerned = |instance: &&Arc<Instance>| instance.is_active() && counts(instance);
        let participants = snapshot.instances().filter(concerned).map(|instance| {
            let seen = sightings.get(&instance.name).map(|seen| &**seen);
            let refusal = seen.and_then(|seen| seen.refusals.get(&Resource::TrustBundle));
            Participant::new(instance.name.clone(), seen, acknowledged(instance, seen)).refusing(refusal)
        });
        participants.collect()
    }

    pub(super) async fn advance_authority(
        &self,
        rotation: &StoredRotation,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        let (step, phase, remark) = match rotation.phase {
            Phase::Prepared => (CaStep::ActivateClients, Phase::ClientsActivated, ""),
            Phase::ClientsActivated => (CaStep::ActivateServers, Phase::ServersActivated, ""),
            Phase::ServersActivated => (CaStep::Retire, Phase::Done, "The old CA is trusted no longer."),
            Phase::RollingBack => (CaStep::FinishRollBack, Phase::RolledBack, "The new CA is trusted no longer."),
            _ => return Err(RotationError::NotTurning(RotationSubject::Authority)),
        };
        let writes = self.authority.transition(step, now).await?;
        Ok(Move { writes, phase, remark: remark.to_owned() })
    }

    pub(super) async fn roll_back_authority(
        &self,
        rotation: &StoredRotation,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        if rotation.phase == Phase::RollingBack {
            return Err(RotationError::AlreadyTurning(RotationSubject::Authority));
        }
        let writes = self.authority.transition(CaStep::RollBack, now).await?;
        Ok(Move { writes, phase: Phase::RollingBack, remark: String::new() })
    }
}

/// Where the CA is while its rotation is in this phase.
pub(super) fn phase_of_authority(phase: Phase) -> Option<CaPhase> {
    match phase {
        Phase::Prepared => Some(CaPhase::Prepared),
        Phase::ClientsActivated => Some(CaPhase::ClientsActivated),
        Phase::ServersActivated => Some(CaPhase::ServersActivated),
        Phase::RollingBack => Some(CaPhase::RollingBack),
        Phase::Published | Phase::Active | Phase::Offered | Phase::Done | Phase::RolledBack => None,
    }
}
