//! `homeward.v1.AdminService`: the methods, which Rust wants in one place. What they do, and how the contract writes what ops
//! are shown, has a file for each noun.

mod audit;
mod authority;
mod backup;
mod broker;
mod console;
mod explain;
mod instance;
mod join_token;
mod kek;
mod link;
mod page;
mod registration;
mod rotation;
mod session;
mod tls;
mod trust;
mod upstream;

use std::sync::Arc;

use homeward_certs::identity::{InstanceName, NameError};
use homeward_proto::v1;
use homeward_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::audit::Audit;
use crate::authority::Authority;
use crate::brokers::Brokers;
use crate::clock::Clock;
use crate::config::{InForce, Issuer};
use crate::console::Console;
use crate::enrolment::Enrolment;
use crate::fleet::Fleet;
use crate::grpc::Services;
use crate::grpc::authorization::{ConsoleUser, OpsUser};
use crate::grpc::status::{self, Reason};
use crate::grpc::users::Users;
use crate::login::Login;
use crate::registry::Registry;
use crate::rotation::Rotations;
use crate::secret::KeyTurn;
use crate::storage::Store;
use crate::tls::PublicTls;
use crate::upstream::Upstreams;

/// Longest note.
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
        self.read(request.into_inner()).await.map(Response::new)
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
        self.create_token(request.into_inner(), creator).await.map(Response::new)
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        self.join_tokens(&request.into_inner()).await.map(Response::new)
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let join_token = self.revoke_token(&request.into_inner().id).await?;
        Ok(Response::new(v1::RevokeJoinTokenResponse { join_token: Some(join_token) }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        Ok(Response::new(self.instances(&request.into_inner())))
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
        Ok(Response::new(v1::AllowTrustResponse { trust_edge: Some(self.allow(&request.into_inner()).await?) }))
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
        let instance = Some(self.quarantine(&request.into_inner()).await?);
        Ok(Response::new(v1::QuarantineInstanceResponse { instance }))
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
        let instance = Some(self.set_policy(request.into_inner()).await?);
        Ok(Response::new(v1::SetInstancePolicyResponse { instance }))
    }

    async fn list_signing_keys(
        &self,
        request: Request<v1::ListSigningKeysRequest>,
    ) -> Result<Response<v1::ListSigningKeysResponse>, Status> {
        self.signing_keys(&request.into_inner()).await.map(Response::new)
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityResponse>, Status> {
        let v1::GetAuthorityRequest {} = request.into_inner();
        Ok(Response::new(self.authority()))
    }

    async fn begin_rotation(
        &self,
        request: Request<v1::BeginRotationRequest>,
    ) -> Result<Response<v1::BeginRotationResponse>, Status> {
        let creator = creator(&request);
        let rotations = self.begin(&request.into_inner(), &creator).await?;
        Ok(Response::new(v1::BeginRotationResponse { rotations }))
    }

    async fn roll_back_rotation(
        &self,
        request: Request<v1::RollBackRotationRequest>,
    ) -> Result<Response<v1::RollBackRotationResponse>, Status> {
        let rotation = self.roll_back(&request.into_inner().subject).await?;
        Ok(Response::new(v1::RollBackRotationResponse { rotation: Some(rotation) }))
    }

    async fn resume_rotation(
        &self,
        request: Request<v1::ResumeRotationRequest>,
    ) -> Result<Response<v1::ResumeRotationResponse>, Status> {
        self.resume(&request.into_inner()).await.map(Response::new)
    }

    async fn get_rotation_status(
        &self,
        request: Request<v1::GetRotationStatusRequest>,
    ) -> Result<Response<v1::GetRotationStatusResponse>, Status> {
        let rotations = self.rotation_status(&request.into_inner().subject).await?;
        Ok(Response::new(v1::GetRotationStatusResponse { rotations }))
    }

    async fn get_rotation_plan(
        &self,
        request: Request<v1::GetRotationPlanRequest>,
    ) -> Result<Response<v1::GetRotationPlanResponse>, Status> {
        let moves = self.rotation_plan(request.into_inner()).await?;
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
        Ok(Response::new(v1::ListSettingsResponse { settings: self.all_settings() }))
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
