//! Enrolment: from a join token to an instance with a certificate, from one certificate to the next, and to its end.
//!
//! 1. Ops [create](Enrolment::create_token) a join token. Its secret is shown once and not kept.
//! 2. An agent [enrols](Enrolment::enrol) with a proof of the secret. Everything is checked before anything is consumed;
//!    then one commit moves the token from issued to claimed and writes the instance. A lost answer may be fetched again
//!    with the same key; a second key quarantines the name, because one of the two holders is a thief.
//! 3. The first call with the certificate [confirms](Enrolment::authenticate) both. From there on every call is checked
//!    against the registry: a certificate is worth nothing once the instance is quarantined or has a newer one.
//! 4. [Renewal](Enrolment::renew) makes a second certificate, which takes the first one's place when it is first used.
//! 5. [Recovery](Enrolment::recover) makes one for an instance that slept past its certificate, by its recovery key.
//! 6. Ops [quarantine](Enrolment::quarantine), [release](Enrolment::release) and [evict](Enrolment::evict) instances.
//! 7. Ops [open](Enrolment::open_registration) and [close](Enrolment::close_registration) relying parties without agent:
//!    a name is theirs, an instance's or nobody's.
//!
//! Every certificate has a generation, greater than that of all before it. Whoever signs with the recovery key that he
//! has an older one than is in use is a second machine with the same keys: the instance is cut off by an alarm.
//!
//! Invariants: a token enrols at most one key; identity comes from the verified certificate only; of a signing request
//! only the public key is used; an alarm ends by a new identity and by nothing else.

mod admission;
mod error;
mod issuing;
mod join_token;
mod limits;
mod recovery;
mod registration;
mod renewal;
mod standing;
#[cfg(test)]
mod tests;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::{BundleStatement, TrustBundle};
use homeward_certs::csr::CsrPublicKey;
use homeward_certs::identity::{InstanceName, TrustDomain};
use homeward_certs::join_token::JoinTokenId;
use homeward_certs::proof::EnrolmentTranscript;
use homeward_certs::recovery::RecoveryPublicKey;
use tracing::{error, info};
use uuid::Uuid;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::audit::{Audit, Event, Kind};
use crate::authority::{Authority, CaState};
use crate::clock::Timestamp;
use crate::config::Current;
use crate::foundations::Foundations;
use crate::registry::{
    CONSOLE, Certificate, ClientCredential, ClientId, ClientKey, ClientPages, ClientSecret, Instance, InstanceId,
    InstanceState, Liveness, Portal, Profile, Registry, RelyingParty,
};
use crate::secret::SealingKeys;
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, StoreError};

pub use error::EnrolmentError;
use join_token::Judgement;
pub use join_token::{Claim, JoinTokenOrder, JoinTokenState, ListedJoinToken, StoredJoinToken};
use limits::{Limiter, RefusedLimiter};
pub use recovery::{RecoveryRefusal, RecoveryRequest};
pub use registration::{Closed, RegistrationOrder};
pub use renewal::{GenerationProof, RenewalRequest};
pub use standing::{Evicted, PolicyChange};
pub use upstream::UpstreamOrder;

/// How often a request whose commit somebody else got in the way of is judged again.
const TRIES: usize = 4;

/// The flow and what it stands on.
#[derive(Debug)]
pub struct Enrolment {
    tokens: Table<StoredJoinToken>,
    registry: Registry,
    liveness: Liveness,
    authority: Arc<Authority>,
    sealing: Arc<SealingKeys>,
    audit: Audit,
    settings: Settings,
    /// Who enrols. Apart from those who return, so that a flood of one keeps no clone alarm from being raised.
    newcomers: Limiter,
    /// Who comes back by its recovery key.
    returning: Limiter,
    /// Whose certificate is asked about at the store although this broker's picture refuses it.
    refused: RefusedLimiter,
}

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What join tokens tell agents.
    pub agent_url: String,
    /// How long an instance certificate lasts.
    pub certificate_lifetime: Current<Duration>,
}

