//! From client credentials to an application that uses them, in this order:
//!
//! 1. with private_key_jwt, make the key of this version and register its public half ([`client_key`]);
//! 2. plan what the configured way of writing must change ([`way`]: a set of [`files`], a `merge` into files of others,
//!    `rows` of a database, `items` of an API); if it is nothing and was proved, nothing is written and nothing reloaded;
//! 3. ask whether the application is up at all: if not, touch nothing and come back;
//! 4. write down the way back, and write (what was written before and never shown to be good is undone first: `way_back`);
//! 5. reload the application ([`reload`]), let it show that it uses the new client ([`proof`]), and see it authenticate
//!    at the broker with the new credential (`probe`);
//! 6. write down what is in effect. Only then does the broker hear an acknowledgement, and closes the old credential.
//!
//! Where the agent itself is the relying party ([`crate::gate`]), all of that is one probe and one file.
//!
//! Whatever the application does wrong after 4 puts the old state back and reloads once more. The broker then hears why,
//! in one sentence.

pub mod client_key;
pub mod files;
pub mod owner;
pub mod proof;
pub mod reload;
pub mod render;
pub mod worker;

mod items;
mod merge;
mod probe;
mod rows;
pub(crate) mod way;
mod way_back;

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::sync_service_client::SyncServiceClient;
use homeward_proto::v1::{ClientCredentials, RegisterClientKeyRequest};
use thiserror::Error;
use tonic::Code;
use url::Url;

use self::client_key::{ClientKey, ClientKeyError, ClientKeys, Registration};
use self::probe::{ProbeError, Prober};
use self::proof::ProofFailure;
use self::reload::ReloadError;
use self::render::{Addresses, Credential, Credentials};
use self::way::{Glance, Plan, Undo, Way, WayError};
use self::way_back::{Pending, Shown, WAY_BACK};
use crate::application::{Application, ApplicationError};
use crate::clock;
use crate::config::{Config, RelyingPartyConfig};
use crate::connection::Broker;
use crate::disk::{DiskError, PrivateDir};
use crate::gate::client::GateClient;
use crate::recipe::relying_party::{ClientAuthMethod, RelyingParty};
use crate::resources::applied::{Applied, Proved};
use crate::resources::standing::Standing;
use crate::resources::wanted::Versioned;

/// Puts client credentials into effect.
#[derive(Debug)]
pub(crate) struct Applier {
    standing: Arc<Standing>,
    /// Of the broker that the instance is enrolled with.
    issuer: String,
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
    way: Way,
    recipe: RelyingParty,
    config: RelyingPartyConfig,
    application: Application,
    broker: Arc<Broker>,
    prober: Prober,
    keys: ClientKeys,
    data: PrivateDir,
    /// What is written and not yet proved.
    pending: Option<Pending>,
    /// How long a reload may take to show, and a probe to come out right.
    patience: Duration,
}

/// What came of putting credentials into effect.
struct Put {
    /// When the application has shown that it uses them.
    proved: Proved,
    /// What was taken out of files of others, and why.
    removed: Vec<String>,
}

