//! Enrolment without the network: the broker takes fifty enrolments a second, and what is measured here begins after
//! them. The instances are written into the store of a broker that does not run yet, by the broker's own code, as they
//! stand there after an enrolment and a first call.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use homeward_broker::authority::{Authority, CaState};
use homeward_broker::clock::Clock;
use homeward_broker::config::Config;
use homeward_broker::keys::SigningAlgorithm;
use homeward_broker::registry::{
    Certificate, ClientAuthMethod, ClientCredential, ClientId, ClientPages, ClientPolicy, ClientSecret, Instance,
    InstanceId, InstanceState, LogoutAddresses, RecoveryPolicy, RelyingParty, SigningKeyChoice,
};
use homeward_broker::secret::{KeyEncryptionKeys, SealingKeys};
use homeward_broker::storage::address;
use homeward_broker::storage::table::Table;
use homeward_broker::storage::{Expect, Store};
use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::{CsrPublicKey, InstanceKey};
use homeward_certs::identity::{InstanceName, TrustDomain};
use homeward_certs::recovery::RecoveryKey;
use uuid::Uuid;

use crate::identity::Identity;

/// Instances that are written at once.
const COMMIT: usize = 500;

/// Everybody who is enrolled, and what they must know of the broker.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// The agents.
    pub(crate) identities: Vec<Identity>,
    /// The CA that all their certificates are of.
    pub(crate) bundle: TrustBundle,
    /// The federation.
    pub(crate) trust_domain: TrustDomain,
    /// Where the broker takes agents' calls.
    pub(crate) agent_url: String,
}

/// Writes so many instances into the store of a broker that does not run.
///
/// # Errors
/// When the store is not as `homeward-broker init` leaves it.
pub(crate) async fn enrol(config: &Path, agents: u32) -> anyhow::Result<Enrolled> {
    let config = Config::load(config)?;
    let registrar = Registrar::open(&config).await?;
    let table: Table<Instance> = Table::new(registrar.store.clone());
    let names = (1..=agents).map(|number| format!("site-{number:05}").parse::<InstanceName>());
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let mut identities = Vec::with_capacity(names.len());
    for names in names.chunks(COMMIT) {
        let mut writes = Vec::with_capacity(names.len());
        for name in names {
            let (instance, identity) = registrar.register(name)?;
            writes.push(table.put(name.as_str(), &instance, Expect::Absent)?);
            identities.push(identity);
        }
        table.commit(writes).await?;
    }
    Ok(Enrolled {
        identities,
        bundle: registrar.ca.bundle.clone(),
        trust_domain: registrar.federation.trust_domain,
        agent_url: registrar.federation.agent_url.to_string(),
    })
}

/// The broker's side of an enrolment.
struct Registrar {
    store: Arc<dyn Store>,
    sealing: Arc<SealingKeys>,
    ca: Arc<CaState>,
    clock: Clock,
    federation: homeward_broker::config::Federation,
}

impl Registrar {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
        let store = address::open(&config.store, &config.etcd).await?;
        let (sealing, _) = SealingKeys::load(&store, keks, "fleet").await?;
        let clock = Clock::system();
        let federation = config.named.federation()?;
        // Nobody moves the CA of a broker that does not run.
        let (authority, _) = Authority::open(&store, &sealing, &federation.trust_domain, None, clock.clone()).await?;
        Ok(Self { store, sealing, ca: authority.state(), clock, federation })
    }

    /// One relying party, enrolled and confirmed.
    fn register(&self, name: &InstanceName) -> anyhow::Result<(Instance, Identity)> {
        let (key, recovery, now) = (InstanceKey::generate()?, RecoveryKey::generate()?, self.clock.now());
        let leaf = self.ca.issue(
            name,
            &CsrPublicKey::from_csr(&key.csr()?)?,
            now,
            self.federation.lifetimes.instance_certificate,
        )?;
        let mut certificate = Certificate::of(&leaf, key.pin().to_string(), Uuid::new_v4(), now, 1);
        certificate.authority = Some(self.ca.signer_pin().to_string());
        let chain = self.ca.chain(leaf.certificate, certificate.authority.as_deref());
        let id = InstanceId::generate();
        let public_url = format!("https://{name}.example");
        let relying_party = RelyingParty {
            client_id: ClientId::of(name, id),
            credential: ClientCredential::Secret(ClientSecret::generate(&self.sealing, 1)?),
            next_credential: None,
            last_credential_version: 1,
            credential_at: None,
            signing_key_choice: SigningKeyChoice::default(),
            redirect_uris: vec![format!("{public_url}/callback")],
            auth_method: ClientAuthMethod::ClientSecretBasic,
            id_token_alg: SigningAlgorithm::Rs256,
            pkce_required: true,
            policy: ClientPolicy::default(),
            logout: LogoutAddresses::default(),
            keys: None,
            request_uris: Vec::new(),
            pages: ClientPages::default(),
        };
        let instance = Instance {
            name: name.clone(),
            id,
            display_name: name.to_string(),
            public_url,
            state: InstanceState::Confirmed,
            enrolled_at: now,
            recovery_key: STANDARD_NO_PAD.encode(recovery.public().as_bytes()),
            certificate,
            pending_certificate: None,
            relying_party: Some(relying_party),
            home: None,
            recovery: RecoveryPolicy::default(),
            restored_at: None,
            quarantines: 0,
        };
        Ok((instance, Identity { recovery, key, chain, generation: 1 }))
    }
}
