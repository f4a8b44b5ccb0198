//! What will happen by itself, and when. Pure: from what there is and the policy. The loop begins what stands here as due,
//! and nothing else.

use crate::clock::Timestamp;
use crate::config::RotationPolicy;
use crate::keys::SigningAlgorithm;
use crate::registry::{Instance, RelyingParty};
use crate::rotation::gate::Gate;
use crate::rotation::record::{Phase, RotationSubject, StoredRotation};
use crate::rotation::status::Status;
use crate::rotation::{RotationError, Rotations};

/// Client credentials that turn by themselves at the same time, at the most.
const SECRETS_AT_ONCE: usize = 50;

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// When, at the earliest.
    pub at: Timestamp,
    /// What turns.
    pub subject: RotationSubject,
    /// The phase that it comes to.
    pub phase: Phase,
    /// What must be true first, in words; empty when nothing but time.
    pub gate: &'static str,
}

impl PlannedMove {
    /// Whether something begins to turn with it.
    pub(super) fn is_begin(&self) -> bool {
        matches!(self.phase, Phase::Published | Phase::Offered | Phase::Prepared)
    }

    /// What happens, in one sentence.
    pub fn sentence(&self) -> &'static str {
        match self.phase {
            Phase::Published => "A new signing key is published; it signs nothing yet.",
            Phase::Active => "The new signing key signs; the old one stays published for the tokens that it signed.",
            Phase::Done if matches!(self.subject, RotationSubject::Keys(_)) => "The old signing key is deleted.",
            Phase::Offered => "A second client credential becomes good, and the agent brings its application to it.",
            Phase::Prepared => "A new CA is made and trusted; it signs nothing yet.",
            Phase::ClientsActivated => "The new CA signs instances; every agent renews its certificate.",
            Phase::ServersActivated => "Brokers show certificates of the new CA.",
            Phase::RollingBack => "The old CA signs again.",
            Phase::Done => "The old one is given up.",
            Phase::RolledBack => "The new one is given up.",
        }
    }
}

/// How old the things are that turn by age.
pub(super) struct Ages<'a> {
    /// Since when the active key of each algorithm signs.
    pub(super) keys: Vec<(SigningAlgorithm, Timestamp)>,
    /// Relying parties, and since when each has its credential.
    pub(super) secrets: Vec<(&'a Instance, Timestamp)>,
    /// When the CA that signs was made.
    pub(super) authority: Timestamp,
}

