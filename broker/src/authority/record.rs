//! The CA as it is stored, and the moves that it can make. Pure: the moves consume the record and give the next one.
//!
//! | phase | trusted | signs instances | signs brokers |
//! |---|---|---|---|
//! | none | current | current | current |
//! | [`Prepared`](CaPhase::Prepared) | both | current | current |
//! | [`ClientsActivated`](CaPhase::ClientsActivated) | both | next | current |
//! | [`ServersActivated`](CaPhase::ServersActivated) | both | next | next |
//! | [`RollingBack`](CaPhase::RollingBack) | both | current | current |

use std::fmt;

use homeward_certs::bundle::{BundleError, BundleStatement, TrustBundle};
use homeward_certs::pin::SpkiPin;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::clock::Timestamp;
use crate::secret::{HoldsSealed, Purpose, Sealed};
use crate::storage::StoreError;
use crate::storage::table::Record;

/// The CA as it is stored, under the trust domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredAuthority {
    /// The CA in use; also that of a broker from before there could be two.
    #[serde(flatten)]
    pub(super) current: StoredCa,
    /// Set while the CA turns.
    #[serde(default)]
    pub(super) turn: Option<Turn>,
    /// Version of the trust bundle.
    #[serde(default = "first_version")]
    pub(super) bundle_version: u64,
}

impl Record for StoredAuthority {
    const TABLE: &'static str = "authority";
}

impl HoldsSealed for StoredAuthority {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        let next = self.turn.as_mut().map(|turn| &mut turn.next);
        std::iter::once(&mut self.current).chain(next).map(|ca| (Purpose::AuthorityKey, &mut ca.key)).collect()
    }
}

/// One CA with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredCa {
    /// DER.
    pub(super) certificate: ByteBuf,
    /// PKCS#8 (DER), sealed for [`Purpose::AuthorityKey`](crate::secret::Purpose::AuthorityKey).
    pub(super) key: Sealed,
    pub(super) created_at: Timestamp,
}

/// The CA on its way to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) next: StoredCa,
    pub(super) phase: CaPhase,
}

/// Where the CA is while it turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaPhase {
    /// The next CA is trusted and signs nothing.
    Prepared,
    /// The next CA signs instances; brokers still show a leaf of the current one.
    ClientsActivated,
    /// The next CA signs brokers too.
    ServersActivated,
    /// The current CA signs again; the next one is trusted until nobody has a certificate of it.
    RollingBack,
}

impl fmt::Display for CaPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepared => "prepared",
            Self::ClientsActivated => "clients-activated",
            Self::ServersActivated => "servers-activated",
            Self::RollingBack => "rolling-back",
        })
    }
}

/// A move of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaStep {
    /// Make the next CA, to be trusted from now on.
    Prepare,
    /// Let it sign instances.
    ActivateClients,
    /// Let it sign brokers.
    ActivateServers,
    /// Trust it alone.
    Retire,
    /// Let the current one sign again.
    RollBack,
    /// Trust the current one alone, and forget the next.
    FinishRollBack,
}

impl fmt::Display for CaStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::ActivateClients => "activate-clients",
            Self::ActivateServers => "activate-servers",
            Self::Retire => "retire",
            Self::RollBack => "roll-back",
            Self::FinishRollBack => "finish-roll-back",
        })
    }
}

/// A step that does not follow the phase that the CA is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA cannot do the step {step}: it {}", match phase {
    Some(phase) => format!("is {phase}"),
    None => "does not turn".to_owned(),
})]
pub struct StepRefused {
    /// What was to be done.
    pub step: CaStep,
    /// Where the CA is; nothing when it does not turn.
    pub phase: Option<CaPhase>,
}

impl StoredAuthority {
    /// A federation's first CA.
    pub(super) fn first(current: StoredCa) -> Self {
        Self { current, turn: None, bundle_version: first_version() }
    }

    /// Where it is while it turns.
    pub(super) fn phase(&self) -> Option<CaPhase> {
        self.turn.as_ref().map(|turn| turn.phase)
    }

