//! `homeward.v1.AdminService`. What ops are shown is made in `wire`; what concerns rotations, in `rotation`;
//! what concerns clients, in `registration`; homes without agent, in `upstream`; sessions and logouts, in `session`; trust
//! edges, in `trust` and `explain`; the keys that seal, in `kek`; the certificate of the public address, in `tls`; backups, in
//! `backup`; the audit, in `audit`; the way into the web console, in `console`.

mod audit;
mod backup;
mod console;
mod explain;
mod kek;
mod link;
mod registration;
mod rotation;
mod session;
mod tls;
mod trust;
mod upstream;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::{InstanceName, NameError};
use homeward_certs::join_token::JoinTokenId;
use homeward_proto::v1;
use homeward_proto::v1::admin_service_server::AdminService;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::audit::Audit;
use crate::authority::{Authority, CaState};
use crate::brokers::Brokers;
use crate::clock::{Clock, Timestamp};
use crate::config::{InForce, Issuer};
use crate::console::Console;
use crate::enrolment::{Enrolment, JoinTokenOrder, PolicyChange};
use crate::fleet::Fleet;
use crate::grpc::Services;
use crate::grpc::authorization::{ConsoleUser, OpsUser};
use crate::grpc::status::{self, Reason};
use crate::grpc::users::Users;
use crate::login::Login;
use crate::registry::{Instance, RecoveryPolicyError, Registry, SigningKeyChoice};
use crate::rotation::{Rotations, StoredRotation};
use crate::secret::KeyTurn;
use crate::storage::Store;
use crate::tls::PublicTls;
use crate::upstream::Upstreams;
use rotation::Order;

/// How long a join token lives if nobody says otherwise.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Longest page, and longest note.
const MAX_PAGE: usize = 1000;
const MAX_NOTE: usize = 256;

/// The service.
pub(super) struct Service {
    store: Arc<dyn Store>,
    enrolment: Arc<Enrolment>,
    authority: Arc<Authority>,
    fleet: Arc<Fleet>,
    login: Login,
    registry: Registry,
    rotations: Arc<Rotations>,
    key_turn: KeyTurn,
    users: Users,
    upstreams: Upstreams,
    brokers: Brokers,
    settings: InForce,
    tls: PublicTls,
    audit: Audit,
    console: Console,
    /// Whether no other broker can be at this store.
    alone: bool,
    issuer: Issuer,
    clock: Clock,
}

impl Service {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            store: services.store.clone(),
            enrolment: services.enrolment.clone(),
            authority: services.authority.clone(),
            fleet: services.fleet.clone(),
            login: services.login.clone(),
            registry: services.registry.clone(),
            rotations: services.rotations.clone(),
            key_turn: services.key_turn.clone(),
            users: Users::new(services),
            upstreams: services.upstreams.clone(),
            brokers: services.brokers.clone(),
            settings: services.settings.clone(),
            tls: services.tls.clone(),
            audit: services.audit.clone(),
            console: services.console.clone(),
            alone: services.brokers.are_alone(),
            issuer: services.issuer.clone(),
            clock: services.clock.clone(),
        }
    }

    /// A rotation with its gate.
    async fn shown(&self, stored: StoredRotation, now: Timestamp) -> Result<v1::Rotation, Status> {
        let shown = self.rotations.status_of(stored, now).await.map_err(|error| status::rotation(&error))?;
        Ok(rotation::rotation(&shown))
    }

    fn find(&self, name: &InstanceName) -> Result<v1::Instance, Status> {
        let snapshot = self.registry.snapshot();
        let found = snapshot.instance(name).ok_or_else(|| status::refused(Reason::InstanceUnknown))?;
        Ok(v1::Instance { trust_problems: trust::problems(found, &snapshot), ..self.instance(found) })
    }

    /// How many instances hold a good certificate of which CA.
    fn holders(&self, state: &CaState) -> HashMap<String, u32> {
        let (now, mut holders) = (self.clock.now(), HashMap::new());
        for instance in self.registry.snapshot().instances() {
            let certificates = std::iter::once(&instance.certificate).chain(&instance.pending_certificate);
            let good = certificates.filter(|certificate| now < certificate.not_after);
            // One that is between two CAs counts for both, because both must stay.
            let of: BTreeSet<String> = good.map(|certificate| state.pin_of(certificate.authority.as_deref())).collect();
            of.into_iter().for_each(|pin| *holders.entry(pin).or_default() += 1);
        }
        holders
    }

    fn living(&self) -> Vec<v1::Broker> {
        wire::brokers(&self.brokers, &self.fleet.liveness().agents_by_broker())
    }

    fn instance(&self, instance: &Instance) -> v1::Instance {
        wire::instance(instance, self.fleet.liveness().sighting(&instance.name))
    }
}

