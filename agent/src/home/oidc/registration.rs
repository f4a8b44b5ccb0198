//! The agent's client at the application's provider. The recipe's command makes it, with a secret that the agent draws once
//! and keeps; or the operator has made it by hand and says so in `[home.oidc]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::child::{self, Ended};
use crate::disk::{DiskError, PrivateDir};
use crate::provider::wire::Wire;
use crate::provider::{Provider, Registration, SecretShown};
use crate::random::{self, NoRandomness};
use crate::secret_file::{self, SecretFileError};

/// In the data directory.
const FILE: &str = "home-oidc-client.json";
/// What the client is called there.
pub(super) const CLIENT_ID: &str = "homeward";
/// A client that the provider does not know even when it was made again is not made at each login.
const BACK_OFF: Duration = Duration::from_secs(60);
/// For one command: a user is waiting.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The client.
#[derive(Debug)]
pub(crate) struct ProviderClient {
    /// The way there.
    pub(crate) wire: Wire,
    /// As what it is known there, but for the secret and, if it is made, the name.
    pub(crate) known_as: KnownAs,
    /// Where its credentials are from.
    pub(crate) origin: Origin,
    /// Made, and not found to be missing since.
    pub(crate) made: Mutex<Made>,
}

/// A client that was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    provider: Option<Arc<Provider>>,
    is_unknown: bool,
    /// When it was made because the provider did not know it any more.
    again_at: Option<Instant>,
}

/// What a registration says beside the credentials.
#[derive(Debug, Clone)]
pub(crate) struct KnownAs {
    /// Issuer.
    pub(crate) issuer: String,
    /// Callback.
    pub(crate) redirect_uri: String,
    /// Scopes.
    pub(crate) scopes: Vec<String>,
    /// Where the secret stands.
    pub(crate) shown: SecretShown,
}

/// Where a client is from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The operator has made it.
    Operator {
        /// OAuth client id.
        client_id: String,
        /// Where its secret is.
        secret_file: PathBuf,
    },
    /// These commands make it.
    Commands {
        /// Programs with arguments.
        commands: Vec<Vec<String>>,
        /// Where the secret is kept.
        data: PrivateDir,
    },
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    client_secret: String,
}

