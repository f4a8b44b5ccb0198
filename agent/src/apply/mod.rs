//! From client credentials to an application that uses them, in this order:
//!
//! 1. with private_key_jwt, make the key of this version and register its public half ([`client_key`]);
//! 2. render the recipe's files ([`render`]); if they are on disk already and were proved, nothing is written and nothing
//!    reloaded;
//! 3. ask whether the application is up at all: if not, touch nothing and come back;
//! 4. write the whole set beside the old one and swap it in at once ([`files`]);
//! 5. reload the application ([`reload`]), let it show that it uses the new client ([`proof`]), and see it authenticate
//!    at the broker with the new credential (`probe`);
//! 6. write down what is in effect. Only then does the broker hear an acknowledgement, and closes the old credential.
//!
//! Where the agent itself is the relying party ([`crate::gate`]), all of that is one probe and one file.
//!
//! Whatever the application does wrong after 4 puts the old set back and reloads once more. The broker then hears why, in
//! one sentence.

pub mod client_key;
pub mod files;
pub mod owner;
pub mod proof;
pub mod reload;
pub mod render;
pub mod worker;

mod probe;

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::sync_service_client::SyncServiceClient;
use homeward_proto::v1::{ClientCredentials, RegisterClientKeyRequest};
use thiserror::Error;
use tonic::Code;
use url::Url;

use self::client_key::{ClientKey, ClientKeyError, ClientKeys, Registration};
use self::files::{FileSet, FilesError, Swapped};
use self::probe::{ProbeError, Prober};
use self::proof::ProofFailure;
use self::reload::ReloadError;
use self::render::{Credential, Credentials};
use crate::application::{Application, ApplicationError};
use crate::config::{Config, RelyingPartyConfig};
use crate::connection::Broker;
use crate::disk::{DiskError, PrivateDir};
use crate::gate::client::GateClient;
use crate::recipe::relying_party::{ClientAuthMethod, RelyingParty};
use crate::recipe::way::{CredentialFile, Target};
use crate::resources::standing::Standing;
use crate::resources::wanted::Versioned;

/// Puts client credentials into effect.
#[derive(Debug)]
pub(crate) struct Applier {
    standing: Arc<Standing>,
    role: Option<Role>,
    gate: Option<GateRole>,
}

/// The agent itself as relying party. Nothing is written for an application, and nothing reloaded: credentials are proved
/// before they are used, so there is nothing to roll back.
#[derive(Debug)]
struct GateRole {
    client: Arc<GateClient>,
    prober: Prober,
}

/// The application as relying party: what it needs, and where that goes.
#[derive(Debug)]
struct Role {
    recipe: RelyingParty,
    config: RelyingPartyConfig,
    application: Application,
    broker: Arc<Broker>,
    prober: Prober,
    keys: ClientKeys,
    /// What is in use already and lacks only the probe.
    unprobed: Option<Unprobed>,
    /// How long a reload may take to show, and a probe to come out right.
    patience: Duration,
}

/// Files that the application has read and shown. A broker that is away is no reason to reload it again and again.
#[derive(Debug)]
struct Unprobed {
    secret_version: u64,
    /// The way back, if they were written by this process.
    swapped: Option<Swapped>,
}