    /// What agents and brokers trust.
    ///
    /// # Errors
    /// When a certificate cannot be trusted.
    pub(super) fn bundle(&self) -> Result<TrustBundle, BundleError> {
        let next = self.turn.as_ref().map(|turn| &turn.next);
        let trusted = std::iter::once(&self.current).chain(next);
        TrustBundle::new(self.bundle_version, trusted.map(|ca| ca.certificate.to_vec()).collect())
    }

    /// From now on `next` is trusted too.
    ///
    /// # Errors
    /// When the CA turns already.
    pub(super) fn prepare(self, next: StoredCa) -> Result<Self, StepRefused> {
        if let Some(phase) = self.phase() {
            return Err(StepRefused { step: CaStep::Prepare, phase: Some(phase) });
        }
        let turn = Some(Turn { next, phase: CaPhase::Prepared });
        Ok(Self { turn, bundle_version: self.bundle_version + 1, ..self })
    }

    /// From now on the next one signs instances.
    ///
    /// # Errors
    /// When it is not just prepared.
    pub(super) fn activate_clients(self) -> Result<Self, StepRefused> {
        self.enter(CaPhase::ClientsActivated, CaStep::ActivateClients, &[CaPhase::Prepared])
    }

    /// From now on the next one signs brokers too.
    ///
    /// # Errors
    /// When it does not sign instances.
    pub(super) fn activate_servers(self) -> Result<Self, StepRefused> {
        self.enter(CaPhase::ServersActivated, CaStep::ActivateServers, &[CaPhase::ClientsActivated])
    }

    /// From now on the next one is the current one, and the only one.
    ///
    /// # Errors
    /// When it does not sign everything yet.
    pub(super) fn retire(self) -> Result<Self, StepRefused> {
        match self.turn {
            Some(Turn { next, phase: CaPhase::ServersActivated }) => {
                Ok(Self { current: next, turn: None, bundle_version: self.bundle_version + 1 })
            }
            other => Err(StepRefused { step: CaStep::Retire, phase: other.map(|turn| turn.phase) }),
        }
    }

    /// From now on the current one signs everything again.
    ///
    /// # Errors
    /// When it does not turn, or is taken back already.
    pub(super) fn roll_back(self) -> Result<Self, StepRefused> {
        let from = [CaPhase::Prepared, CaPhase::ClientsActivated, CaPhase::ServersActivated];
        self.enter(CaPhase::RollingBack, CaStep::RollBack, &from)
    }

    /// From now on the current one is trusted alone.
    ///
    /// # Errors
    /// When it is not being taken back.
    pub(super) fn finish_roll_back(self) -> Result<Self, StepRefused> {
        match self.phase() {
            Some(CaPhase::RollingBack) => {
                Ok(Self { turn: None, bundle_version: self.bundle_version + 1, current: self.current })
            }
            phase => Err(StepRefused { step: CaStep::FinishRollBack, phase }),
        }
    }

    fn enter(mut self, to: CaPhase, step: CaStep, from: &[CaPhase]) -> Result<Self, StepRefused> {
        match &mut self.turn {
            Some(turn) if from.contains(&turn.phase) => turn.phase = to,
            other => return Err(StepRefused { step, phase: other.as_ref().map(|turn| turn.phase) }),
        }
        Ok(self)
    }
}

/// A bundle statement as it is stored, under its version with leading zeros.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredStatement {
    bundle: TrustBundle,
    signer: ByteBuf,
    signature: ByteBuf,
}

impl Record for StoredStatement {
    const TABLE: &'static str = "trust_bundle";
}

impl StoredStatement {
    /// Key in the table: sorts by version.
    pub(super) fn key(&self) -> String {
        format!("{:020}", self.bundle.version)
    }
}

impl From<BundleStatement> for StoredStatement {
    fn from(statement: BundleStatement) -> Self {
        let signer = ByteBuf::from(statement.signer.as_bytes().as_slice());
        Self { bundle: statement.bundle, signer, signature: ByteBuf::from(statement.signature) }
    }
}

impl TryFrom<StoredStatement> for BundleStatement {
    type Error = StoreError;