/// [`Role::patience`] of the real thing.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the broker to take a public key.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a revision is not in effect. The sentences go to the broker: no secrets.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    /// Logins would go elsewhere than where the operator has enrolled the instance.
    #[error(
        "the credentials are for the issuer {sent}, and this instance is enrolled with {enrolled}; enrol it again if the broker's address has changed"
    )]
    OtherIssuer {
        /// What the broker says now.
        sent: String,
        /// What it said then.
        enrolled: String,
    },
    /// The application does not answer; nothing was touched.
    #[error("the application does not answer at {url}; start it: {source}")]
    ApplicationDown {
        /// Where it should.
        url: Url,
        /// What happened.
        #[source]
        source: ApplicationError,
    },
    /// It cannot be written.
    #[error(transparent)]
    Way(WayError),
    /// The application failed, and the old state cannot be put back.
    #[error("{cause}; and what was there before could not be put back: {source}")]
    NotUndone {
        /// Why not.
        #[source]
        source: WayError,
        /// What the application did wrong.
        cause: String,
    },
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
    #[error("{0}; what was there before is back in place")]
    RolledBack(#[source] Box<Self>),
    /// Nobody can say how the application authenticates; the new files stay.
    #[error("{0}; the new ones are in place, and the proof follows")]
    NotProbed(#[source] ProbeError),
}

impl ApplyError {
    /// What the broker counts and filters by.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::OtherIssuer { .. } => "OTHER_ISSUER",
            Self::ApplicationDown { .. } => "APPLICATION_DOWN",
            Self::Way(_) | Self::Disk(_) => "WRITE_FAILED",
            Self::NotUndone { .. } => "ROLL_BACK_FAILED",
            Self::ClientKey(_) => "CLIENT_KEY_FAILED",
            Self::KeyNotRegistered(_) => "CLIENT_KEY_NOT_REGISTERED",
            Self::Reload(_) => "RELOAD_FAILED",
            Self::Proof(_) => "PROOF_FAILED",
            Self::Probe(source) | Self::NotProbed(source) => source.reason(),
            Self::RolledBack(cause) => cause.reason(),
        }
    }

    fn of_probe(error: ProbeError) -> Self {
        if error.is_open() { Self::NotProbed(error) } else { Self::Probe(error) }
    }

    /// Whether the next try asks and touches nothing as long as this lasts.
    fn only_asks(&self) -> bool {
        matches!(
            self,
            Self::OtherIssuer { .. } | Self::ApplicationDown { .. } | Self::KeyNotRegistered(_) | Self::NotProbed(_)
        )
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
        let issuer = broker.issuer();
        let prober = Prober::new(broker, config.public_url.clone());
        Ok(Self { standing, issuer, role: None, gate: Some(GateRole { client, prober }) })
    }

    /// Goes on from what is on disk.
    pub(crate) fn open(
        config: &Config,
        data: PrivateDir,
        standing: Arc<Standing>,
        application: Application,
        broker: Arc<Broker>,
    ) -> Result<Self, DiskError> {
        let (issuer, pending) = (broker.issuer(), data.load(WAY_BACK)?);
        let role = config.relying_party.clone().zip(config.recipe.relying_party.clone());
        let role = role.map(|(config_of_role, recipe)| Role {
            way: Way::of(&recipe, &config_of_role),
            recipe,
            config: config_of_role,
            application,
            prober: Prober::new(broker.clone(), config.public_url.clone()),
            broker,
            keys: ClientKeys::open(data.clone()),
            data,
            pending,
            patience: PATIENCE,
        });
        match role.as_ref().map(|role| role.way.glance()) {
            // Somebody removed them, or the folder is another one now. The secret is nowhere else on this machine.
            Some(Glance::Gone) => standing.change(Applied::forget_credentials)?,
            // Others may have changed what they share with the agent: with the credentials it is put right.
            Some(Glance::Unknown) => standing.change(Applied::ask_for_credentials)?,
            Some(Glance::InPlace) | None => {}
        }
        Ok(Self { standing, issuer, role, gate: None })
    }

    /// Puts credentials into effect.
    pub(crate) async fn apply(&mut self, wanted: &Versioned<ClientCredentials>) -> Result<(), ApplyError> {
        if wanted.content.issuer != self.issuer {
            let (sent, enrolled) = (wanted.content.issuer.clone(), self.issuer.clone());
            return Err(ApplyError::OtherIssuer { sent, enrolled });
        }
        let known = self.standing.applied().proves(&wanted.content);
        let mut proved = Proved::Before;
        if let Some(role) = &mut self.role {
            let Put { removed, proved: by_application } = role.put(&wanted.content, known).await?;
            proved = by_application;
            if !removed.is_empty() {
                self.standing.change(|applied| applied.removed = removed)?;
            }
        }
        if let Some(gate) = &self.gate {
            proved = gate.put(&wanted.content, known).await?;
        }
        Ok(self.standing.change(|applied| applied.use_credentials(&wanted.content, wanted.version, proved))?)
    }
}

impl GateRole {
    async fn put(&self, wanted: &ClientCredentials, known: bool) -> Result<Proved, ApplyError> {
        if known && self.client.uses(wanted) {
            return Ok(Proved::Before);
        }
        let candidate = self.client.candidate(wanted);
        let probed = self.prober.probe_gate(&candidate, wanted.secret_version, PATIENCE).await;
        probed.map_err(ApplyError::of_probe)?;
        self.client.adopt(wanted, candidate)?;
        Ok(Proved::Now(clock::now()))
    }
}

