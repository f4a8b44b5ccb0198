//! Rotations, their plan and signing keys, as the contract writes them.

use std::time::Duration;

use homeward_proto::v1;
use tonic::Status;

use crate::clock::Timestamp;
use crate::grpc::{status, wire_time};
use crate::keys::{KeyState, SigningAlgorithm, StoredKey};
use crate::rotation::{
    Participant, Phase, PlannedMove, RotationSubject, Status as RotationStatus, StoredRotation, Urgency, condition,
};

/// Laggards that are listed, at the most.
const MAX_LAGGARDS: usize = 1000;

/// How far a plan looks if nobody says otherwise.
pub(super) const HORIZON: Duration = Duration::from_secs(90 * 86_400);

/// What ops want to turn.
pub(super) enum Order {
    /// One thing each.
    These(Vec<RotationSubject>),
    /// The client credentials of all instances.
    AllSecrets,
}

/// Reads `keys`, `keys/<algorithm>`, `secret/<instance>`, `secrets` or `ca`.
pub(super) fn order(text: &str) -> Result<Order, Status> {
    match text {
        "secrets" => Ok(Order::AllSecrets),
        "keys" => Ok(Order::These(vec![
            RotationSubject::Keys(SigningAlgorithm::Rs256),
            RotationSubject::Keys(SigningAlgorithm::Es256),
        ])),
        one => Ok(Order::These(vec![subject(one)?])),
    }
}

/// Reads one subject.
pub(super) fn subject(text: &str) -> Result<RotationSubject, Status> {
    text.parse().map_err(|error: crate::rotation::SubjectError| status::invalid(&error))
}

/// How urgent it is.
pub(super) const fn urgency(order: &v1::BeginRotationRequest) -> Urgency {
    if order.compromised { Urgency::Compromised } else { Urgency::Planned }
}

/// A rotation with its gate.
pub(super) fn rotation(shown: &RotationStatus) -> v1::Rotation {
    let StoredRotation { subject, phase, began_at, phase_at, creator, paused, left_behind, remark, .. } =
        &shown.rotation;
    let (participants, laggards) = match &shown.gate {
        Some(gate) => (gate.participants.len(), gate.laggards()),
        None => (0, Vec::new()),
    };
    let state = match (phase, paused) {
        (Phase::RolledBack, _) => v1::RotationState::RolledBack,
        (Phase::Done, _) => v1::RotationState::Done,
        (_, Some(_)) => v1::RotationState::Paused,
        (_, None) => v1::RotationState::Running,
    };
    let mut reason = paused.as_ref().map_or_else(|| remark.clone(), |pause| pause.reason.clone());
    if !left_behind.is_empty() {
        let names: Vec<_> = left_behind.iter().take(20).map(ToString::to_string).collect();
        reason = format!("{reason} Left behind: {} ({}).", left_behind.len(), names.join(", ")).trim().to_owned();
    }
    v1::Rotation {
        subject: subject.to_string(),
        phase: phase.as_str().to_owned(),
        phases: shown.phases().iter().map(|phase| phase.as_str().to_owned()).collect(),
        state: state.into(),
        gate: shown.gate.as_ref().map(|gate| gate.words.to_owned()).unwrap_or_default(),
        acknowledged: count(participants - laggards.len()),
        participants: count(participants),
        laggards: laggards.iter().take(MAX_LAGGARDS).map(|participant| laggard(participant, *phase_at)).collect(),
        begin_time: Some(wire_time(*began_at)),
        phase_time: Some(wire_time(*phase_at)),
        deadline_time: shown.deadline_at.map(wire_time),
        creator: creator.clone(),
        reason,
        next_step: shown.next_step(),
    }
}

fn laggard(participant: &Participant, phase_at: Timestamp) -> v1::Laggard {
    let waiting_since = participant.connected_at.map_or(phase_at, |connected| connected.max(phase_at));
    v1::Laggard {
        instance: participant.instance.to_string(),
        online: participant.connected_at.is_some(),
        last_seen_time: participant.last_seen_at.map(wire_time),
        waiting_since_time: Some(wire_time(waiting_since)),
        reason: condition(participant),
    }
}

/// A move to come.
pub(super) fn planned_move(planned: &PlannedMove) -> v1::PlannedMove {
    v1::PlannedMove {
        time: Some(wire_time(planned.at)),
        subject: planned.subject.to_string(),
        r#move: planned.sentence().to_owned(),
        gate: planned.gate.to_owned(),
    }
}

/// A signing key.
pub(super) fn signing_key(key_id: &str, key: &StoredKey) -> v1::SigningKey {
    let algorithm = match key.algorithm {
        SigningAlgorithm::Rs256 => v1::SigningAlgorithm::Rs256,
        SigningAlgorithm::Es256 => v1::SigningAlgorithm::Es256,
    };
    let (state, gone_time) = match key.state {
        KeyState::Pending => (v1::SigningKeyState::Pending, None),
        KeyState::Active => (v1::SigningKeyState::Active, None),
        KeyState::Retired { gone_at } => (v1::SigningKeyState::Retired, Some(wire_time(gone_at))),
    };
    v1::SigningKey {
        key_id: key_id.to_owned(),
        algorithm: algorithm.into(),
        state: state.into(),
        create_time: Some(wire_time(key.created_at)),
        state_time: Some(wire_time(key.since())),
        gone_time,
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
