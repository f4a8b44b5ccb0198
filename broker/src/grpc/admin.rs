//! `homeward.v1.AdminService`.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::{InstanceName, NameError};
use homeward_certs::join_token::JoinTokenId;
use homeward_proto::v1;
use homeward_proto::v1::admin_service_server::AdminService;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use crate::clock::{Clock, Timestamp};
use crate::enrolment::{Enrolment, JoinTokenOrder, JoinTokenState, ListedJoinToken};
use crate::fleet::Fleet;
use crate::grpc::authorization::OpsUser;
use crate::grpc::rotation::{self, Order};
use crate::grpc::status::{self, Reason};
use crate::grpc::{Services, wire_time};
use crate::registry::{EmailDomain, Instance, InstanceState, Registry, TrustEdge, TrustEdgeId};
use crate::rotation::{Rotations, StoredRotation};

/// How long a join token lives if nobody says otherwise.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Longest page, and longest note.
const MAX_PAGE: usize = 1000;
const MAX_NOTE: usize = 256;

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    enrolment: Arc<Enrolment>,
    fleet: Arc<Fleet>,
    registry: Registry,
    rotations: Arc<Rotations>,
    clock: Clock,
}

impl Service {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            enrolment: services.enrolment.clone(),
            fleet: services.fleet.clone(),
            registry: services.registry.clone(),
            rotations: services.rotations.clone(),
            clock: services.clock.clone(),
        }
    }

    /// A rotation with its gate.
    async fn shown(&self, stored: StoredRotation, now: Timestamp) -> Result<v1::Rotation, Status> {
        let shown = self.rotations.status_of(stored, now).await.map_err(|error| status::rotation(&error))?;
        Ok(rotation::rotation(&shown))
    }

    fn instance(&self, instance: &Instance) -> v1::Instance {
        let seen = self.fleet.liveness().sighting(&instance.name);
        let party = instance.relying_party.as_ref();
        let (state, quarantine_reason) = match &instance.state {
            InstanceState::Claimed { .. } => (v1::InstanceState::Claimed, String::new()),
            InstanceState::Confirmed => (v1::InstanceState::Confirmed, String::new()),
            InstanceState::Quarantined { reason, .. } => (v1::InstanceState::Quarantined, reason.clone()),
        };
        let newest = instance.pending_certificate.as_ref().unwrap_or(&instance.certificate);
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
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let creator = creator(&request);
        let request = request.into_inner();
        let lifetime = request.lifetime_duration.map(Duration::try_from).transpose();
        if request.note.chars().count() > MAX_NOTE || request.note.chars().any(char::is_control) {
            return Err(status::refused(Reason::FieldInvalid("note")));
        }
        let order = JoinTokenOrder {
            instance: name(&request.instance)?,
            lifetime: lifetime
                .map_err(|_| status::refused(Reason::FieldInvalid("lifetime_duration")))?
                .unwrap_or(TOKEN_LIFETIME),
            replace: request.replace,
            creator,
            note: request.note,
        };
        let now = self.clock.now();
        let (text, listed) =
            self.enrolment.create_token(order, now).await.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::CreateJoinTokenResponse {
            text: text.expose_secret().to_owned(),
            join_token: Some(join_token(&listed, now)),
        }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let request = request.into_inner();
        let now = self.clock.now();
        let all = self.enrolment.list_tokens().await.map_err(|error| status::enrolment(&error))?;
        let tokens = all.iter().map(|listed| (listed.id.to_string(), join_token(listed, now))).collect();
        let (join_tokens, next_page_token) = page(tokens, request.page_size, &request.page_token);
        Ok(Response::new(v1::ListJoinTokensResponse { join_tokens, next_page_token }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let id = request.into_inner().id.parse::<JoinTokenId>().map_err(|error| status::invalid(&error))?;
        let listed = self.enrolment.revoke_token(id).await.map_err(|error| status::enrolment(&error))?;
        let join_token = Some(join_token(&listed, self.clock.now()));
        Ok(Response::new(v1::RevokeJoinTokenResponse { join_token }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        let request = request.into_inner();
        let snapshot = self.registry.snapshot();
        let mut all: Vec<_> =
            snapshot.instances().map(|instance| (instance.name.to_string(), self.instance(instance))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (instances, next_page_token) = page(all, request.page_size, &request.page_token);
        Ok(Response::new(v1::ListInstancesResponse { instances, next_page_token }))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::GetInstanceResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let snapshot = self.registry.snapshot();
        let instance = snapshot.instance(&name).ok_or_else(|| status::refused(Reason::InstanceUnknown))?;
        Ok(Response::new(v1::GetInstanceResponse { instance: Some(self.instance(instance)) }))
    }

    async fn allow_trust(
        &self,
        request: Request<v1::AllowTrustRequest>,
    ) -> Result<Response<v1::AllowTrustResponse>, Status> {
        let wanted = request.into_inner().trust_edge.unwrap_or_default();
        let domains = wanted.email_domains.iter().map(|domain| domain.parse::<EmailDomain>());
        let edge = TrustEdge {
            id: TrustEdgeId { relying_party: name(&wanted.relying_party)?, home: name(&wanted.home)? },
            email_domains: domains.collect::<Result<_, _>>().map_err(|error| status::invalid(&error))?,
            updated_at: self.clock.now(),
        };
        let edge = self.registry.allow_trust(edge).await.map_err(|error| status::trust(&error))?;
        Ok(Response::new(v1::AllowTrustResponse { trust_edge: Some(trust_edge(&edge)) }))
    }

    async fn list_trust_edges(
        &self,
        request: Request<v1::ListTrustEdgesRequest>,
    ) -> Result<Response<v1::ListTrustEdgesResponse>, Status> {
        let request = request.into_inner();
        let snapshot = self.registry.snapshot();
        let mut all: Vec<_> = snapshot.edges().map(|edge| (edge.id.key(), trust_edge(edge))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (trust_edges, next_page_token) = page(all, request.page_size, &request.page_token);
        Ok(Response::new(v1::ListTrustEdgesResponse { trust_edges, next_page_token }))
    }

    async fn quarantine_instance(
        &self,
        request: Request<v1::QuarantineInstanceRequest>,
    ) -> Result<Response<v1::QuarantineInstanceResponse>, Status> {
        drop(request);
        Err(Status::unimplemented("not yet"))
    }

    async fn release_instance(
        &self,
        request: Request<v1::ReleaseInstanceRequest>,
    ) -> Result<Response<v1::ReleaseInstanceResponse>, Status> {
        drop(request);
        Err(Status::unimplemented("not yet"))
    }

    async fn evict_instance(
        &self,
        request: Request<v1::EvictInstanceRequest>,
    ) -> Result<Response<v1::EvictInstanceResponse>, Status> {
        drop(request);
        Err(Status::unimplemented("not yet"))
    }

    async fn set_instance_policy(
        &self,
        request: Request<v1::SetInstancePolicyRequest>,
    ) -> Result<Response<v1::SetInstancePolicyResponse>, Status> {
        drop(request);
        Err(Status::unimplemented("not yet"))
    }

    async fn list_signing_keys(
        &self,
        request: Request<v1::ListSigningKeysRequest>,
    ) -> Result<Response<v1::ListSigningKeysResponse>, Status> {
        let request = request.into_inner();
        let all = self.rotations.signing_keys().await.map_err(|error| status::rotation(&error))?;
        let keys = all.iter().map(|(kid, key)| (kid.clone(), rotation::signing_key(kid, key))).collect();
        let (signing_keys, next_page_token) = page(keys, request.page_size, &request.page_token);
        Ok(Response::new(v1::ListSigningKeysResponse { signing_keys, next_page_token }))
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityResponse>, Status> {
        drop(request);
        Err(Status::unimplemented("not yet"))
    }

    async fn begin_rotation(
        &self,
        request: Request<v1::BeginRotationRequest>,
    ) -> Result<Response<v1::BeginRotationResponse>, Status> {
        let creator = creator(&request);
        let request = request.into_inner();
        let (urgency, now) = (rotation::urgency(request.compromised), self.clock.now());
        let begun = match rotation::order(&request.subject)? {
            Order::AllSecrets => self.rotations.begin_all_secrets(urgency, &creator, now).await,
            Order::These(subjects) => self.rotations.begin_each(subjects, urgency, &creator, now).await,
        };
        let begun = begun.map_err(|error| status::rotation(&error))?;
        let mut rotations = Vec::with_capacity(begun.len());
        for one in begun {
            rotations.push(self.shown(one, now).await?);
        }
        Ok(Response::new(v1::BeginRotationResponse { rotations }))
    }

    async fn roll_back_rotation(
        &self,
        request: Request<v1::RollBackRotationRequest>,
    ) -> Result<Response<v1::RollBackRotationResponse>, Status> {
        let (subject, now) = (rotation::subject(&request.into_inner().subject)?, self.clock.now());
        let back = self.rotations.roll_back(&subject, now).await.map_err(|error| status::rotation(&error))?;
        Ok(Response::new(v1::RollBackRotationResponse { rotation: Some(self.shown(back, now).await?) }))
    }

    async fn resume_rotation(
        &self,
        request: Request<v1::ResumeRotationRequest>,
    ) -> Result<Response<v1::ResumeRotationResponse>, Status> {
        let request = request.into_inner();
        let (subject, now) = (rotation::subject(&request.subject)?, self.clock.now());
        let resumed = match request.force {
            true => self.rotations.force(&subject, now).await,
            false => self.rotations.resume(&subject, now).await,
        };
        let resumed = resumed.map_err(|error| status::rotation(&error))?;
        let left_behind = resumed.left_behind.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::ResumeRotationResponse { rotation: Some(self.shown(resumed, now).await?), left_behind }))
    }

    async fn get_rotation_status(
        &self,
        request: Request<v1::GetRotationStatusRequest>,
    ) -> Result<Response<v1::GetRotationStatusResponse>, Status> {
        let wanted = request.into_inner().subject;
        let subject = if wanted.is_empty() { None } else { Some(rotation::subject(&wanted)?) };
        let all = self.rotations.status(subject.as_ref(), self.clock.now()).await;
        let all = all.map_err(|error| status::rotation(&error))?;
        Ok(Response::new(v1::GetRotationStatusResponse { rotations: all.iter().map(rotation::rotation).collect() }))
    }

    async fn get_rotation_plan(
        &self,
        request: Request<v1::GetRotationPlanRequest>,
    ) -> Result<Response<v1::GetRotationPlanResponse>, Status> {
        let horizon = request.into_inner().horizon_duration.map(Duration::try_from).transpose();
        let horizon = horizon.map_err(|_| status::refused(Reason::FieldInvalid("horizon_duration")))?;
        let now = self.clock.now();
        let end = now + horizon.unwrap_or(rotation::HORIZON);
        let plan = self.rotations.plan(now).await.map_err(|error| status::rotation(&error))?;
        let moves = plan.iter().filter(|planned| planned.at <= end).map(rotation::planned_move).collect();
        Ok(Response::new(v1::GetRotationPlanResponse { moves }))
    }
}

/// Who of ops asks.
fn creator<T>(request: &Request<T>) -> String {
    request.extensions().get::<OpsUser>().map_or_else(String::new, |ops| format!("uid={}", ops.0))
}

fn name(text: &str) -> Result<InstanceName, Status> {
    text.parse().map_err(|error: NameError| status::invalid(&error))
}

/// The entries behind the one that the token names, and the token of the next page.
fn page<T>(all: Vec<(String, T)>, size: i32, token: &str) -> (Vec<T>, String) {
    let size = usize::try_from(size).ok().filter(|size| (1..=MAX_PAGE).contains(size)).unwrap_or(MAX_PAGE);
    let begin = match all.iter().position(|(key, _)| key == token) {
        Some(last) => last + 1,
        None => 0,
    };
    let more = all.len() > begin + size;
    let (mut entries, mut next) = (Vec::new(), String::new());
    for (key, entry) in all.into_iter().skip(begin).take(size) {
        next = key;
        entries.push(entry);
    }
    (entries, if more { next } else { String::new() })
}

fn join_token(listed: &ListedJoinToken, now: Timestamp) -> v1::JoinToken {
    let token = &listed.token;
    let state = match token.state {
        JoinTokenState::Issued if token.expires_at <= now => v1::JoinTokenState::Expired,
        JoinTokenState::Issued => v1::JoinTokenState::Issued,
        JoinTokenState::Claimed(_) => v1::JoinTokenState::Claimed,
        JoinTokenState::Confirmed(_) => v1::JoinTokenState::Confirmed,
        JoinTokenState::Revoked => v1::JoinTokenState::Revoked,
    };
    v1::JoinToken {
        id: listed.id.to_string(),
        instance: token.instance.to_string(),
        create_time: Some(wire_time(token.created_at)),
        expire_time: Some(wire_time(token.expires_at)),
        state: state.into(),
        creator: token.creator.clone(),
        note: token.note.clone(),
    }
}

fn trust_edge(edge: &TrustEdge) -> v1::TrustEdge {
    v1::TrustEdge {
        relying_party: edge.id.relying_party.to_string(),
        home: edge.id.home.to_string(),
        email_domains: edge.email_domains.iter().map(ToString::to_string).collect(),
        update_time: Some(wire_time(edge.updated_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let all = || (0..5).map(|n| (format!("k{n}"), n)).collect::<Vec<_>>();
        assert_eq!(page(all(), 2, ""), (vec![0, 1], "k1".into()));
        assert_eq!(page(all(), 2, "k1"), (vec![2, 3], "k3".into()));
        assert_eq!(page(all(), 2, "k3"), (vec![4], String::new()));
        assert_eq!(page(all(), 0, ""), (vec![0, 1, 2, 3, 4], String::new()));
    }
}