/// Why there is no client. No secret is in it.
#[derive(Debug, Error)]
pub(crate) enum RegistrationError {
    /// The agent's own file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operator's file.
    #[error("[home.oidc] client_secret_file: {0}")]
    SecretFile(#[from] SecretFileError),
    /// No such program.
    #[error("the recipe's home.oidc.client command cannot be run: {0}")]
    NotRun(#[source] std::io::Error),
    /// It failed.
    #[error("the recipe's home.oidc.client command failed; it printed: {0:?}")]
    Failed(Box<str>),
    /// It was of no use.
    #[error("the provider does not know the agent's client although it was made again; that is tried once a minute")]
    StillUnknown,
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

impl ProviderClient {
    /// The provider, with a client that it knows.
    pub(in crate::home) async fn provider(&self) -> Result<Arc<Provider>, RegistrationError> {
        let mut made = self.made.lock().await;
        if let Some(provider) = &made.provider {
            return Ok(provider.clone());
        }
        if made.again_at.is_some_and(|at| at.elapsed() < BACK_OFF) {
            return Err(RegistrationError::StillUnknown);
        }
        let (client_id, client_secret) = match &self.origin {
            Origin::Operator { client_id, secret_file } => {
                (client_id.clone(), SecretString::from(secret_file::read(secret_file)?.as_str()))
            }
            Origin::Commands { commands, data } => (CLIENT_ID.to_owned(), self.make(commands, data).await?),
        };
        let KnownAs { issuer, redirect_uri, scopes, shown } = self.known_as.clone();
        let registration = Registration { issuer, client_id, client_secret, shown, redirect_uri, scopes };
        let provider = Arc::new(Provider::new(self.wire.clone(), registration));
        let again_at = made.is_unknown.then(Instant::now);
        *made = Made { provider: Some(provider.clone()), is_unknown: false, again_at };
        Ok(provider)
    }

    /// The provider says that it has no such client, or another secret: at the next login it is made again.
    pub(super) async fn is_unknown(&self) {
        tracing::warn!(issuer = self.known_as.issuer, "the provider does not know the agent's client any more");
        let mut made = self.made.lock().await;
        (made.provider, made.is_unknown) = (None, true);
    }

    async fn make(&self, commands: &[Vec<String>], data: &PrivateDir) -> Result<SecretString, RegistrationError> {
        let stored = match data.load::<Stored>(FILE)? {
            Some(stored) => stored,
            None => {
                let stored = Stored { client_secret: URL_SAFE_NO_PAD.encode(random::bytes::<32>()?) };
                // Before anybody else has it: a crash must not leave a client whose secret nobody knows.
                data.store(FILE, &stored)?;
                stored
            }
        };
        let environment = [
            ("HOMEWARD_CLIENT_ID", CLIENT_ID),
            ("HOMEWARD_CLIENT_SECRET", stored.client_secret.as_str()),
            ("HOMEWARD_CALLBACK_URL", self.known_as.redirect_uri.as_str()),
        ];
        for argv in commands {
            let ran = child::run(TIMEOUT, argv, &environment).await.map_err(RegistrationError::NotRun)?;
            if ran.ended != Ended::Success {
                let printed = ran.stderr.trim().replace(&stored.client_secret, "(secret)");
                let last: String = printed.lines().next_back().unwrap_or_default().chars().take(300).collect();
                return Err(RegistrationError::Failed(last.into()));
            }
        }
        tracing::info!(issuer = self.known_as.issuer, "the agent's client at the application's provider is made");
        Ok(SecretString::from(stored.client_secret.as_str()))
    }
}

impl From<NoRandomness> for RegistrationError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(data: &PrivateDir, script: &str) -> ProviderClient {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        ProviderClient {
            wire: Wire::new(None).unwrap(),
            known_as: KnownAs {
                issuer: "https://alpha.example/o".to_owned(),
                redirect_uri: "https://alpha.example/homeward/oidc/callback".to_owned(),
                scopes: Vec::new(),
                shown: SecretShown::Basic,
            },
            origin: Origin::Commands { commands: vec![command], data: data.clone() },
            made: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn a_client_is_made_once_with_one_secret_that_is_no_argument() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let log = folder.path().join("log");
        let script = format!(
            "echo $HOMEWARD_CLIENT_ID $HOMEWARD_CALLBACK_URL $HOMEWARD_CLIENT_SECRET >> '{}'; tr '\\0' ' ' < /proc/$$/cmdline >> '{}.argv'",
            log.display(),
            log.display()
        );
        let made = client(&data, &script);
        made.provider().await.unwrap();
        made.provider().await.unwrap();
        client(&data, &script).provider().await.unwrap();
        made.is_unknown().await;
        made.provider().await.unwrap();
        let lines = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 3, "once in each process, and once more after it was gone");
        made.is_unknown().await;
        assert!(matches!(made.provider().await, Err(RegistrationError::StillUnknown)), "not at each login");
        assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
        let secret = lines[0].rsplit(' ').next().unwrap();
        assert!(lines[0].starts_with("homeward https://alpha.example/homeward/oidc/callback ") && secret.len() == 43);
        assert!(!std::fs::read_to_string(format!("{}.argv", log.display())).unwrap().contains(secret));
    }

    #[tokio::test]
    async fn a_command_that_fails_says_so_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let failing = client(&data, "echo no such table $HOMEWARD_CLIENT_SECRET >&2; exit 1");
        let error = failing.provider().await.unwrap_err().to_string();
        assert!(error.contains("no such table (secret)"), "{error}");
    }
}
