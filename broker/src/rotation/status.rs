//! The one screen: what turns, where it is, who holds it up and why, and what happens next.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::rotation::gate::{Gate, Participant};
use crate::rotation::record::{Phase, RotationSubject, StoredRotation};
use crate::rotation::{RotationError, Rotations};

/// For how long an ended rotation is shown.
const SHOWN: Duration = Duration::from_secs(86_400);

/// A rotation and its gate, as they are now.
#[derive(Clone, Debug)]
pub struct Status {
    /// The record.
    pub rotation: StoredRotation,
    /// What it waits for; nothing once it has ended.
    pub gate: Option<Gate>,
    /// When the gate fails, or opens if it waits for time only.
    pub deadline_at: Option<Timestamp>,
}

impl Status {
    /// All phases of such a rotation, in order.
    pub fn phases(&self) -> &'static [Phase] {
        match &self.rotation.subject {
            RotationSubject::Keys(_) => &[Phase::Published, Phase::Active, Phase::Done],
            RotationSubject::Secret(_) => &[Phase::Offered, Phase::Done],
            RotationSubject::Authority => {
                &[Phase::Prepared, Phase::ClientsActivated, Phase::ServersActivated, Phase::Done]
            }
        }
    }

    /// What happens next, or what ops can do now: one sentence.
    pub fn next_step(&self) -> String {
        let rotation = &self.rotation;
        let Some(gate) = &self.gate else {
            return match rotation.phase {
                Phase::RolledBack => "Nothing: find out why it was taken back before you turn it again.".to_owned(),
                _ if rotation.left_behind.is_empty() => "Nothing.".to_owned(),
                _ => "Look at the instances that were left behind: `instance show NAME`.".to_owned(),
            };
        };
        let laggards = gate.laggards();
        let subject = &rotation.subject;
        match (rotation.paused.is_some(), laggards.first()) {
            (true, Some(first)) => format!(
                "Mend {} (`instance show {}`): it goes on by itself when all have acknowledged. Or `rotation resume \
                 {subject}` to wait anew, `rotation resume {subject} --force` to go on without them, or take it back.",
                first.instance, first.instance
            ),
            (_, Some(first)) if laggards.len() == 1 => {
                format!("Waits for {}, which {}.", first.instance, condition(first))
            }
            (_, Some(first)) => {
                format!(
                    "Waits for {} instances, first for {}, which {}.",
                    laggards.len(),
                    first.instance,
                    condition(first)
                )
            }
            (_, None) => format!("Goes on by itself at {}.", gate.not_before),
        }
    }
}

/// How it is with somebody who has not acknowledged.
pub fn condition(laggard: &Participant) -> String {
    match (&laggard.refusal, laggard.connected_at) {
        (Some(refusal), _) => format!("refused: {}: {}", refusal.reason, refusal.detail),
        (None, Some(_)) => "is connected and has not answered yet".to_owned(),
        (None, None) => "is not connected".to_owned(),
    }
}

impl Rotations {
    /// Running rotations, then those that ended in the last day; or that of one subject, however old.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn status(
        &self,
        subject: Option<&RotationSubject>,
        now: Timestamp,
    ) -> Result<Vec<Status>, RotationError> {
        let mut all = Vec::new();
        for (_, stored) in self.table.all().await? {
            let rotation = stored.record;
            let wanted = match subject {
                Some(subject) => rotation.subject == *subject,
                None => !rotation.phase.is_end() || now < rotation.phase_at + SHOWN,
            };
            if wanted {
                all.push(self.status_of(rotation, now).await?);
            }
        }
        all.sort_by_key(|status| (status.gate.is_none(), std::cmp::Reverse(status.rotation.began_at)));
        Ok(all)
    }

    /// One rotation and its gate.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn status_of(&self, rotation: StoredRotation, now: Timestamp) -> Result<Status, RotationError> {
        if rotation.phase.is_end() {
            return Ok(Status { rotation, gate: None, deadline_at: None });
        }
        let gate = self.gate(&rotation, now).await?;
        let patience = self.patience(&rotation);
        let deadline_at = match gate.laggards().first() {
            None => gate.not_before,
            Some(_) => rotation.armed_at + patience.acknowledge_within,
        };
        Ok(Status { rotation, gate: Some(gate), deadline_at: Some(deadline_at) })
    }
}
