//! Rotations, their plan and signing keys: what ops do with them, and how the contract writes them.

use std::time::Duration;

use homeward_proto::v1;
use tonic::Status;

use crate::clock::Timestamp;
use crate::grpc::admin::Service;
use crate::grpc::admin::page::page;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::keys::{KeyState, SigningAlgorithm, StoredKey};
use crate::rotation::{
    Participant, Phase, PlannedMove, RotationSubject, Status as RotationStatus, StoredRotation, Urgency, condition,
};

/// Laggards that are listed, at the most.
const MAX_LAGGARDS: usize = 1000;

/// How far a plan looks if nobody says otherwise.
const HORIZON: Duration = Duration::from_secs(90 * 86_400);

impl Service {
    pub(super) async fn begin(
        &self,
        request: &v1::BeginRotationRequest,
        creator: &str,
    ) -> Result<Vec<v1::Rotation>, Status> {
        let (urgency, now) = (urgency(request), self.clock.now());
        let begun = match order(&request.subject)? {
            Order::AllSecrets => self.rotations.begin_all_secrets(urgency, creator, now).await,
            Order::These(subjects) => self.rotations.begin_each(subjects, urgency, creator, now).await,
        };
        let begun = begun.map_err(|error| status::rotation(&error))?;
        let mut rotations = Vec::with_capacity(begun.len());
        for one in begun {
            rotations.push(self.shown(one, now).await?);
        }
        Ok(rotations)
    }

    pub(super) async fn roll_back(&self, text: &str) -> Result<v1::Rotation, Status> {
        let (subject, now) = (subject(text)?, self.clock.now());
        let back = self.rotations.roll_back(&subject, now).await.map_err(|error| status::rotation(&error))?;
        self.shown(back, now).await
    }

    pub(super) async fn resume(
        &self,
        request: &v1::ResumeRotationRequest,
    ) -> Result<v1::ResumeRotationResponse, Status> {
        let (subject, now) = (subject(&request.subject)?, self.clock.now());
        let resumed = match request.force {
            true => self.rotations.force(&subject, now).await,
            false => self.rotations.resume(&subject, now).await,
        };
        let resumed = resumed.map_err(|error| status::rotation(&error))?;
        let left_behind = resumed.left_behind.iter().map(ToString::to_string).collect();
        Ok(v1::ResumeRotationResponse { rotation: Some(self.shown(resumed, now).await?), left_behind })
    }

    /// Of one thing, or of all if none is named.
    pub(super) async fn rotation_status(&self, wanted: &str) -> Result<Vec<v1::Rotation>, Status> {
        let subject = if wanted.is_empty() { None } else { Some(subject(wanted)?) };
        let all = self.rotations.status(subject.as_ref(), self.clock.now()).await;
        let all = all.map_err(|error| status::rotation(&error))?;
        Ok(all.iter().map(rotation).collect())
    }

    pub(super) async fn rotation_plan(
        &self,
        request: v1::GetRotationPlanRequest,
    ) -> Result<Vec<v1::PlannedMove>, Status> {
        let horizon = request.horizon_duration.map(Duration::try_from).transpose();
        let horizon = horizon.map_err(|_| status::refused(Reason::FieldInvalid("horizon_duration")))?;
        let now = self.clock.now();
        let end = now + horizon.unwrap_or(HORIZON);
        let plan = self.rotations.plan(now).await.map_err(|error| status::rotation(&error))?;
        Ok(plan.iter().filter(|planned| planned.at <= end).map(planned_move).collect())
    }

    pub(super) async fn signing_keys(
        &self,
        request: &v1::ListSigningKeysRequest,
    ) -> Result<v1::ListSigningKeysResponse, Status> {
        let all = self.rotations.signing_keys().await.map_err(|error| status::rotation(&error))?;
        let keys = all.iter().map(|(kid, key)| (kid.clone(), signing_key(kid, key))).collect();
        let (signing_keys, next_page_token) = page(keys, request.page_size, &request.page_token);
        Ok(v1::ListSigningKeysResponse { signing_keys, next_page_token })
    }

    /// A rotation with its gate.
    async fn shown(&self, stored: StoredRotation, now: Timestamp) -> Result<v1::Rotation, Status> {
        let shown = self.rotations.status_of(stored, now).await.map_err(|error| status::rotation(&error))?;
        Ok(rotation(&shown))
    }
}

/// What ops want to turn.
enum Order {
    /// One thing each.
    These(Vec<RotationSubject>),
    /// The client credentials of all instances.
    AllSecrets,
}

/// Reads `keys`, `keys/<algorithm>`, `secret/<instance>`, `secrets` or `ca`.
fn order(text: &str) -> Result<Order, Status> {
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
fn subject(text: &str) -> Result<RotationSubject, Status> {
    text.parse().map_err(|error: crate::rotation::SubjectError| status::invalid(&error))
}

/// How urgent it is.
const fn urgency(order: &v1::BeginRotationRequest) -> Urgency {
    if order.compromised { Urgency::Compromised } else { Urgency::Planned }
}

/// A rotation with its gate.
fn rotation(shown: &RotationStatus) -> v1::Rotation {
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
fn planned_move(planned: &PlannedMove) -> v1::PlannedMove {
    v1::PlannedMove {
        time: Some(wire_time(planned.at)),
        subject: planned.subject.to_string(),
        r#move: planned.sentence().to_owned(),
        gate: planned.gate.to_owned(),
    }
}

/// A signing key.
fn signing_key(key_id: &str, key: &StoredKey) -> v1::SigningKey {
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
