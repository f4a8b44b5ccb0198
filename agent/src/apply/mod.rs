//! From a snapshot to an application that uses it, in this order:
//!
//! 1. keep the trust bundle (never an older one) and the key set;
//! 2. render the recipe's files from the client credentials ([`render`]);
//! 3. if they are on disk already and were proved, the revision is applied: nothing is written, nothing reloaded;
//! 4. ask whether the application is up at all: if not, touch nothing and come back;
//! 5. write the whole set beside the old one and swap it in at once ([`files`]);
//! 6. reload the application ([`reload`]) and let it show that it uses the new client ([`proof`]);
//! 7. remember what was applied ([`Applied`]). Only then does the broker hear an acknowledgement.
//!
//! Whatever fails after 5 puts the old set back and reloads once more. The broker then hears why, in one sentence.

pub mod applied;
pub mod files;
pub mod owner;
pub mod proof;
pub mod reload;
pub mod render;
pub mod worker;

use std::time::Duration;

use homeward_proto::v1::{ClientCredentials, Snapshot};
use thiserror::Error;
use url::Url;

use self::applied::Applied;
use self::files::{FileSet, FilesError};
use self::proof::ProofFailure;
use self::reload::ReloadError;
use self::render::{Credentials, RenderedFile};
use crate::application::{Application, ApplicationError};
use crate::config::{Config, RelyingPartyConfig};
use crate::disk::{DiskError, PrivateDir};
use crate::recipe::relying_party::RelyingParty;

/// Puts snapshots into effect, one at a time.
#[derive(Debug)]
pub(crate) struct Applier {
    data: PrivateDir,
    application: Application,
    role: Option<Role>,
    applied: Applied,
}

/// The application as relying party: what it needs, and where that goes.
#[derive(Debug)]
struct Role {
    recipe: RelyingParty,
    config: RelyingPartyConfig,
    /// How long a reload may take to show.
    patience: Duration,
}

/// [`Role::patience`] of the real thing.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// The agent's own state cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The reload failed; the old files are back.
    #[error("{source}; the previous files are back in place")]
    Reload {
        /// How.
        #[source]
        source: ReloadError,
    },
    /// The application does not show the new client; the old files are back.
    #[error("{source}; the previous files are back in place")]
    Proof {
        /// What it shows instead.
        #[source]
        source: ProofFailure,
    },
}

impl ApplyError {
    /// What the broker counts and filters by.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ApplicationDown { .. } => "APPLICATION_DOWN",
            Self::Files(_) | Self::Disk(_) => "WRITE_FAILED",
            Self::Reload { .. } => "RELOAD_FAILED",
            Self::Proof { .. } => "PROOF_FAILED",
        }
    }
}

impl Applier {
    /// Goes on from what is on disk.
    pub(crate) fn open(config: &Config, data: PrivateDir, application: Application) -> Result<Self, DiskError> {
        let mut applied = Applied::load(&data)?;
        let role = config.relying_party.clone().zip(config.recipe.relying_party.clone());
        let role = role.map(|(config, recipe)| Role { recipe, config, patience: PATIENCE });
        if role.as_ref().is_some_and(|role| !role.has_files()) {
            // Somebody removed them, or the folder is another one now. The secret is nowhere else on this machine: the
            // broker is asked as if nothing had been applied yet.
            applied = Applied::default();
        }
        Ok(Self { data, application, role, applied })
    }

    /// The revision that the instance uses; 0 for none.
    pub(crate) fn revision(&self) -> u64 {
        self.applied.revision
    }

    /// Puts a snapshot into effect. (Its trust bundle is the identity's business.)
    pub(crate) async fn apply(&mut self, snapshot: &Snapshot) -> Result<(), ApplyError> {
        let mut next = Applied::of(snapshot);
        if let (Some(role), Some(credentials)) = (&self.role, &snapshot.client_credentials) {
            let proved = self.applied.proves(credentials);
            role.put(&self.application, snapshot.revision, credentials, proved).await?;
            next.proved = true;
        }
        next.store(&self.data)?;
        self.applied = next;
        Ok(())
    }
}

impl Role {
    fn has_files(&self) -> bool {
        let current = self.config.credentials_dir.join(files::CURRENT);
        self.recipe.files.iter().all(|file| current.join(&file.name).is_file())
    }

    async fn put(
        &self,
        application: &Application,
        revision: u64,
        credentials: &ClientCredentials,
        proved: bool,
    ) -> Result<(), ApplyError> {
        let credentials = Credentials::from(credentials);
        let rendered = render::render(&self.recipe.files, &credentials);
        let files = FileSet::open(&self.config.credentials_dir, self.config.owner)?;
        let unchanged = files.holds(&rendered);
        if unchanged && proved {
            return Ok(());
        }
        if let Some(proof) = &self.recipe.proof {
            proof::reach(application, proof)
                .await
                .map_err(|source| ApplyError::ApplicationDown { url: application.url().clone(), source })?;
        }
        if unchanged {
            // Written before a crash, or proved for nobody: the files are right, so there is nothing to roll back to.
            return self.use_files(application, &credentials).await;
        }
        self.swap(application, &files, revision, &rendered, &credentials).await
    }

    async fn swap(
        &self,
        application: &Application,
        files: &FileSet,
        revision: u64,
        rendered: &[RenderedFile],
        credentials: &Credentials,
    ) -> Result<(), ApplyError> {
        let swapped = files.write(revision, rendered)?;
        if let Err(error) = self.use_files(application, credentials).await {
            tracing::warn!(revision, reason = error.reason(), "putting the previous credential files back");
            files.roll_back(&swapped)?;
            // Once, and whatever comes of it: the first failure is the one to report.
            if let Err(again) = reload::run(&self.config.reload, credentials).await {
                tracing::warn!(error = %again, "the reload after rolling back failed too");
            }
            return Err(error);
        }
        files.forget_older(&swapped)?;
        Ok(())
    }

    async fn use_files(&self, application: &Application, credentials: &Credentials) -> Result<(), ApplyError> {
        reload::run(&self.config.reload, credentials).await.map_err(|source| ApplyError::Reload { source })?;
        if let Some(proof) = &self.recipe.proof {
            proof::prove(self.patience, application, proof, credentials)
                .await
                .map_err(|source| ApplyError::Proof { source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