impl Role {
    async fn put(&mut self, wanted: &ClientCredentials, known: bool) -> Result<Put, ApplyError> {
        let credentials = self.credentials(wanted).await?;
        self.go_back().await?;
        let plan = self.plan(&credentials).await?;
        let removed = plan.removed();
        if plan.is_empty() && known {
            return Ok(Put { removed, proved: Proved::Before });
        }
        for proof in &self.recipe.proof.0 {
            match proof::reach(&self.application, proof).await {
                Err(ApplicationError::Failing(_)) if !removed.is_empty() => {
                    // What is taken out breaks the application: as long as it stands there, nothing else can be seen.
                }
                reached => reached.map_err(|source| self.down(source))?,
            }
        }
        if plan.is_empty() {
            // In use already, or written before a crash, or proved for nobody. There is a way back only from what is kept.
            let pending = self.pending.take().filter(|pending| pending.secret_version == credentials.secret_version);
            let used = match &pending {
                Some(pending) if pending.shown == Shown::Yes => self.probe(&credentials).await,
                Some(_) | None => self.use_them(&credentials).await,
            };
            self.conclude(used, pending.and_then(|pending| pending.undo), &credentials).await?;
        } else {
            let undo = self.write(plan, &credentials).await?;
            let used = self.use_them(&credentials).await;
            self.conclude(used, undo, &credentials).await?;
        }
        Ok(Put { removed, proved: Proved::Now(clock::now()) })
    }

    async fn plan(&self, credentials: &Credentials) -> Result<Plan, ApplyError> {
        let planned = self.way.plan(&self.application, credentials).await;
        planned.map_err(|source| self.not_written(source))
    }

    /// Keeps the new state, goes back to the old one, or leaves the decision to a later probe.
    async fn conclude(
        &mut self,
        used: Result<(), ApplyError>,
        undo: Option<Undo>,
        credentials: &Credentials,
    ) -> Result<(), ApplyError> {
        match (used, undo) {
            (Err(error), Some(undo)) if error.blames_application() => {
                if let Err(source) = self.way.undo(&self.application, &undo).await {
                    // It is tried again before anything else is.
                    let secret_version = credentials.secret_version;
                    let pending = Pending { secret_version, shown: Shown::No, undo: Some(undo) };
                    self.data.store(WAY_BACK, &pending)?;
                    self.pending = Some(pending);
                    return Err(ApplyError::NotUndone { source, cause: error.to_string() });
                }
                self.data.remove(WAY_BACK)?;
                // Once, and whatever comes of it: the first failure is the one to report.
                if let Err(again) = self.reload(credentials).await {
                    tracing::warn!(error = %again, "the reload after rolling back failed too");
                }
                Err(ApplyError::RolledBack(Box::new(error)))
            }
            (Err(error @ ApplyError::NotProbed(_)), undo) => {
                let (secret_version, shown) = (credentials.secret_version, Shown::Yes);
                let pending = Pending { secret_version, shown, undo };
                self.data.store(WAY_BACK, &pending)?;
                self.pending = Some(pending);
                Err(error)
            }
            (Ok(()), undo) => {
                self.data.remove(WAY_BACK)?;
                undo.map_or(Ok(()), |undo| self.way.stay(&undo)).map_err(|source| self.not_written(source))
            }
            (used, _) => used,
        }
    }

    fn down(&self, source: ApplicationError) -> ApplyError {
        ApplyError::ApplicationDown { url: self.application.url().clone(), source }
    }

    fn not_written(&self, source: WayError) -> ApplyError {
        source.application_down().map_or_else(ApplyError::Way, |source| self.down(source))
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
            addresses: Addresses::of(&wanted.issuer),
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

    async fn use_them(&self, credentials: &Credentials) -> Result<(), ApplyError> {
        self.reload(credentials).await?;
        for proof in &self.recipe.proof.0 {
            proof::prove(self.patience, &self.application, proof, credentials).await?;
        }
        self.probe(credentials).await
    }

    async fn reload(&self, credentials: &Credentials) -> Result<(), ReloadError> {
        let reloaded = reload::run(&self.config.reload, credentials).await;
        if !self.config.reload.is_empty() {
            self.application.count_reload(reloaded.is_ok());
        }
        reloaded
    }

    async fn probe(&self, credentials: &Credentials) -> Result<(), ApplyError> {
        let probed = self.prober.probe(&self.application, &self.recipe, credentials, self.patience).await;
        probed.map_err(ApplyError::of_probe)
    }
}

#[cfg(test)]
mod tests;