/// A request to enrol, decoded.
#[derive(Debug)]
pub struct EnrolmentRequest {
    /// Which token.
    pub token_id: JoinTokenId,
    /// The same in every retry.
    pub request_id: Uuid,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
    /// The key that outlives certificates.
    pub recovery_key: RecoveryPublicKey,
    /// HMAC under the token's key.
    pub proof: Vec<u8>,
    /// By the recovery key, over the same bytes.
    pub recovery_signature: Vec<u8>,
    /// What is to be registered.
    pub profile: Profile,
    /// Where it came from.
    pub peer: IpAddr,
}

/// A certificate and what goes with it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// What to trust.
    pub bundle: TrustBundle,
    /// Of the leaf.
    pub generation: u64,
}

impl Enrolment {
    /// The flow.
    pub fn new(foundations: Foundations, settings: Settings) -> Self {
        let Foundations { store, registry, liveness, authority, sealing, audit } = foundations;
        let tokens = Table::new(store);
        Self {
            tokens,
            registry,
            liveness,
            authority,
            sealing,
            audit,
            settings,
            newcomers: Limiter::new(),
            returning: Limiter::new(),
            refused: RefusedLimiter::new(),
        }
    }

    /// Enrols an agent.
    ///
    /// # Errors
    /// See [`EnrolmentError`]; nothing is consumed then.
    pub async fn enrol(&self, request: EnrolmentRequest, now: Timestamp) -> Result<Identity, EnrolmentError> {
        self.newcomers.admit(request.peer)?;
        unhindered(|| self.try_enrol(&request, now)).await
    }

    async fn try_enrol(&self, request: &EnrolmentRequest, now: Timestamp) -> Result<Identity, EnrolmentError> {
        let id = request.token_id.to_string();
        let stored = self.tokens.get(&id).await?.ok_or(EnrolmentError::TokenInvalid)?;
        let token = &stored.record;
        let key = self.check_proof(request, token)?;
        let current = self.registry.instances.get(token.instance.as_str()).await?;
        let judgement = token.judge(&key.pin().to_string(), now)?;
        // A token whose identity is gone, because ops gave the name a new one, says nothing of the new one: whoever stole
        // the token must not be able to cut that off again.
        if judgement != Judgement::Issue && !current.as_ref().is_none_or(|current| token.enrolled(&current.record)) {
            return Err(EnrolmentError::TokenUsedUp);
        }
        match judgement {
            Judgement::Repeat => {
                let instance = current.ok_or(EnrolmentError::TokenUsedUp)?.record;
                Ok(identity(&self.authority.state(), &instance.certificate))
            }
            Judgement::Quarantine => {
                error!(
                    join_token = id, instance = %token.instance, peer = %request.peer, state = token.state.as_str(),
                    "SECURITY: a join token was used by two agents; the instance is quarantined. Find out who the \
                     other one is, then create a token with --replace"
                );
                let instance = current.ok_or(EnrolmentError::AgentUnknown)?;
                self.raise_alarm(instance, "its join token was used by two different agents".into(), now).await?;
                Err(EnrolmentError::TokenReused)
            }
            Judgement::Issue => self.claim(request, &key, stored, current, now).await,
        }
    }

    /// Everything that can be wrong without the token being at fault.
    fn check_proof(&self, request: &EnrolmentRequest, token: &StoredJoinToken) -> Result<CsrPublicKey, EnrolmentError> {
        // The proof covers the key, so the key is read first; that costs nothing and reveals nothing.
        let key = CsrPublicKey::from_csr(&request.csr);
        let pin = key.as_ref().map_or_else(|_| homeward_certs::pin::SpkiPin::of_spki(&request.csr), CsrPublicKey::pin);
        let proof_key = token.proof_key(&self.sealing)?;
        let transcripts = self
            .authority
            .leaf_pins()
            .map(|leaf| EnrolmentTranscript::new(&pin, &request.recovery_key, &leaf, request.request_id.as_bytes()));
        let proved = transcripts.iter().find(|transcript| proof_key.verifies(transcript, &request.proof));
        let transcript = proved.ok_or(EnrolmentError::TokenInvalid)?;
        let key = key?;
        if !request.recovery_key.verifies(transcript.as_bytes(), &request.recovery_signature) {
            return Err(EnrolmentError::RecoverySignature);
        }
        Ok(key)
    }

