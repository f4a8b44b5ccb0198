//! Probes: codes that stand for no grant. With one, an agent finds out how its application authenticates.
//!
//! 1. The agent asks for a probe code ([`Probes::create`]) and brings its application to present it at the token
//!    endpoint, as it would a code from a login.
//! 2. The endpoint authenticates the client as always and notes how that went ([`Probes::present`]), in one
//!    compare-and-swap: waiting -> authenticated | wrong secret. The client is told that the code is not valid.
//! 3. The agent asks what became of it ([`Probes::outcome`]).
//!
//! Invariants: no token is ever made for a probe code; an outcome never changes; a probe is found under the instance
//! that asked for it only, so that no other client can say anything about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::clock::Timestamp;
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use crate::storage::table::{Record, Table};
use crate::storage::{Store, StoreError};

/// How a probe code begins.
const PREFIX: &str = "hwp_";

/// How long a probe can be presented and asked about.
const LIFETIME: Duration = Duration::from_secs(120);

/// Probes of one instance that may wait to be presented.
const MOST_WAITING: usize = 4;

/// Probes of one instance that are kept, with those that have been presented.
const MOST_KEPT: usize = 8;

/// All probes.
#[derive(Clone, Debug)]
pub struct Probes {
    table: Table<InstanceProbes>,
}

/// A probe code as somebody presented it.
#[derive(Clone, Debug)]
pub struct ProbeCode(SecretHash);

/// A probe code on its way to the agent that asked for it.
#[derive(Debug)]
pub struct CreatedProbe {
    /// The code.
    pub code: SecretString,
    /// After this it is worth nothing.
    pub expires_at: Timestamp,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// Nobody has presented it.
    Waiting,
    /// The client presented it, and is who it says.
    Authenticated {
        /// The version of the credential that it used.
        version: u64,
    },
    /// Somebody presented it for this client with a wrong secret or key.
    WrongSecret,
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Authenticated { version } => write!(f, "authenticated by credential {version}"),
            Self::WrongSecret => f.write_str("wrong secret or key"),
        }
    }
}

/// The probes of one instance as they are stored, under its name: so their number is bounded by that of instances.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct InstanceProbes {
    probes: Vec<Probe>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Probe {
    code: SecretHash,
    expires_at: Timestamp,
    outcome: ProbeOutcome,
}

impl Record for InstanceProbes {
    const TABLE: &'static str = "probe";

    fn expires_at(&self) -> Option<Timestamp> {
        self.probes.iter().map(|probe| probe.expires_at).max()
    }
}

impl Probes {
    /// All probes in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { table: Table::new(store) }
    }

    /// Makes a probe for an instance.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn create(&self, instance: &InstanceName, now: Timestamp) -> Result<CreatedProbe, ProbeError> {
        let secret = OpaqueSecret::generate()?;
        let created = CreatedProbe { code: format!("{PREFIX}{}", secret.expose()).into(), expires_at: now + LIFETIME };
        let hash = SecretHash::of(created.code.expose_secret());
        self.table
            .update(instance.as_str(), |probes| {
                let mut probes = probes.unwrap_or_default();
                probes.make_room(now)?;
                let (code, expires_at) = (hash.clone(), created.expires_at);
                probes.probes.push(Probe { code, expires_at, outcome: ProbeOutcome::Waiting });
                Ok::<_, ProbeError>(probes)
            })
            .await?;
        Ok(created)
    }

    /// What became of an instance's own probe.
    ///
    /// # Errors
    /// When it has no such probe.
    pub async fn outcome(
        &self,
        instance: &InstanceName,
        code: &ProbeCode,
        now: Timestamp,
    ) -> Result<ProbeOutcome, ProbeError> {
        let stored = self.table.get(instance.as_str()).await?.ok_or(ProbeError::Unknown)?;
        let mut probes = stored.record.probes.into_iter();
        let found = probes.find(|probe| probe.code == code.0 && now < probe.expires_at);
        found.map(|probe| probe.outcome).ok_or(ProbeError::Unknown)
    }

    /// Notes how the client that presented a probe has authenticated itself.
    ///
    /// # Errors
    /// When the probe is not this instance's, has expired, or was presented before.
    pub async fn present(
        &self,
        instance: &InstanceName,
        code: &ProbeCode,
        outcome: ProbeOutcome,
        now: Timestamp,
    ) -> Result<(), ProbeError> {
        self.table
            .update(instance.as_str(), |probes| {
                let mut probes = probes.ok_or(ProbeError::Unknown)?;
                let probe = probes.probes.iter_mut().find(|probe| probe.code == code.0);
                let probe = probe.filter(|probe| now < probe.expires_at).ok_or(ProbeError::Unknown)?;
                if probe.outcome != ProbeOutcome::Waiting {
                    return Err(ProbeError::Presented);
                }
                probe.outcome = outcome;
                Ok(probes)
            })
            .await?;
        info!(%instance, %outcome, "probe presented");
        Ok(())
    }
}

