//! Keys, secrets and the CA: what is active, what turns, who holds it up, and what happens next.

use homeward_proto::v1;

use crate::grpc::desk::pictures::timeline;
use crate::grpc::desk::{Seat, lower, refusal, sentence};
use crate::web::console::{AuthorityRow, KeyRow, LaggardRow, MoveRow, Refusal, RotationCard, TurningSheet};

/// Laggards that a page names.
const NAMED: usize = 50;

impl Seat {
    /// All of it.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn turning(&self) -> Result<TurningSheet, Refusal> {
        let authority = self.authority().await?;
        let authorities = authority.certificates.iter().map(|ca| AuthorityRow {
            pin: ca.pin.clone(),
            role: ca.role.clone(),
            expires: self.moment(ca.expire_time.as_ref()),
            instances: ca.instances,
        });
        let instances = self.all_instances().await?;
        let (keys, plan) = (self.keys().await?, self.plan().await?);
        let timeline = timeline(self.now, &keys, &authority.certificates, &plan);
        let secrets = instances.iter().filter(|instance| !instance.client_id.is_empty());
        Ok(TurningSheet {
            rotations: self.board().await?,
            timeline,
            keys: keys.into_iter().map(|key| self.key_row(key)).collect(),
            authorities: authorities.collect(),
            bundle: authority.trust_bundle_version,
            secrets: secrets.map(|instance| instance.name.clone()).collect(),
            plan: plan.into_iter().map(|planned| self.move_row(planned)).collect(),
        })
    }

    /// What turns, and who holds it up.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn board(&self) -> Result<Vec<RotationCard>, Refusal> {
        Ok(self.rotations().await?.iter().map(|rotation| self.card(rotation)).collect())
    }

    pub(super) async fn rotations(&self) -> Result<Vec<v1::Rotation>, Refusal> {
        let request = self.ask(v1::GetRotationStatusRequest { subject: String::new() });
        let status = self.client.clone().get_rotation_status(request).await;
        Ok(status.map_err(|status| refusal(&status))?.into_inner().rotations)
    }

    pub(super) async fn plan(&self) -> Result<Vec<v1::PlannedMove>, Refusal> {
        let request = self.ask(v1::GetRotationPlanRequest { horizon_duration: None });
        let plan = self.client.clone().get_rotation_plan(request).await;
        Ok(plan.map_err(|status| refusal(&status))?.into_inner().moves)
    }

    pub(super) async fn authority(&self) -> Result<v1::GetAuthorityResponse, Refusal> {
        let found = self.client.clone().get_authority(self.ask(v1::GetAuthorityRequest {})).await;
        Ok(found.map_err(|status| refusal(&status))?.into_inner())
    }

    async fn keys(&self) -> Result<Vec<v1::SigningKey>, Refusal> {
        Ok(all_pages!(self, list_signing_keys, ListSigningKeysRequest, signing_keys))
    }

    pub(super) fn move_row(&self, planned: v1::PlannedMove) -> MoveRow {
        MoveRow {
            at: self.moment(planned.time.as_ref()),
            subject: planned.subject,
            what: planned.r#move,
            gate: planned.gate,
        }
    }

    fn key_row(&self, key: v1::SigningKey) -> KeyRow {
        KeyRow {
            algorithm: match key.algorithm() {
                v1::SigningAlgorithm::Unspecified => "",
                v1::SigningAlgorithm::Rs256 => "RS256",
                v1::SigningAlgorithm::Es256 => "ES256",
            },
            state: lower(key.state().as_str_name(), "SIGNING_KEY_STATE_"),
            since: self.moment(key.state_time.as_ref()),
            gone: self.moment(key.gone_time.as_ref()),
            id: key.key_id,
        }
    }

    fn card(&self, rotation: &v1::Rotation) -> RotationCard {
        let laggards = rotation.laggards.iter().take(NAMED).map(|laggard| LaggardRow {
            instance: laggard.instance.clone(),
            online: laggard.online,
            seen: self.moment(laggard.last_seen_time.as_ref()),
            waiting: self.moment(laggard.waiting_since_time.as_ref()),
            reason: laggard.reason.clone(),
        });
        let paused = rotation.state() == v1::RotationState::Paused;
        let phases = rotation.phases.iter().map(|phase| (phase.clone(), *phase == rotation.phase));
        let or_empty = |text: &str| if text.is_empty() { String::new() } else { sentence(text) };
        RotationCard {
            subject: rotation.subject.clone(),
            state: lower(rotation.state().as_str_name(), "ROTATION_STATE_"),
            turns: paused || rotation.state() == v1::RotationState::Running,
            paused,
            phases: phases.collect(),
            gate: rotation.gate.clone(),
            acknowledged: (rotation.acknowledged, rotation.participants),
            laggards: laggards.collect(),
            unnamed: unnamed(rotation),
            began: self.moment(rotation.begin_time.as_ref()),
            creator: rotation.creator.clone(),
            deadline: self.moment(rotation.deadline_time.as_ref()),
            reason: or_empty(&rotation.reason),
            next: or_empty(&rotation.next_step),
        }
    }
}

/// How many laggards a page does not name: the answer itself names some of many only.
fn unnamed(rotation: &v1::Rotation) -> usize {
    if rotation.laggards.len() <= NAMED {
        return 0;
    }
    let missing = rotation.participants.saturating_sub(rotation.acknowledged) as usize;
    missing.max(rotation.laggards.len()) - NAMED
}