    fn check_name(&self, name: &InstanceName, replace: bool) -> Result<(), EnrolmentError> {
        let snapshot = self.registry.snapshot();
        if name.as_str() == CONSOLE && snapshot.instance(name).is_none() {
            return Err(EnrolmentError::NameReserved(name.clone()));
        }
        if snapshot.registration(name).is_some() {
            return Err(EnrolmentError::NameRegistered(name.clone()));
        }
        if snapshot.upstream(name).is_some() {
            return Err(EnrolmentError::NameOfUpstream(name.clone()));
        }
        match snapshot.instance(name).map(|instance| &instance.state) {
            None | Some(InstanceState::Claimed { .. }) => Ok(()),
            Some(_) if replace => Ok(()),
            Some(_) => Err(EnrolmentError::NameTaken(name.clone())),
        }
    }

    /// The one commit that uses the token up and writes the instance.
    async fn claim(
        &self,
        request: &EnrolmentRequest,
        key: &CsrPublicKey,
        stored: Stored<StoredJoinToken>,
        current: Option<Stored<Instance>>,
        now: Timestamp,
    ) -> Result<Identity, EnrolmentError> {
        let mut token = stored.record;
        let name = token.instance.clone();
        let id = request.token_id.to_string();
        if let Err(taken) = self.check_name(&name, token.replace) {
            // By this very token, a moment ago? Then that is what there is to say.
            let moved = self.tokens.get(&id).await?.is_none_or(|newer| newer.version != stored.version);
            return Err(if moved { StoreError::Conflict.into() } else { taken });
        }
        let profile = request.profile.clone().check(&name)?;
        if let Some(twin) = self.registry.snapshot().upstream_twin(&name, &profile.display_name) {
            return Err(EnrolmentError::NameLooksAlike(twin.clone()));
        }
        let ca = self.authority.state();
        let order = CertificateOrder { request_id: request.request_id, generation: 1 };
        let certificate = self.certify(&ca, &name, key, order, now)?;
        let old = current.as_ref().map(|current| &current.record);
        let instance_id = old.map_or_else(InstanceId::generate, |old| old.id);
        let relying_party = self.relying_party(&profile, ClientId::of(&name, instance_id), old)?;
        let instance = Instance {
            id: instance_id,
            display_name: profile.display_name,
            public_url: profile.public_url,
            state: InstanceState::Claimed { join_token: id.clone() },
            enrolled_at: now,
            recovery_key: STANDARD_NO_PAD.encode(request.recovery_key.as_bytes()),
            certificate,
            pending_certificate: None,
            relying_party,
            home: profile.portal_url.map(|portal_url| Portal { portal_url }),
            recovery: old.map(|old| old.recovery).unwrap_or_default(),
            restored_at: None,
            quarantines: old.map_or(0, |old| old.quarantines),
            name,
        };
        let peer = request.peer.to_string();
        let key = key.pin().to_string();
        token.state = JoinTokenState::Claimed(Claim { key, request_id: request.request_id, claimed_at: now, peer });
        let expect = current.as_ref().map_or(Expect::Absent, |current| Expect::Version(current.version));
        let writes = vec![
            self.tokens.put(&id, &token, Expect::Version(stored.version))?,
            self.registry.instances.put(instance.name.as_str(), &instance, expect)?,
            // Nobody opens a relying party without agent under the name in this moment.
            self.registry.registrations.delete(instance.name.as_str(), Expect::Absent),
            // Nor makes a home without agent of it.
            self.registry.upstreams.delete(instance.name.as_str(), Expect::Absent),
        ];
        let revision = self.tokens.commit(writes).await?;
        self.registry.reached(revision).await?;
        info!(join_token = id, instance = %instance.name, peer = %request.peer, "instance enrolled");
        self.audit.note(Event::new(Kind::InstanceEnrolled).instance(&instance.name).object(&id));
        Ok(identity(&ca, &instance.certificate))
    }

