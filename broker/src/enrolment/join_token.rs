//! Join tokens as the broker keeps them: what one may do, and what became of it. The secret is not kept, only the key
//! that checks proofs of it, sealed.

use homeward_certs::identity::InstanceName;
use homeward_certs::join_token::JoinTokenId;
use homeward_certs::proof::ProofKey;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::enrolment::EnrolmentError;
use crate::registry::Instance;
use crate::secret::{HoldsSealed, Purpose, Sealed, SealingKeys, SecretError};
use crate::storage::table::Record;

/// For how long the same agent may fetch a lost answer again.
const RETRY_WINDOW: Duration = Duration::from_secs(15 * 60);

/// How long ops can read what became of a token.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A join token as it is stored, under its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredJoinToken {
    /// The only instance that it enrols.
    pub instance: InstanceName,
    /// Whether it may take the place of an enrolled instance.
    pub replace: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: JoinTokenState,
    /// Who made it.
    pub creator: String,
    /// Why.
    pub note: String,
    /// Sealed for [`Purpose::JoinToken`].
    proof_key: Sealed,
}

/// What became of a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinTokenState {
    /// Nothing yet.
    Issued,
    /// An agent with this key has a certificate from it.
    Claimed(Claim),
    /// That agent has used the certificate.
    Confirmed(Claim),
    /// Ops took it back.
    Revoked,
}

impl JoinTokenState {
    /// For the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Claimed(_) => "claimed",
            Self::Confirmed(_) => "confirmed",
            Self::Revoked => "revoked",
        }
    }
}

/// Who used a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Fingerprint of the certified key.
    pub key: String,
    /// The request.
    pub request_id: Uuid,
    /// When.
    pub claimed_at: Timestamp,
    /// From which address.
    pub peer: String,
}

/// What a valid proof for a join token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Issue a certificate.
    Issue,
    /// Give the answer again that was lost.
    Repeat,
    /// Somebody else had it first, and one of the two is not the operator: cut the name off.
    Quarantine,
}

impl StoredJoinToken {
    /// A new token.
    ///
    /// # Errors
    /// When the proof key cannot be sealed.
    pub fn new(
        order: JoinTokenOrder,
        key: &ProofKey,
        sealing: &SealingKeys,
        now: Timestamp,
    ) -> Result<Self, SecretError> {
        Ok(Self {
            instance: order.instance,
            replace: order.replace,
            created_at: now,
            expires_at: now + order.lifetime,
            state: JoinTokenState::Issued,
            creator: order.creator,
            note: order.note,
            proof_key: sealing.seal(Purpose::JoinToken, key.expose_bytes())?,
        })
    }

    /// The key that checks proofs.
    ///
    /// # Errors
    /// When the key-encryption key does not fit.
    pub fn proof_key(&self, sealing: &SealingKeys) -> Result<ProofKey, SecretError> {
        let bytes = sealing.open(Purpose::JoinToken, &self.proof_key)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| SecretError::NotSealedForThis)?;
        Ok(ProofKey::from_bytes(bytes))
    }

    /// Decides on a valid proof made by the holder of `key`.
    ///
    /// # Errors
    /// When the token is revoked, too old, or used up by this very key.
    pub fn judge(&self, key: &str, now: Timestamp) -> Result<Judgement, EnrolmentError> {
        let expired = self.expires_at <= now;
        match &self.state {
            JoinTokenState::Revoked => Err(EnrolmentError::TokenInvalid),
            JoinTokenState::Claimed(claim) if claim.key == key && now <= claim.claimed_at + RETRY_WINDOW => {
                Ok(Judgement::Repeat)
            }
            JoinTokenState::Claimed(claim) | JoinTokenState::Confirmed(claim) if claim.key == key => {
                Err(EnrolmentError::TokenUsedUp)
            }
            // An old token that leaks must not be a way to cut an instance off.
            _ if expired => Err(EnrolmentError::TokenExpired),
            JoinTokenState::Claimed(_) | JoinTokenState::Confirmed(_) => Ok(Judgement::Quarantine),
            JoinTokenState::Issued => Ok(Judgement::Issue),
        }
    }

    /// Whether the instance's present identity came by this token: both were written by one commit.
    pub fn enrolled(&self, instance: &Instance) -> bool {
        match &self.state {
            JoinTokenState::Claimed(claim) | JoinTokenState::Confirmed(claim) => {
                claim.claimed_at == instance.enrolled_at
            }
            JoinTokenState::Issued | JoinTokenState::Revoked => false,
        }
    }
}

impl Record for StoredJoinToken {
    const TABLE: &'static str = "join_token";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at + KEPT)
    }
}

impl HoldsSealed for StoredJoinToken {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        vec![(Purpose::JoinToken, &mut self.proof_key)]
    }
}

/// What ops ask for.
#[derive(Clone, Debug)]
pub struct JoinTokenOrder {
    /// The only instance that it is to enrol.
    pub instance: InstanceName,
    /// From now.
    pub lifetime: Duration,
    /// Whether it may take the place of an enrolled instance.
    pub replace: bool,
    /// Who asks.
    pub creator: String,
    /// Why.
    pub note: String,
}

/// A join token in a list.
#[derive(Clone, Debug)]
pub struct ListedJoinToken {
    /// Its id.
    pub id: JoinTokenId,
    /// All else.
    pub token: StoredJoinToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn token(state: JoinTokenState) -> StoredJoinToken {
        let sealing = SealingKeys::new_for_test();
        let order = JoinTokenOrder {
            instance: "alpha".parse().unwrap(),
            lifetime: 30 * MINUTE,
            replace: false,
            creator: String::new(),
            note: String::new(),
        };
        StoredJoinToken { state, ..StoredJoinToken::new(order, &ProofKey::from_bytes([1; 32]), &sealing, NOW).unwrap() }
    }

    fn claim() -> Claim {
        Claim { key: "mine".into(), request_id: Uuid::nil(), claimed_at: NOW, peer: String::new() }
    }

    #[test]
    fn a_valid_proof_is_judged_by_state_key_and_age() {
        use EnrolmentError::{TokenExpired, TokenInvalid, TokenUsedUp};
        use Judgement::{Issue, Quarantine, Repeat};
        let (early, late, after) = (NOW + MINUTE, NOW + 20 * MINUTE, NOW + 30 * MINUTE);
        let table = [
            (JoinTokenState::Issued, "mine", early, Ok(Issue)),
            (JoinTokenState::Issued, "mine", after, Err(TokenExpired)),
            (JoinTokenState::Revoked, "mine", early, Err(TokenInvalid)),
            (JoinTokenState::Claimed(claim()), "mine", early, Ok(Repeat)),
            (JoinTokenState::Claimed(claim()), "mine", late, Err(TokenUsedUp)),
            (JoinTokenState::Claimed(claim()), "other", early, Ok(Quarantine)),
            (JoinTokenState::Claimed(claim()), "other", after, Err(TokenExpired)),
            (JoinTokenState::Confirmed(claim()), "mine", early, Err(TokenUsedUp)),
            (JoinTokenState::Confirmed(claim()), "other", early, Ok(Quarantine)),
            (JoinTokenState::Confirmed(claim()), "other", after, Err(TokenExpired)),
        ];
        for (state, key, now, expected) in table {
            let judged = token(state.clone()).judge(key, now);
            assert_eq!(format!("{judged:?}"), format!("{expected:?}"), "{state:?} {key} {now}");
        }
    }
}
