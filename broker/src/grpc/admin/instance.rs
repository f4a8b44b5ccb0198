//! Instances: what ops do with them, and how the contract writes them.

use homeward_certs::identity::InstanceName;
use homeward_proto::v1;
use tonic::Status;

use crate::enrolment::PolicyChange;
use crate::grpc::admin::page::page;
use crate::grpc::admin::{MAX_NOTE, Service, name, trust};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::{Instance, InstanceState, RecoveryPolicyError, Sighting, SigningKeyChoice};

impl Service {
    pub(super) fn find(&self, name: &InstanceName) -> Result<v1::Instance, Status> {
        let snapshot = self.registry.snapshot();
        let found = snapshot.instance(name).ok_or_else(|| status::refused(Reason::InstanceUnknown))?;
        Ok(v1::Instance { trust_problems: trust::problems(found, &snapshot), ..self.instance(found) })
    }

    pub(super) fn instances(&self, request: &v1::ListInstancesRequest) -> v1::ListInstancesResponse {
        let snapshot = self.registry.snapshot();
        let mut all: Vec<_> =
            snapshot.instances().map(|instance| (instance.name.to_string(), self.instance(instance))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (instances, next_page_token) = page(all, request.page_size, &request.page_token);
        v1::ListInstancesResponse { instances, next_page_token }
    }

    pub(super) async fn quarantine(&self, request: &v1::QuarantineInstanceRequest) -> Result<v1::Instance, Status> {
        let (name, reason) = (name(&request.name)?, request.reason.trim());
        if reason.is_empty() || reason.chars().count() > MAX_NOTE || reason.chars().any(char::is_control) {
            return Err(status::refused(Reason::FieldInvalid("reason")));
        }
        let done = self.enrolment.quarantine(&name, reason, self.clock.now()).await;
        done.map_err(|error| status::enrolment(&error))?;
        self.find(&name)
    }

    pub(super) async fn set_policy(&self, request: v1::SetInstancePolicyRequest) -> Result<v1::Instance, Status> {
        let (name, wanted) = (name(&request.name)?, request.policy.unwrap_or_default());
        let recovery = Some(wanted.recovery.as_str()).filter(|text| !text.is_empty()).map(str::parse);
        let wanted = PolicyChange {
            recovery: recovery.transpose().map_err(|error: RecoveryPolicyError| status::invalid(&error))?,
            signing_key_choice: match wanted.signing_key_choice() {
                v1::SigningKeyChoice::Unspecified => None,
                v1::SigningKeyChoice::Active => Some(SigningKeyChoice::Active),
                v1::SigningKeyChoice::Acknowledged => Some(SigningKeyChoice::Acknowledged),
            },
        };
        self.enrolment.set_policy(&name, wanted).await.map_err(|error| status::enrolment(&error))?;
        self.find(&name)
    }

    fn instance(&self, instance: &Instance) -> v1::Instance {
        shown(instance, self.fleet.liveness().sighting(&instance.name))
    }
}

/// An instance, and what was last heard of its agent.
fn shown(instance: &Instance, seen: Option<Sighting>) -> v1::Instance {
    let party = instance.relying_party.as_ref();
    let (state, quarantine_reason) = match &instance.state {
        InstanceState::Claimed { .. } => (v1::InstanceState::Claimed, String::new()),
        InstanceState::Confirmed => (v1::InstanceState::Confirmed, String::new()),
        InstanceState::Quarantined { reason, .. } => (v1::InstanceState::Quarantined, reason.clone()),
    };
    let newest = instance.pending_certificate.as_ref().unwrap_or(&instance.certificate);
    let signing_key_choice = match party.map(|party| party.signing_key_choice).unwrap_or_default() {
        SigningKeyChoice::Active => v1::SigningKeyChoice::Active,
        SigningKeyChoice::Acknowledged => v1::SigningKeyChoice::Acknowledged,
    };
    let policy =
        v1::InstancePolicy { recovery: instance.recovery.to_string(), signing_key_choice: signing_key_choice.into() };
    let mut shown = v1::Instance {
        name: instance.name.to_string(),
        display_name: instance.display_name.clone(),
        public_url: instance.public_url.clone(),
        state: state.into(),
        client_id: party.map(|party| party.client_id.to_string()).unwrap_or_default(),
        redirect_uris: party.map(|party| party.redirect_uris.clone()).unwrap_or_default(),
        portal_url: instance.home.as_ref().map(|home| home.portal_url.clone()).unwrap_or_default(),
        enrol_time: Some(wire_time(instance.enrolled_at)),
        certificate_expire_time: Some(wire_time(newest.not_after)),
        quarantine_reason,
        certificate_generation: instance.certificate.generation,
        policy: Some(policy),
        account_key: party.map(|party| party.policy.account_key.as_str().to_owned()).unwrap_or_default(),
        ..v1::Instance::default()
    };
    if let Some(seen) = seen {
        shown.online = seen.online;
        shown.last_seen_time = Some(wire_time(seen.last_seen_at));
        shown.agent_version = seen.agent_version;
        shown.applied_revision = seen.applied_revision;
        shown.wanted_revision = seen.wanted_revision;
        let refusal = seen.refusals.values().next();
        shown.problem = refusal.map_or(seen.problem, |refusal| format!("{}: {}", refusal.reason, refusal.detail));
        shown.acknowledged_key_ids = seen.acknowledged.key_ids;
        shown.trust_bundle_version = seen.acknowledged.bundle_version;
        shown.secret_version = seen.acknowledged.secret_version;
    }
    shown
}