impl InstanceProbes {
    /// Forgets what has expired, and the oldest that were presented if there are many.
    fn make_room(&mut self, now: Timestamp) -> Result<(), ProbeError> {
        self.probes.retain(|probe| now < probe.expires_at);
        let waiting = |probe: &Probe| probe.outcome == ProbeOutcome::Waiting;
        if self.probes.iter().filter(|probe| waiting(probe)).count() >= MOST_WAITING {
            return Err(ProbeError::TooMany);
        }
        while self.probes.len() >= MOST_KEPT {
            let presented = self.probes.iter().position(|probe| !waiting(probe)).ok_or(ProbeError::TooMany)?;
            self.probes.remove(presented);
        }
        Ok(())
    }
}

impl ProbeCode {
    /// The probe code that this text is, if it is one. A code from a login is shorter and never taken for one, however
    /// it begins.
    pub fn of(text: &str) -> Option<Self> {
        let secret = text.strip_prefix(PREFIX)?;
        (secret.len() == OpaqueSecret::LENGTH).then(|| Self(SecretHash::of(text)))
    }
}

/// Why there is no probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Never made for this instance, or expired.
    #[error("there is no such probe: make a new one")]
    Unknown,
    /// It has its outcome.
    #[error("the probe was presented before")]
    Presented,
    /// More than an agent needs.
    #[error("{MOST_WAITING} probes wait already: let them be presented or expire")]
    TooMany,
    /// No randomness.
    #[error("a secret could not be made")]
    Internal(#[from] SecretError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn probes(outcomes: &[ProbeOutcome]) -> InstanceProbes {
        let probe = |(index, outcome): (usize, &ProbeOutcome)| Probe {
            code: SecretHash::of(&index.to_string()),
            expires_at: NOW + LIFETIME,
            outcome: *outcome,
        };
        InstanceProbes { probes: outcomes.iter().enumerate().map(probe).collect() }
    }

    #[test]
    fn four_may_wait_and_those_that_were_presented_make_room() {
        let (waiting, done) = (ProbeOutcome::Waiting, ProbeOutcome::WrongSecret);
        for (outcomes, left) in [
            (vec![], Some(0)),
            (vec![waiting; 3], Some(3)),
            (vec![waiting; 4], None),
            (vec![done; 8], Some(7)),
            ([vec![waiting; 3], vec![done; 5]].concat(), Some(7)),
            ([vec![done; 4], vec![waiting; 4]].concat(), None),
        ] {
            let mut probes = probes(&outcomes);
            assert_eq!(probes.make_room(NOW).ok().map(|()| probes.probes.len()), left, "{outcomes:?}");
        }
        let mut expired = probes(&[waiting; 4]);
        expired.make_room(NOW + LIFETIME).unwrap();
        assert!(expired.probes.is_empty());
    }

    #[test]
    fn a_code_of_a_login_is_no_probe() {
        let secret = OpaqueSecret::generate().unwrap();
        assert!(ProbeCode::of(&format!("hwp_{}", secret.expose())).is_some());
        assert!(ProbeCode::of(secret.expose()).is_none());
        assert!(ProbeCode::of(&format!("hwp_{}", &secret.expose()[4..])).is_none());
        assert!(ProbeCode::of("hwp_").is_none());
    }
}