/// What will begin by itself, in order of time; nothing that turns already.
pub(super) fn beginnings(ages: &Ages<'_>, running: &[StoredRotation], policy: &RotationPolicy) -> Vec<PlannedMove> {
    let turns = |subject: &RotationSubject| running.iter().any(|rotation| rotation.subject == *subject);
    let mut plan = Vec::new();
    let mut add = |at, subject: RotationSubject, phase| {
        if !turns(&subject) {
            plan.push(PlannedMove { at, subject, phase, gate: "" });
        }
    };
    if let Some(every) = policy.signing_keys_every {
        for (algorithm, since) in &ages.keys {
            add(*since + every, RotationSubject::Keys(*algorithm), Phase::Published);
        }
    }
    if let Some(every) = policy.authority_every {
        add(ages.authority + every, RotationSubject::Authority, Phase::Prepared);
    }
    if let Some(every) = policy.client_secrets_every {
        let turning = running.iter().filter(|rotation| matches!(rotation.subject, RotationSubject::Secret(_))).count();
        let mut secrets = ages.secrets.clone();
        secrets.sort_by(|a, b| (a.1, &a.0.name).cmp(&(b.1, &b.0.name)));
        // The oldest first, and not a whole fleet of applications reloading in the same minute.
        for (index, (instance, since)) in secrets.into_iter().enumerate() {
            let waves = (turning + index) / SECRETS_AT_ONCE;
            let behind = policy.acknowledge_within * u32::try_from(waves).unwrap_or(u32::MAX);
            add(since + every + behind, RotationSubject::Secret(instance.name.clone()), Phase::Offered);
        }
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// What a running rotation will do by itself, as far as it can be told today.
fn continuation(rotation: &StoredRotation, gate: &Gate, now: Timestamp) -> Option<PlannedMove> {
    let phase = match (&rotation.subject, rotation.phase) {
        (RotationSubject::Keys(_), Phase::Published) => Phase::Active,
        (RotationSubject::Authority, Phase::Prepared) => Phase::ClientsActivated,
        (RotationSubject::Authority, Phase::ClientsActivated) => Phase::ServersActivated,
        (RotationSubject::Authority, Phase::RollingBack) => Phase::RolledBack,
        (_, phase) if phase.is_end() => return None,
        _ => Phase::Done,
    };
    let at = gate.not_before.max(now);
    Some(PlannedMove { at, subject: rotation.subject.clone(), phase, gate: gate.words })
}

/// When the published keys will change next.
pub(super) fn next_key_change(plan: &[PlannedMove], now: Timestamp) -> Option<Timestamp> {
    let of_keys = plan.iter().filter(|planned| matches!(planned.subject, RotationSubject::Keys(_)));
    of_keys.map(|planned| planned.at).filter(|at| *at > now).min()
}

impl Rotations {
    /// All that will happen by itself, in order of time.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plan(&self, now: Timestamp) -> Result<Vec<PlannedMove>, RotationError> {
        self.plan_with(&self.status(None, now).await?, now).await
    }

    /// The same, for whoever has just asked for the status of all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plan_with(&self, all: &[Status], now: Timestamp) -> Result<Vec<PlannedMove>, RotationError> {
        let gates = || all.iter().filter_map(|status| Some((&status.rotation, status.gate.as_ref()?)));
        let running: Vec<StoredRotation> = gates().map(|(rotation, _)| rotation.clone()).collect();
        let mut keys = Vec::new();
        for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Es256] {
            keys.push((algorithm, self.turn(algorithm).await?.active.1.record.since()));
        }
        let snapshot = self.registry.snapshot();
        let since = |instance: &Instance, party: &RelyingParty| party.credential_at.unwrap_or(instance.enrolled_at);
        let secrets = snapshot.instances().filter(|instance| instance.is_active());
        let secrets = secrets.filter_map(|instance| {
            let party = instance.relying_party.as_ref()?;
            Some((&**instance, since(instance, party)))
        });
        let ages = Ages { keys, secrets: secrets.collect(), authority: self.authority_since() };
        let mut plan = beginnings(&ages, &running, &self.settings.now().policy);
        plan.extend(gates().filter_map(|(rotation, gate)| continuation(rotation, gate, now)));
        plan.sort_by_key(|planned| planned.at);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const T0: Timestamp = Timestamp::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn policy() -> RotationPolicy {
        RotationPolicy {
            signing_keys_every: Some(90 * DAY),
            client_secrets_every: None,
            authority_every: Some(1000 * DAY),
            acknowledge_within: DAY,
            grace_for_absent: DAY,
            key_set_max_age: Duration::from_secs(300),
        }
    }

    fn rotation(subject: RotationSubject) -> StoredRotation {
        StoredRotation {
            id: uuid::Uuid::nil(),
            subject,
            phase: Phase::Published,
            began_at: T0,
            phase_at: T0,
            armed_at: T0,
            creator: String::new(),
            urgency: crate::rotation::Urgency::Planned,
            paused: None,
            left_behind: Vec::new(),
            remark: String::new(),
        }
    }

    #[test]
    fn things_turn_by_age_and_not_while_they_turn() {
        let keys = vec![(SigningAlgorithm::Rs256, T0), (SigningAlgorithm::Es256, T0 + DAY)];
        let ages = Ages { keys, secrets: Vec::new(), authority: T0 };
        let subjects = |running: &[StoredRotation], policy: &RotationPolicy| -> Vec<String> {
            let plan = beginnings(&ages, running, policy);
            plan.iter()
                .map(|planned| format!("{} {}", planned.subject, planned.at.since(T0).as_secs() / 86_400))
                .collect()
        };
        assert_eq!(subjects(&[], &policy()), ["keys/RS256 90", "keys/ES256 91", "ca 1000"]);
        let running = [rotation(RotationSubject::Keys(SigningAlgorithm::Rs256))];
        assert_eq!(subjects(&running, &policy()), ["keys/ES256 91", "ca 1000"]);
        let never = RotationPolicy { signing_keys_every: None, authority_every: None, ..policy() };
        assert_eq!(subjects(&[], &never), [""; 0]);
    }

    #[test]
    fn the_next_change_of_keys_is_the_nearest_to_come() {
        let keys = vec![(SigningAlgorithm::Rs256, T0), (SigningAlgorithm::Es256, T0 + DAY)];
        let plan = beginnings(&Ages { keys, secrets: Vec::new(), authority: T0 }, &[], &policy());
        assert_eq!(next_key_change(&plan, T0), Some(T0 + 90 * DAY));
        assert_eq!(next_key_change(&plan, T0 + 90 * DAY), Some(T0 + 91 * DAY));
        assert_eq!(next_key_change(&plan, T0 + 91 * DAY), None);
    }
}