/// [`Role::patience`] of the real thing.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the broker to take a public key.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a revision is not in effect. The sentences go to the broker: no secrets.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    /// The application does not answer; nothing was touched.
    #[error("the application does not answer at {url}; start it: {source}")]
    ApplicationDown {
        /// Where it should.
        url: Url,
        /// What happened.
        #[source]
        source: ApplicationError,
    },
    /// The files cannot be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The application's key.
    #[error(transparent)]
    ClientKey(#[from] ClientKeyError),
    /// The broker did not take the public half of the application's key.
    #[error("the broker did not register the application's key ({0})")]
    KeyNotRegistered(String),
    /// The agent's own state cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The reload failed.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// The application does not show the new client.
    #[error(transparent)]
    Proof(#[from] ProofFailure),
    /// The application does not authenticate with the new credential.
    #[error(transparent)]
    Probe(ProbeError),
    /// One of these, and the old files are back.
    #[error("{0}; the previous files are back in place")]
    RolledBack(#[source] Box<Self>),
    /// Nobody can say how the application authenticates; the new files stay.
    #[error("{0}; the new files are in place, and the proof follows")]
    NotProbed(#[source] ProbeError),
}

impl ApplyError {
    /// What the broker counts and filters by.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ApplicationDown { .. } => "APPLICATION_DOWN",
            Self::Files(_) | Self::Disk(_) => "WRITE_FAILED",
            Self::ClientKey(_) => "CLIENT_KEY_FAILED",
            Self::KeyNotRegistered(_) => "CLIENT_KEY_NOT_REGISTERED",
            Self::Reload(_) => "RELOAD_FAILED",
            Self::Proof(_) => "PROOF_FAILED",
            Self::Probe(source) | Self::NotProbed(source) => source.reason(),
            Self::RolledBack(cause) => cause.reason(),
        }
    }

    /// Whether the next try asks and touches nothing as long as this lasts.
    fn only_asks(&self) -> bool {
        matches!(self, Self::ApplicationDown { .. } | Self::KeyNotRegistered(_) | Self::NotProbed(_))
    }

    /// Whether the application was given its chance and failed.
    fn blames_application(&self) -> bool {
        matches!(self, Self::Reload(_) | Self::Proof(_) | Self::Probe(_))
    }
}

impl Applier {
    /// Of an agent that is the relying party itself.
    pub(crate) fn of_gate(
        config: &Config,
        client: Arc<GateClient>,
        standing: Arc<Standing>,
        broker: Arc<Broker>,
    ) -> Result<Self, DiskError> {
        if client.provider_in_use().is_none() {
            standing.change(|applied| applied.forget_credentials())?;
        }
        let prober = Prober::new(broker, config.public_url.clone());
        Ok(Self { standing, role: None, gate: Some(GateRole { client, prober }) })
    }

    /// Goes on from what is on disk.
    pub(crate) fn open(
        config: &Config,
        data: PrivateDir,
        standing: Arc<Standing>,
        application: Application,
        broker: Arc<Broker>,
    ) -> Result<Self, DiskError> {
        let role = config.relying_party.clone().zip(config.recipe.relying_party.clone());
        let role = role.map(|(config_of_role, recipe)| Role {
            recipe,
            config: config_of_role,
            application,
            prober: Prober::new(broker.clone(), config.public_url.clone()),
            broker,
            keys: ClientKeys::open(data),
            unprobed: None,
            patience: PATIENCE,
        });
        if role.as_ref().is_some_and(|role| !role.has_files()) {
            // Somebody removed them, or the folder is another one now. The secret is nowhere else on this machine.
            standing.change(|applied| applied.forget_credentials())?;
        }
        Ok(Self { standing, role, gate: None })
    }

    /// Puts credentials into effect.
    pub(crate) async fn apply(&mut self, wanted: &Versioned<ClientCredentials>) -> Result<(), ApplyError> {
        if let Some(role) = &mut self.role {
            role.put(&wanted.content, self.standing.applied().proves(&wanted.content)).await?;
        }
        if let Some(gate) = &self.gate {
            gate.put(&wanted.content, self.standing.applied().proves(&wanted.content)).await?;
        }
        Ok(self.standing.change(|applied| applied.use_credentials(&wanted.content, wanted.version))?)
    }
}

impl GateRole {
    async fn put(&self, wanted: &ClientCredentials, proved: bool) -> Result<(), ApplyError> {
        if proved && self.client.uses(wanted) {
            return Ok(());
        }
        let candidate = self.client.candidate(wanted);
        let probed = self.prober.probe_gate(&candidate, wanted.secret_version, PATIENCE).await;
        probed.map_err(|error| match error {
            ProbeError::BrokerAway(_) => ApplyError::NotProbed(error),
            error => ApplyError::Probe(error),
        })?;
        Ok(self.client.adopt(wanted, candidate)?)
    }
}

impl Role {
    fn has_files(&self) -> bool {
        let current = self.config.credentials_dir.join(files::CURRENT);
        self.files().iter().all(|file| current.join(&file.name).is_file())
    }

    fn files(&self) -> &[CredentialFile] {
        match self.recipe.way(None).map(|way| &way.target) {
            Some(Target::Files(files)) => files,
            _ => &[],
        }
    }

    async fn put(&mut self, wanted: &ClientCredentials, proved: bool) -> Result<(), ApplyError> {
        let credentials = self.credentials(wanted).await?;
        let rendered = render::render(self.files(), &credentials);
        let files = FileSet::open(&self.config.credentials_dir, self.config.owner)?;
        let unchanged = files.holds(&rendered);
        if unchanged && proved {
            return Ok(());
        }
        if let Some(proof) = self.recipe.proof.0.first() {
            let down = |source| ApplyError::ApplicationDown { url: self.application.url().clone(), source };
            proof::reach(&self.application, proof).await.map_err(down)?;
        }
        if !unchanged {
            let swapped = files.write(credentials.secret_version, &rendered)?;
            let used = self.use_files(&credentials).await;
            return self.conclude(used, &files, Some(swapped), &credentials).await;
        }
        // In use already, or written before a crash, or proved for nobody: the files are right. There is a way back only
        // from what this process has written.
        let unprobed = self.unprobed.take().filter(|unprobed| unprobed.secret_version == credentials.secret_version);
        let used = match &unprobed {
            Some(_) => self.probe(&credentials).await,
            None => self.use_files(&credentials).await,
        };
        self.conclude(used, &files, unprobed.and_then(|unprobed| unprobed.swapped), &credentials).await
    }

    /// Keeps the files, goes back to the old ones, or leaves the decision to a later probe.
    async fn conclude(
        &mut self,
        used: Result<(), ApplyError>,
        files: &FileSet,
        swapped: Option<Swapped>,
        credentials: &Credentials,
    ) -> Result<(), ApplyError> {
        match (used, swapped) {
            (Err(error), Some(swapped)) if error.blames_application() => {
                files.roll_back(&swapped)?;
                // Once, and whatever comes of it: the first failure is the one to report.
                if let Err(again) = reload::run(&self.config.reload, credentials).await {
                    tracing::warn!(error = %again, "the reload after rolling back failed too");
                }
                Err(ApplyError::RolledBack(Box::new(error)))
            }
            (Err(error @ ApplyError::NotProbed(_)), swapped) => {
                self.unprobed = Some(Unprobed { secret_version: credentials.secret_version, swapped });
                Err(error)
            }
            (Ok(()), Some(swapped)) => Ok(files.forget_older(&swapped)?),
            (used, _) => used,
        }
    }

    /// What is to be written: as the broker sent it, or with a key of our own.
    async fn credentials(&self, wanted: &ClientCredentials) -> Result<Credentials, ApplyError> {
        let credential = if wanted.private_key {
            let (key, registration) = self.keys.of_version(wanted.secret_version)?;
            if registration == Registration::Missing {
                self.register(wanted.secret_version, &key).await?;
            }
            Credential::of_key(&key)?
        } else if self.recipe.client_auth_method == ClientAuthMethod::Tls {
            Credential::Certificate
        } else {
            Credential::Secret(wanted.client_secret.as_str().into())
        };
        Ok(Credentials {
            issuer: wanted.issuer.clone(),
            client_id: wanted.client_id.clone(),
            secret_version: wanted.secret_version,
            credential,
        })
    }

    async fn register(&self, secret_version: u64, key: &ClientKey) -> Result<(), ApplyError> {
        let channel = self.broker.shared().map_err(|error| ApplyError::KeyNotRegistered(error.to_string()))?;
        let jwk = key.public_jwk().to_string().into_bytes();
        let request = RegisterClientKeyRequest { secret_version, jwk };
        let call = async { SyncServiceClient::new(channel).register_client_key(request).await };
        match tokio::time::timeout(REGISTRATION_TIMEOUT, call).await {
            Ok(Ok(_)) => Ok(self.keys.registered(secret_version)?),
            Ok(Err(status)) => Err(ApplyError::KeyNotRegistered(format!("{:?}: {}", status.code(), status.message()))),
            Err(_) => Err(ApplyError::KeyNotRegistered(format!("{:?}", Code::DeadlineExceeded))),
        }
    }

    async fn use_files(&self, credentials: &Credentials) -> Result<(), ApplyError> {
        reload::run(&self.config.reload, credentials).await?;
        for proof in &self.recipe.proof.0 {
            proof::prove(self.patience, &self.application, proof, credentials).await?;
        }
        self.probe(credentials).await
    }

    async fn probe(&self, credentials: &Credentials) -> Result<(), ApplyError> {
        let probed = self.prober.probe(&self.application, &self.recipe, credentials, self.patience).await;
        probed.map_err(|error| match error {
            ProbeError::BrokerAway(_) => ApplyError::NotProbed(error),
            error => ApplyError::Probe(error),
        })
    }
}

#[cfg(test)]
mod tests;