    fn try_from(stored: StoredStatement) -> Result<Self, StoreError> {
        let signer = stored.signer.as_slice().try_into().map_err(|_| StoreError::Corrupt(StoredStatement::TABLE))?;
        Ok(Self { bundle: stored.bundle, signer: SpkiPin::from_bytes(signer), signature: stored.signature.into_vec() })
    }
}

const fn first_version() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Purpose, SealingKeys};

    fn ca(mark: u8) -> StoredCa {
        let sealing = SealingKeys::new_for_test();
        let key = sealing.seal(Purpose::AuthorityKey, &[mark]).unwrap();
        StoredCa { certificate: ByteBuf::from([mark]), key, created_at: Timestamp::from_secs(mark.into()) }
    }

    fn at(phase: Option<CaPhase>) -> StoredAuthority {
        let turn = phase.map(|phase| Turn { next: ca(2), phase });
        StoredAuthority { current: ca(1), turn, bundle_version: 7 }
    }

    fn take(record: StoredAuthority, step: CaStep) -> Result<StoredAuthority, StepRefused> {
        match step {
            CaStep::Prepare => record.prepare(ca(2)),
            CaStep::ActivateClients => record.activate_clients(),
            CaStep::ActivateServers => record.activate_servers(),
            CaStep::Retire => record.retire(),
            CaStep::RollBack => record.roll_back(),
            CaStep::FinishRollBack => record.finish_roll_back(),
        }
    }

    /// Every step in every phase: where it leads, which CA is the current one then, and the version of the bundle.
    #[test]
    fn the_ca_moves_on_legal_ways_only() {
        use CaPhase::{ClientsActivated, Prepared, RollingBack, ServersActivated};
        use CaStep::{ActivateClients, ActivateServers, FinishRollBack, Prepare, Retire, RollBack};
        let legal = [
            (None, Prepare, (Some(Prepared), 1, 8)),
            (Some(Prepared), ActivateClients, (Some(ClientsActivated), 1, 7)),
            (Some(Prepared), RollBack, (Some(RollingBack), 1, 7)),
            (Some(ClientsActivated), ActivateServers, (Some(ServersActivated), 1, 7)),
            (Some(ClientsActivated), RollBack, (Some(RollingBack), 1, 7)),
            (Some(ServersActivated), Retire, (None, 2, 8)),
            (Some(ServersActivated), RollBack, (Some(RollingBack), 1, 7)),
            (Some(RollingBack), FinishRollBack, (None, 1, 8)),
        ];
        let phases = [None, Some(Prepared), Some(ClientsActivated), Some(ServersActivated), Some(RollingBack)];
        for phase in phases {
            for step in [Prepare, ActivateClients, ActivateServers, Retire, RollBack, FinishRollBack] {
                let expected = legal.iter().find(|(from, by, _)| (*from, *by) == (phase, step)).map(|(_, _, to)| *to);
                let taken = take(at(phase), step);
                match (taken, expected) {
                    (Ok(record), Some(to)) => {
                        assert_eq!((record.phase(), record.current.certificate[0], record.bundle_version), to);
                    }
                    (Err(refused), None) => assert_eq!(refused, StepRefused { step, phase }),
                    (taken, expected) => panic!("{step} in {phase:?}: {taken:?} instead of {expected:?}"),
                }
            }
        }
        let refused = at(None).retire().unwrap_err();
        assert_eq!(refused.to_string(), "the CA cannot do the step retire: it does not turn");
    }

    #[test]
    fn the_record_of_the_first_broker_is_read() {
        let StoredCa { certificate, key, created_at } = ca(1);
        let old = serde_json::json!({"certificate": certificate, "key": key, "created_at": created_at});
        let read: StoredAuthority = serde_json::from_value(old).unwrap();
        assert_eq!((read.phase(), read.bundle_version), (None, 1));
        assert_eq!(read.current.certificate, certificate);
        let written = serde_json::to_vec(&read.prepare(ca(2)).unwrap()).unwrap();
        let again: StoredAuthority = serde_json::from_slice(&written).unwrap();
        assert_eq!((again.phase(), again.bundle_version), (Some(CaPhase::Prepared), 2));
        assert_eq!(again.turn.unwrap().next.certificate[0], 2);
    }
}
