//! `homeward.v1.EnrolmentService`.

use std::sync::Arc;

use homeward_certs::identity::InstanceName;
use homeward_certs::recovery::RecoveryPublicKey;
use homeward_proto::v1;
use homeward_proto::v1::enrolment_service_server::EnrolmentService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::audit::{Audit, Event, Kind};
use crate::clock::Clock;
use crate::config::Issuer;
use crate::enrolment::{Enrolment, EnrolmentError, EnrolmentRequest, GenerationProof, RecoveryRequest, RenewalRequest};
use crate::grpc::authorization::{Caller, Peer};
use crate::grpc::status::{self, Reason};
use crate::grpc::{Services, wire_bundle, wire_time};
use crate::keys::SigningAlgorithm;
use crate::registry::{AccountKey, ClientAuthMethod, LogoutAddresses, Profile, PublicJwk};

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    enrolment: Arc<Enrolment>,
    audit: Audit,
    issuer: Issuer,
    clock: Clock,
}

impl Service {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            enrolment: services.enrolment.clone(),
            audit: services.audit.clone(),
            issuer: services.issuer.clone(),
            clock: services.clock.clone(),
        }
    }
}

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let peer = peer(&request)?;
        let now = self.clock.now();
        let decoded = decode(request.into_inner(), peer)?;
        let identity = self.enrolment.enrol(decoded, now).await.map_err(|error| self.refused(&error, peer))?;
        Ok(Response::new(v1::EnrolResponse {
            certificate_chain: identity.chain,
            trust_bundle: Some(wire_bundle(&identity.bundle)),
            issuer: self.issuer.to_string(),
            generation: identity.generation,
            server_time: Some(wire_time(now)),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let generation = (request.generation > 0).then_some(request.generation);
        let renewal = RenewalRequest {
            request_id: uuid(&request.request_id)?,
            csr: request.csr,
            proof: generation.map(|generation| GenerationProof { generation, signature: request.recovery_signature }),
        };
        let renewed = self.enrolment.renew(&caller.0, renewal, self.clock.now()).await;
        let identity = renewed.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::RenewResponse {
            certificate_chain: identity.chain,
            trust_bundle: Some(wire_bundle(&identity.bundle)),
            generation: identity.generation,
        }))
    }

    async fn confirm(&self, request: Request<v1::ConfirmRequest>) -> Result<Response<v1::ConfirmResponse>, Status> {
        Ok(Response::new(v1::ConfirmResponse { instance: caller(&request)?.0.to_string() }))
    }

    async fn begin_recovery(
        &self,
        request: Request<v1::BeginRecoveryRequest>,
    ) -> Result<Response<v1::BeginRecoveryResponse>, Status> {
        let peer = peer(&request)?;
        let instance = request.into_inner().instance.parse::<InstanceName>();
        let instance = instance.map_err(|error| status::invalid(&error))?;
        let begun = self.enrolment.begin_recovery(instance, peer.0, self.clock.now());
        let challenge = begun.map_err(|error| status::enrolment(&error))?;
        Ok(Response::new(v1::BeginRecoveryResponse { challenge }))
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<v1::RecoverResponse>, Status> {
        let peer = peer(&request)?;
        let now = self.clock.now();
        let request = request.into_inner();
        let recovery = RecoveryRequest {
            challenge: request.challenge,
            request_id: uuid(&request.request_id)?,
            csr: request.csr,
            generation: request.generation,
            signature: request.recovery_signature,
            peer: peer.0,
        };
        let identity = self.enrolment.recover(recovery, now).await.map_err(|error| self.refused(&error, peer))?;
        Ok(Response::new(v1::RecoverResponse {
            certificate_chain: identity.chain,
            trust_bundle: Some(wire_bundle(&identity.bundle)),
            generation: identity.generation,
            server_time: Some(wire_time(now)),
        }))
    }

    async fn list_trust_bundles(
        &self,
        request: Request<v1::ListTrustBundlesRequest>,
    ) -> Result<Response<v1::ListTrustBundlesResponse>, Status> {
        let statements = self.enrolment.bundle_statements(request.into_inner().from_version);
        let statements = statements.into_iter().map(|stated| v1::TrustBundleStatement {
            trust_bundle: Some(wire_bundle(&stated.bundle)),
            signer_pin: stated.signer.as_bytes().to_vec(),
            signature: stated.signature,
        });
        Ok(Response::new(v1::ListTrustBundlesResponse { statements: statements.collect() }))
    }
}