    /// A certificate by the CA that signs instances now.
    fn certify(
        &self,
        ca: &CaState,
        name: &InstanceName,
        key: &CsrPublicKey,
        order: CertificateOrder,
        now: Timestamp,
    ) -> Result<Certificate, EnrolmentError> {
        let leaf = ca.issue(name, key, now, self.settings.certificate_lifetime.now())?;
        let key = key.pin().to_string();
        let mut certificate = Certificate::of(&leaf, key, order.request_id, now, order.generation);
        certificate.authority = Some(ca.signer_pin().to_string());
        Ok(certificate)
    }

    /// The client that the profile asks for, with the key that it brings or a secret that no earlier enrolment has seen.
    fn relying_party(
        &self,
        profile: &Profile,
        client_id: ClientId,
        old: Option<&Instance>,
    ) -> Result<Option<RelyingParty>, EnrolmentError> {
        if profile.redirect_uris.is_empty() {
            return Ok(None);
        }
        let old = old.and_then(|old| old.relying_party.as_ref());
        let mut policy = old.map(|old| old.policy.clone()).unwrap_or_default();
        if !policy.account_key_by_ops {
            policy.account_key = profile.account_key;
        }
        let version = old.map_or(1, RelyingParty::next_version);
        let credential = match profile.client_key.clone() {
            Some(jwk) => ClientCredential::Key(ClientKey { jwk, version }),
            None => ClientCredential::Secret(ClientSecret::generate(&self.sealing, version)?),
        };
        Ok(Some(RelyingParty {
            client_id,
            credential,
            next_credential: None,
            last_credential_version: version,
            credential_at: None,
            signing_key_choice: old.map(|old| old.signing_key_choice).unwrap_or_default(),
            redirect_uris: profile.redirect_uris.clone(),
            auth_method: profile.auth_method,
            id_token_alg: profile.id_token_alg,
            pkce_required: profile.pkce,
            policy,
            logout: profile.logout.clone(),
            keys: None,
            request_uris: Vec::new(),
            pages: ClientPages { initiate_login: profile.initiate_login.clone(), ..ClientPages::default() },
        }))
    }

    /// The statements that lead from a trust bundle of this version to the newest: none if it is the newest, or the way
    /// is cut.
    pub fn bundle_statements(&self, from_version: u64) -> Vec<BundleStatement> {
        self.authority.state().statements_after(from_version).to_vec()
    }

    /// The federation whose certificates count.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.authority.trust_domain()
    }
}

/// Judges a request again whenever somebody else has moved what its commit rests on.
async fn unhindered<T, F>(attempt: impl Fn() -> F) -> Result<T, EnrolmentError>
where
    F: Future<Output = Result<T, EnrolmentError>>,
{
    for _ in 0..TRIES {
        match attempt().await {
            Err(EnrolmentError::Store(StoreError::Conflict)) => {}
            done => return done,
        }
    }
    Err(StoreError::Conflict.into())
}

/// What a certificate is made for.
#[derive(Clone, Copy, Debug)]
struct CertificateOrder {
    request_id: Uuid,
    generation: u64,
}

fn identity(ca: &CaState, certificate: &Certificate) -> Identity {
    let chain = ca.chain(certificate.der(), certificate.authority.as_deref());
    Identity { chain, bundle: ca.bundle.clone(), generation: certificate.generation }
}
