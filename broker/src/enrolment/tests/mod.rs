//! The lives of instances, told to the flow itself with a clock that travels. The ids in comments are the numbered steps of
//! the enrolment notes.

mod brokers;
mod recovery;
mod registration;
mod renewal;
mod standing;
mod upstream;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use homeward_certs::authority::Serial;
use homeward_certs::csr::InstanceKey;
use homeward_certs::pin::SpkiPin;
use homeward_certs::proof::{ProofKey, RecoveryTranscript, RenewalTranscript};
use homeward_certs::recovery::RecoveryKey;
use secrecy::ExposeSecret as _;

use super::*;
use crate::authority::CaStep;
use crate::clock::{Clock, ManualClock};
use crate::keys::SigningAlgorithm;
use crate::registry::{
    AccountKey, ClientAuthMethod, ClientPolicyChange, LogoutAddresses, QuarantineCause, RecoveryPolicy,
    SigningKeyChoice, TrustEdge, TrustEdgeId,
};
use crate::storage::Store;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Everybody comes from another address, so that nobody is limited.
fn peer() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    Ipv4Addr::from_bits(NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

struct World {
    enrolment: Enrolment,
    registry: Registry,
    liveness: Liveness,
    authority: Arc<Authority>,
    store: Arc<dyn Store>,
    clock: Clock,
    time: ManualClock,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, time) = Clock::manual(START);
        let foundations = Foundations::new_in(&folder, &clock).await;
        let Foundations { store, registry, liveness, authority, .. } = foundations.clone();
        let settings = Settings { agent_url: "https://broker.example".into(), certificate_lifetime: DAY.into() };
        let enrolment = Enrolment::new(foundations, settings);
        Self { enrolment, registry, liveness, authority, store, clock, time, _folder: folder }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn token(&self, name: &str, replace: bool) -> homeward_certs::join_token::JoinToken {
        let (instance, lifetime) = (name.parse().unwrap(), HOUR);
        let order = JoinTokenOrder { instance, lifetime, replace, creator: String::new(), note: String::new() };
        self.enrolment.create_token(order, self.now()).await.unwrap().0.expose_secret().parse().unwrap()
    }

    /// An instance that has used its certificate.
    async fn enrol(&self, name: &str) -> Agent {
        let agent = self.claim(name, false).await;
        agent.call(self).await.unwrap();
        agent
    }

    /// An instance that has a certificate.
    async fn claim(&self, name: &str, replace: bool) -> Agent {
        let token = self.token(name, replace).await;
        self.join(&token).await.unwrap()
    }

    /// Somebody with keys of his own who has this token.
    async fn join(&self, token: &homeward_certs::join_token::JoinToken) -> Result<Agent, EnrolmentError> {
        let (recovery, key, request_id) =
            (RecoveryKey::generate().unwrap(), InstanceKey::generate().unwrap(), Uuid::new_v4());
        let leaf = self.authority.leaf_pins()[0];
        let transcript = EnrolmentTranscript::new(&key.pin(), &recovery.public(), &leaf, request_id.as_bytes());
        let request = EnrolmentRequest {
            token_id: token.id,
            request_id,
            csr: key.csr().unwrap(),
            recovery_key: recovery.public(),
            proof: ProofKey::derive(&token.secret).unwrap().prove(&transcript),
            recovery_signature: recovery.sign(transcript.as_bytes()),
            profile: profile(token.instance.as_str()),
            peer: peer(),
        };
        let identity = self.enrolment.enrol(request, self.now()).await?;
        let (name, recovery) = (token.instance.clone(), Arc::new(recovery));
        Ok(Agent { name, recovery, serial: String::new(), generation: 0 }.with(&identity))
    }

    fn instance(&self, name: &str) -> Instance {
        Instance::clone(self.registry.snapshot().instance(&name.parse().unwrap()).unwrap())
    }

    fn cause(&self, name: &str) -> Option<QuarantineCause> {
        match self.instance(name).state {
            InstanceState::Quarantined { cause, .. } => Some(cause),
            InstanceState::Claimed { .. } | InstanceState::Confirmed => None,
        }
    }

    async fn policy(&self, name: &str, recovery: RecoveryPolicy) {
        let wanted = PolicyChange { recovery: Some(recovery), signing_key_choice: None };
        self.enrolment.set_policy(&name.parse().unwrap(), wanted).await.unwrap();
    }

    async fn turn(&self, step: CaStep) {
        let revision = self.store.commit(self.authority.transition(step, self.now()).await.unwrap()).await.unwrap();
        let mut changes = self.authority.changes();
        changes.wait_for(|state| state.revision >= revision.as_u64()).await.unwrap();
    }
}

fn profile(name: &str) -> Profile {
    Profile {
        public_url: format!("https://{name}.example"),
        display_name: name.to_owned(),
        redirect_uris: vec![format!("https://{name}.example/callback")],
        portal_url: Some(format!("https://{name}.example/homeward/login")),
        auth_method: ClientAuthMethod::ClientSecretBasic,
        id_token_alg: SigningAlgorithm::Rs256,
        pkce: false,
        account_key: AccountKey::Subject,
        client_key: None,
        logout: LogoutAddresses::default(),
        initiate_login: None,
    }
}

/// What an agent has on its disk; a clone has the same.
#[derive(Clone)]
struct Agent {
    name: InstanceName,
    recovery: Arc<RecoveryKey>,
    serial: String,
    generation: u64,
}

impl Agent {
    fn with(&self, identity: &Identity) -> Self {
        let serial = Serial::of_certificate(&identity.chain[0]).unwrap().to_string();
        Self { serial, generation: identity.generation, ..self.clone() }
    }

    async fn call(&self, world: &World) -> Result<(), EnrolmentError> {
        world.enrolment.authenticate(&self.name, &self.serial, world.now()).await.map(drop)
    }

    fn renewal(&self, key: &InstanceKey) -> RenewalRequest {
        let request_id = Uuid::new_v4();
        let transcript = RenewalTranscript::new(request_id.as_bytes(), &key.pin(), self.generation);
        let signature = self.recovery.sign(transcript.as_bytes());
        let proof = Some(GenerationProof { generation: self.generation, signature });
        RenewalRequest { request_id, csr: key.csr().unwrap(), proof }
    }

    async fn renew(&self, world: &World) -> Result<Identity, EnrolmentError> {
        let request = self.renewal(&InstanceKey::generate().unwrap());
        world.enrolment.renew(&self.name, request, world.now()).await
    }

    fn recovery(&self, world: &World, key: &InstanceKey, request_id: Uuid) -> RecoveryRequest {
        let challenge = world.enrolment.begin_recovery(self.name.clone(), peer(), world.now()).unwrap();
        assert!(challenge.len() <= 512, "{}", challenge.len());
        let transcript = RecoveryTranscript::new(&challenge, request_id.as_bytes(), &key.pin(), self.generation);
        let signature = self.recovery.sign(transcript.as_bytes());
        let csr = key.csr().unwrap();
        RecoveryRequest { challenge, request_id, csr, generation: self.generation, signature, peer: peer() }
    }

    async fn recover(&self, world: &World) -> Result<Identity, EnrolmentError> {
        let request = self.recovery(world, &InstanceKey::generate().unwrap(), Uuid::new_v4());
        world.enrolment.recover(request, world.now()).await
    }
}

/// The name of the error's variant and of the one inside.
fn refused<T>(result: Result<T, EnrolmentError>) -> String {
    format!("{:?}", result.map(|_| "it was allowed").unwrap_err())
}