impl Service {
    fn refused(&self, error: &EnrolmentError, peer: Peer) -> Status {
        error.log(peer.0);
        let status = status::enrolment(error);
        self.audit.note(Event::new(Kind::EnrolmentRefused).refused(status::reason(&status)));
        status
    }
}

/// The agent that calls, as the gate found it.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| status::refused(Reason::CertificateMissing))
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().copied().ok_or_else(|| status::refused(Reason::RoleMissing))
}

fn uuid(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| status::refused(Reason::FieldInvalid("request_id")))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(request: v1::EnrolRequest, peer: Peer) -> Result<EnrolmentRequest, Status> {
    let invalid = |field| move || status::refused(Reason::FieldInvalid(field));
    let profile = request.profile.ok_or_else(invalid("profile"))?;
    let auth_method = match profile.client_auth_method() {
        v1::ClientAuthMethod::Unspecified | v1::ClientAuthMethod::Basic => ClientAuthMethod::ClientSecretBasic,
        v1::ClientAuthMethod::Post => ClientAuthMethod::ClientSecretPost,
        v1::ClientAuthMethod::PrivateKeyJwt => ClientAuthMethod::PrivateKeyJwt,
        v1::ClientAuthMethod::SecretJwt => ClientAuthMethod::ClientSecretJwt,
        v1::ClientAuthMethod::Tls => ClientAuthMethod::TlsClientAuth,
    };
    let id_token_alg = match profile.id_token_alg() {
        v1::SigningAlgorithm::Unspecified | v1::SigningAlgorithm::Rs256 => SigningAlgorithm::Rs256,
        v1::SigningAlgorithm::Es256 => SigningAlgorithm::Es256,
    };
    let account_key = match profile.account_key() {
        v1::AccountKey::Unspecified | v1::AccountKey::Subject => AccountKey::Subject,
        v1::AccountKey::Email => AccountKey::Email,
        v1::AccountKey::Username => AccountKey::Username,
    };
    let client_key = Some(&profile.client_key).filter(|jwk| !jwk.is_empty()).map(|jwk| PublicJwk::read(jwk));
    let client_key = client_key.transpose().map_err(|error| status::invalid(&error))?;
    Ok(EnrolmentRequest {
        token_id: request.token_id.as_slice().try_into().ok().ok_or_else(invalid("token_id"))?,
        request_id: uuid(&request.request_id)?,
        csr: request.csr,
        recovery_key: RecoveryPublicKey::try_from(request.recovery_key.as_slice())
            .ok()
            .ok_or_else(invalid("recovery_key"))?,
        proof: request.proof,
        recovery_signature: request.recovery_signature,
        profile: Profile {
            public_url: profile.public_url,
            display_name: profile.display_name,
            redirect_uris: profile.redirect_uris,
            portal_url: some(profile.portal_url),
            auth_method,
            id_token_alg,
            pkce: profile.pkce,
            client_key,
            account_key,
            logout: LogoutAddresses {
                backchannel: some(profile.backchannel_logout_uri),
                frontchannel: some(profile.frontchannel_logout_uri),
                frontchannel_session: true,
                post_logout: profile.post_logout_redirect_uris,
            },
            initiate_login: some(profile.initiate_login_uri),
        },
        peer: peer.0,
    })
}
