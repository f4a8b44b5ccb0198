//! The key set: kept on disk as it comes, and acknowledged when the application is known to verify with every key of it.
//!
//! How that is known, the recipe says. The best the agent can do without it is to wait until every cache that obeys
//! max-age (RFC 9111 5.2) has expired, twice over; the end of that wait is on disk, so that a restart neither shortens it
//! nor begins it again. The broker does not sign with a key before; so a proof that lies makes logins fail.

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::{KeySetProofMethod, Resource};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::watch;

use crate::application::{Application, ApplicationError, Question};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::conversation::Conversation;
use crate::disk::DiskError;
use crate::recipe::AppPath;
use crate::recipe::key_set::{KeySet, KeySetProof};
use crate::recipe::path::PathTemplate;
use crate::recipe::pointer::Pointer;
use crate::resources::applied::{KeySetWait, ProvedKeys};
use crate::resources::standing::{Refusal, Standing};
use crate::resources::wanted::{Versioned, Wanted};
use crate::resources::words;
use crate::{clock, random};

/// An application that has no credentials yet cannot know where the keys are: so long it is given.
const CREDENTIALS_FIRST: Duration = Duration::from_secs(30);
/// Longest sleep: a machine that was suspended, or whose clock was set, looks at the clock again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Between tries that fail, at the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Proves key sets, one after the other.
#[derive(Debug)]
pub(crate) struct KeySetProver {
    /// Whom to ask.
    pub(crate) application: Application,
    /// What the recipe says of it.
    pub(crate) means: Means,
    /// Where it is written down.
    pub(crate) standing: Arc<Standing>,
}

/// What is there to prove it with.
#[derive(Debug)]
pub(crate) enum Means {
    /// The instance is no relying party: it verifies nothing.
    NoRelyingParty,
    /// The recipe knows how.
    Recipe(KeySet),
    /// Only time.
    Time,
}

/// Why the application is not known to verify with a key set. The sentences go to the broker.
#[derive(Debug, Error)]
enum KeySetError {
    #[error("the broker's key set is no JWKS ({0}); its version may be too new for this agent")]
    Malformed(serde_json::Error),
    #[error("the application does not answer ({0}); start it")]
    ApplicationDown(#[source] ApplicationError),
    #[error(
        "the application answers {path} with status {status}, but does not name the keys {missing} there; check that it can reach the broker and that the recipe's relying_party.key_set fits"
    )]
    NotShown { path: AppPath, status: u16, missing: String },
    #[error(
        "the application answers the warm step {path} with status {status}; check that it can reach the broker and that the recipe's relying_party.key_set fits"
    )]
    NotWarmed { path: PathTemplate, status: u16 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl KeySetError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "KEY_SET_MALFORMED",
            Self::ApplicationDown(_) => "APPLICATION_DOWN",
            Self::NotShown { .. } => "KEY_SET_NOT_SHOWN",
            Self::NotWarmed { .. } => "KEY_SET_NOT_WARMED",
            Self::Disk(_) => "WRITE_FAILED",
        }
    }
}