#[tonic::async_trait]
impl AdminService for Service {
    type BackUpStream = backup::Chunks;

    async fn back_up(&self, _: Request<v1::BackUpRequest>) -> Result<Response<Self::BackUpStream>, Status> {
        Ok(Response::new(self.begin_backup()))
    }

    type ReadAuditStream = audit::Lines;

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<Self::ReadAuditStream>, Status> {
        Ok(Response::new(self.read(request.into_inner()).await))
    }

    type VerifyAuditStream = audit::Verdicts;

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<Self::VerifyAuditStream>, Status> {
        let v1::VerifyAuditRequest {} = request.into_inner();
        Ok(Response::new(self.verify().await))
    }

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
            join_token: Some(wire::join_token(&listed, now)),
        }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let request = request.into_inner();
        let now = self.clock.now();
        let all = self.enrolment.list_tokens().await.map_err(|error| status::enrolment(&error))?;
        let tokens = all.iter().map(|listed| (listed.id.to_string(), wire::join_token(listed, now))).collect();
        let (join_tokens, next_page_token) = page(tokens, request.page_size, &request.page_token);
        Ok(Response::new(v1::ListJoinTokensResponse { join_tokens, next_page_token }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let id = request.into_inner().id.parse::<JoinTokenId>().map_err(|error| status::invalid(&error))?;
        let listed = self.enrolment.revoke_token(id).await.map_err(|error| status::enrolment(&error))?;
        let join_token = Some(wire::join_token(&listed, self.clock.now()));
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
        Ok(Response::new(v1::GetInstanceResponse { instance: Some(self.find(&name)?) }))
    }

    async fn allow_trust(
        &self,
        request: Request<v1::AllowTrustRequest>,
    ) -> Result<Response<v1::AllowTrustResponse>, Status> {
        let wanted = request.into_inner().trust_edge.unwrap_or_default();
        Ok(Response::new(v1::AllowTrustResponse { trust_edge: Some(self.allow(&wanted).await?) }))
    }

    async fn deny_trust(
        &self,
        request: Request<v1::DenyTrustRequest>,
    ) -> Result<Response<v1::DenyTrustResponse>, Status> {
        self.deny(&request.into_inner()).await?;
        Ok(Response::new(v1::DenyTrustResponse {}))
    }

    async fn explain_trust(
        &self,
        request: Request<v1::ExplainTrustRequest>,
    ) -> Result<Response<v1::ExplainTrustResponse>, Status> {
        Ok(Response::new(self.explain(&request.into_inner()).await?))
    }

    async fn put_upstream(
        &self,
        request: Request<v1::PutUpstreamRequest>,
    ) -> Result<Response<v1::PutUpstreamResponse>, Status> {
        self.put(request.into_inner()).await.map(Response::new)
    }

    async fn list_upstreams(
        &self,
        request: Request<v1::ListUpstreamsRequest>,
    ) -> Result<Response<v1::ListUpstreamsResponse>, Status> {
        Ok(Response::new(self.list_of_upstreams(&request.into_inner())))
    }

    async fn remove_upstream(
        &self,
        request: Request<v1::RemoveUpstreamRequest>,
    ) -> Result<Response<v1::RemoveUpstreamResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        self.enrolment.remove_upstream(&name).await.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::RemoveUpstreamResponse {}))
    }

    async fn list_trust_edges(
        &self,
        request: Request<v1::ListTrustEdgesRequest>,
    ) -> Result<Response<v1::ListTrustEdgesResponse>, Status> {
        Ok(Response::new(self.trust_edges(&request.into_inner())))
    }

    async fn quarantine_instance(
        &self,
        request: Request<v1::QuarantineInstanceRequest>,
    ) -> Result<Response<v1::QuarantineInstanceResponse>, Status> {
        let request = request.into_inner();
        let (name, reason) = (name(&request.name)?, request.reason.trim());
        if reason.is_empty() || reason.chars().count() > MAX_NOTE || reason.chars().any(char::is_control) {
            return Err(status::refused(Reason::FieldInvalid("reason")));
        }
        let done = self.enrolment.quarantine(&name, reason, self.clock.now()).await;
        done.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::QuarantineInstanceResponse { instance: Some(self.find(&name)?) }))
    }

    async fn release_instance(
        &self,
        request: Request<v1::ReleaseInstanceRequest>,
    ) -> Result<Response<v1::ReleaseInstanceResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        self.enrolment.release(&name).await.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::ReleaseInstanceResponse { instance: Some(self.find(&name)?) }))
    }

    async fn evict_instance(
        &self,
        request: Request<v1::EvictInstanceRequest>,
    ) -> Result<Response<v1::EvictInstanceResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let evicted = self.enrolment.evict(&name).await.map_err(|error| status::enrolment(&error))?;
        let trust_edges_removed = u32::try_from(evicted.trust_edges).unwrap_or(u32::MAX);
        Ok(Response::new(v1::EvictInstanceResponse { trust_edges_removed }))
    }

    async fn set_instance_policy(
        &self,
        request: Request<v1::SetInstancePolicyRequest>,
    ) -> Result<Response<v1::SetInstancePolicyResponse>, Status> {
        let request = request.into_inner();
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
        Ok(Response::new(v1::SetInstancePolicyResponse { instance: Some(self.find(&name)?) }))
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
        let v1::GetAuthorityRequest {} = request.into_inner();
        let state = self.authority.state();
        let holders = self.holders(&state);
        let certificates = state.authorities().into_iter().map(|ca| wire::authority_certificate(&ca, &holders));
        Ok(Response::new(v1::GetAuthorityResponse {
            trust_bundle_version: state.bundle.version,
            certificates: certificates.collect(),
            phase: state.phase.map(|phase| phase.to_string()).unwrap_or_default(),
        }))
    }

    async fn begin_rotation(
        &self,
        request: Request<v1::BeginRotationRequest>,
    ) -> Result<Response<v1::BeginRotationResponse>, Status> {
        let creator = creator(&request);
        let request = request.into_inner();
        let (urgency, now) = (rotation::urgency(&request), self.clock.now());
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

    type RotateKeyEncryptionKeyStream = kek::Turning;

    async fn rotate_key_encryption_key(
        &self,
        request: Request<v1::RotateKeyEncryptionKeyRequest>,
    ) -> Result<Response<Self::RotateKeyEncryptionKeyStream>, Status> {
        info!(by = creator(&request), "the keys that seal are turned");
        let v1::RotateKeyEncryptionKeyRequest {} = request.into_inner();
        Ok(Response::new(self.turn_kek()))
    }

    async fn get_key_encryption_key(
        &self,
        request: Request<v1::GetKeyEncryptionKeyRequest>,
    ) -> Result<Response<v1::GetKeyEncryptionKeyResponse>, Status> {
        let v1::GetKeyEncryptionKeyRequest {} = request.into_inner();
        self.show_kek().await.map(Response::new)
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Ok(Response::new(self.sessions(request.into_inner()).await?))
    }

    async fn end_sessions(
        &self,
        request: Request<v1::EndSessionsRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Status> {
        let which = request.into_inner().which.ok_or_else(|| status::refused(Reason::FieldInvalid("which")))?;
        Ok(Response::new(self.end(which).await?))
    }

    async fn list_logouts(
        &self,
        request: Request<v1::ListLogoutsRequest>,
    ) -> Result<Response<v1::ListLogoutsResponse>, Status> {
        Ok(Response::new(self.logouts(request.into_inner()).await?))
    }

    async fn retry_logout(
        &self,
        request: Request<v1::RetryLogoutRequest>,
    ) -> Result<Response<v1::RetryLogoutResponse>, Status> {
        let logout = self.retry(&request.into_inner().id).await?;
        Ok(Response::new(v1::RetryLogoutResponse { logout: Some(logout) }))
    }

    async fn list_links(
        &self,
        request: Request<v1::ListLinksRequest>,
    ) -> Result<Response<v1::ListLinksResponse>, Status> {
        Ok(Response::new(self.links(&request.into_inner()).await?))
    }

    async fn end_link(&self, request: Request<v1::EndLinkRequest>) -> Result<Response<v1::EndLinkResponse>, Status> {
        Ok(Response::new(self.unlink(&request.into_inner().id).await?))
    }

    async fn get_login_counts(
        &self,
        request: Request<v1::GetLoginCountsRequest>,
    ) -> Result<Response<v1::GetLoginCountsResponse>, Status> {
        let v1::GetLoginCountsRequest {} = request.into_inner();
        Ok(Response::new(self.login_counts().await?))
    }

    async fn open_registration(
        &self,
        request: Request<v1::OpenRegistrationRequest>,
    ) -> Result<Response<v1::OpenRegistrationResponse>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn list_registrations(
        &self,
        request: Request<v1::ListRegistrationsRequest>,
    ) -> Result<Response<v1::ListRegistrationsResponse>, Status> {
        Ok(Response::new(self.registrations(&request.into_inner())))
    }

    async fn close_registration(
        &self,
        request: Request<v1::CloseRegistrationRequest>,
    ) -> Result<Response<v1::CloseRegistrationResponse>, Status> {
        self.close(&request.into_inner()).await.map(Response::new)
    }

    async fn list_clients(
        &self,
        request: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        Ok(Response::new(self.clients(&request.into_inner())))
    }

    async fn set_client_policy(
        &self,
        request: Request<v1::SetClientPolicyRequest>,
    ) -> Result<Response<v1::SetClientPolicyResponse>, Status> {
        self.change_client(request.into_inner()).await.map(Response::new)
    }

    async fn list_brokers(
        &self,
        request: Request<v1::ListBrokersRequest>,
    ) -> Result<Response<v1::ListBrokersResponse>, Status> {
        let v1::ListBrokersRequest {} = request.into_inner();
        Ok(Response::new(v1::ListBrokersResponse { brokers: self.living() }))
    }

    async fn list_settings(
        &self,
        request: Request<v1::ListSettingsRequest>,
    ) -> Result<Response<v1::ListSettingsResponse>, Status> {
        let v1::ListSettingsRequest {} = request.into_inner();
        let settings = self.settings.all().into_iter().map(wire::setting).collect();
        Ok(Response::new(v1::ListSettingsResponse { settings }))
    }

    async fn get_public_certificate(
        &self,
        request: Request<v1::GetPublicCertificateRequest>,
    ) -> Result<Response<v1::GetPublicCertificateResponse>, Status> {
        let v1::GetPublicCertificateRequest {} = request.into_inner();
        Ok(Response::new(self.public_certificate()))
    }

    async fn renew_public_certificate(
        &self,
        request: Request<v1::RenewPublicCertificateRequest>,
    ) -> Result<Response<v1::RenewPublicCertificateResponse>, Status> {
        let v1::RenewPublicCertificateRequest {} = request.into_inner();
        if !self.tls.has_source() {
            return Err(status::refused(Reason::CertificateElsewhere));
        }
        self.tls.renew().await.map_err(|error| status::store(&error))?;
        Ok(Response::new(v1::RenewPublicCertificateResponse {}))
    }

    async fn create_console_code(
        &self,
        request: Request<v1::CreateConsoleCodeRequest>,
    ) -> Result<Response<v1::CreateConsoleCodeResponse>, Status> {
        Ok(Response::new(self.console_code(&creator(&request)).await?))
    }

    async fn list_console_sessions(
        &self,
        request: Request<v1::ListConsoleSessionsRequest>,
    ) -> Result<Response<v1::ListConsoleSessionsResponse>, Status> {
        let v1::ListConsoleSessionsRequest {} = request.into_inner();
        Ok(Response::new(v1::ListConsoleSessionsResponse { console_sessions: self.console_sessions().await? }))
    }

    async fn end_console_session(
        &self,
        request: Request<v1::EndConsoleSessionRequest>,
    ) -> Result<Response<v1::EndConsoleSessionResponse>, Status> {
        self.end_console_session(&request.into_inner().id).await?;
        Ok(Response::new(v1::EndConsoleSessionResponse {}))
    }
}

/// Who of ops asks.
fn creator<T>(request: &Request<T>) -> String {
    let at_console = || request.extensions().get::<ConsoleUser>().map(|user| format!("console:{}", user.0));
    let on_machine = request.extensions().get::<OpsUser>().map(|ops| format!("uid={}", ops.0));
    on_machine.or_else(at_console).unwrap_or_default()
}

fn name(text: &str) -> Result<InstanceName, Status> {
    text.parse().map_err(|error: NameError| status::invalid(&error))
}

/// How many entries a page has.
fn page_size(size: i32) -> usize {
    usize::try_from(size).ok().filter(|size| (1..=MAX_PAGE).contains(size)).unwrap_or(MAX_PAGE)
}

/// The entries behind the one that the token names, and the token of the next page.
fn page<T>(all: Vec<(String, T)>, size: i32, token: &str) -> (Vec<T>, String) {
    let size = page_size(size);
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