impl KeySetProver {
    /// Proves what `wanted` shows until nobody is left to want anything.
    pub(crate) async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let in_effect = || self.standing.applied().versions.of(Resource::KeySet);
            let other = |wanted: &Wanted| wanted.version(Resource::KeySet).is_some_and(|it| Some(it) != in_effect());
            let Ok((key_set, max_age)) = wanted.wait_for(other).await.map(|wanted| of(&wanted)) else { return };
            let Some(key_set) = key_set else { continue };
            let superseded = |wanted: &Wanted| wanted.version(Resource::KeySet) != Some(key_set.version);
            tokio::select! {
                () = self.bring_about(&key_set, max_age) => {}
                changed = wanted.wait_for(superseded) => if changed.is_err() { return },
            }
        }
    }

    /// Tries until it is in effect.
    async fn bring_about(&self, key_set: &Versioned<String>, max_age: Duration) {
        let mut backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE);
        while let Err(error) = self.prove(key_set, max_age).await {
            let refusal = Refusal { version: key_set.version, reason: error.reason(), detail: error.to_string() };
            self.standing.refuse(Resource::KeySet, refusal, clock::now());
            tokio::time::sleep(backoff.next(random::fraction())).await;
        }
    }

    async fn prove(&self, key_set: &Versioned<String>, max_age: Duration) -> Result<(), KeySetError> {
        let key_ids = key_ids(&key_set.content).map_err(KeySetError::Malformed)?;
        self.standing.change(|applied| applied.key_set.clone_from(&key_set.content))?;
        let method = self.means.method();
        // A key that left, or another order: nothing is new to the application.
        let known = self.standing.applied().proved_keys.cover(&key_ids, method);
        if !known {
            match &self.means {
                Means::NoRelyingParty => {}
                Means::Recipe(recipe) => self.prove_by(recipe, &key_ids).await?,
                Means::Time => self.wait(key_set.version, max_age * 2).await?,
            }
        }
        tracing::info!(
            keys = key_ids.join(" "),
            method = words(method.as_str_name(), "KEY_SET_PROOF_METHOD_"),
            "the instance verifies with these keys"
        );
        self.standing.change(|applied| {
            applied.versions.set(Resource::KeySet, Some(key_set.version));
            applied.proved_keys = ProvedKeys::new(key_ids, method);
            if !known {
                applied.keys_proved_at = Some(clock::now().unix_timestamp());
            }
            applied.key_set_wait = None;
        })?;
        Ok(())
    }

    async fn prove_by(&self, recipe: &KeySet, key_ids: &[String]) -> Result<(), KeySetError> {
        if recipe.proof == KeySetProof::NoCache {
            return Ok(());
        }
        self.await_credentials().await;
        let mut conversation = Conversation::begin(&self.application, None);
        for step in &recipe.warm {
            let answer = conversation.take(step, &[]).await.map_err(KeySetError::ApplicationDown)?;
            if answer.status >= 400 {
                return Err(KeySetError::NotWarmed { path: step.path.clone(), status: answer.status });
            }
        }
        match (recipe.proof, &recipe.path, &recipe.pointer) {
            (KeySetProof::Shown, Some(path), Some(pointer)) => self.ask(path, pointer, key_ids).await,
            _ => Ok(()),
        }
    }

    async fn ask(&self, path: &AppPath, pointer: &Pointer, key_ids: &[String]) -> Result<(), KeySetError> {
        let answer = self.application.ask(Question::get(path)).await.map_err(KeySetError::ApplicationDown)?;
        let shown: Vec<&str> = pointer.select(&answer.body).into_iter().filter_map(Value::as_str).collect();
        let missing: Vec<&str> =
            key_ids.iter().map(String::as_str).filter(|id| answer.status != 200 || !shown.contains(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(KeySetError::NotShown { path: path.clone(), status: answer.status, missing: missing.join(" ") })
    }

    /// For the first ones, and not for ever: credentials that fail hold up no key set.
    async fn await_credentials(&self) {
        let mut standing = self.standing.watch();
        let there = standing.wait_for(|state| state.applied.proved);
        // Whatever comes of it: the proof is tried.
        let _ = tokio::time::timeout(CREDENTIALS_FIRST, there).await;
    }

    /// Until every cache has expired that got the old key set at the last moment.
    async fn wait(&self, version: u64, whole: Duration) -> Result<(), KeySetError> {
        let over_at = (clock::now() + whole).unix_timestamp();
        self.standing.change(|applied| {
            if applied.key_set_wait.as_ref().is_none_or(|wait| wait.version != version) {
                applied.key_set_wait = Some(KeySetWait { version, over_at });
            }
        })?;
        while let Some(wait) = self.standing.applied().key_set_wait {
            let remaining = wait.remaining(whole, clock::now());
            if remaining.is_zero() {
                break;
            }
            tokio::time::sleep(remaining.min(LONGEST_SLEEP)).await;
        }
        Ok(())
    }
}

impl Means {
    /// As configuration and recipe say.
    pub(crate) fn of(config: &Config) -> Self {
        match (&config.relying_party, &config.recipe.relying_party) {
            (Some(_), Some(role)) => role.key_set.clone().map_or(Self::Time, Self::Recipe),
            _ => Self::NoRelyingParty,
        }
    }

    fn method(&self) -> KeySetProofMethod {
        match self {
            Self::NoRelyingParty => KeySetProofMethod::NoRelyingParty,
            Self::Time => KeySetProofMethod::MaxAge,
            Self::Recipe(recipe) => match recipe.proof {
                KeySetProof::NoCache => KeySetProofMethod::NoCache,
                KeySetProof::Shown => KeySetProofMethod::Shown,
                KeySetProof::Warmed => KeySetProofMethod::Warmed,
            },
        }
    }
}

fn of(wanted: &Wanted) -> (Option<Versioned<String>>, Duration) {
    (wanted.key_set.clone(), wanted.key_set_max_age)
}

/// The `kid` of every key (RFC 7517 4.5).
fn key_ids(key_set: &str) -> Result<Vec<String>, serde_json::Error> {
    let document: Value = serde_json::from_str(key_set)?;
    let keys = document["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(keys.iter().filter_map(|key| key["kid"].as_str()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
