//! Coming back by the recovery key: for an instance that slept past its certificate, or whose CA was retired meanwhile.
//!
//! The agent asks for a challenge, which is sealed and kept by nobody, and signs it together with its new key and the
//! generation of the last certificate that it has. Strangers learn nothing: every name gets a challenge, and an unknown
//! one is refused by the same sentence as a wrong signature.

use std::net::IpAddr;
use std::time::Duration;

use homeward_certs::csr::CsrPublicKey;
use homeward_certs::identity::InstanceName;
use homeward_certs::proof::RecoveryTranscript;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::authority::CaState;
use crate::clock::Timestamp;
use crate::enrolment::renewal::{has_signed, newest, repeat, restored};
use crate::enrolment::{CertificateOrder, Enrolment, EnrolmentError, Identity, identity, unhindered};
use crate::registry::{Instance, InstanceState, QuarantineCause, RecoveryPolicy};
use crate::secret::{Purpose, Sealed};

/// How long a challenge can be signed.
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(120);

/// An instance that nobody has seen for so long does not come back by itself.
const LONGEST_ABSENCE: Duration = Duration::from_secs(90 * 86_400);

/// A request to recover, decoded.
#[derive(Clone, Debug)]
pub struct RecoveryRequest {
    /// As it was given.
    pub challenge: Vec<u8>,
    /// The same in every retry.
    pub request_id: Uuid,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
    /// Of the last certificate that the agent has.
    pub generation: u64,
    /// By the recovery key, over the transcript.
    pub signature: Vec<u8>,
    /// Where it came from.
    pub peer: IpAddr,
}

/// What is sealed in a challenge.
#[derive(Serialize, Deserialize)]
struct Challenge {
    instance: InstanceName,
    made_at: Timestamp,
}

/// Why an instance does not come back by itself: said to nobody who has not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryRefusal {
    /// No such instance, or the signature is not by its recovery key.
    #[error("the name is unknown or the signature is wrong")]
    Stranger,
    /// Its first certificate was never used.
    #[error("its enrolment was never finished")]
    NeverConfirmed,
    /// Ops do not want it.
    #[error("its policy does not allow recovery")]
    Off,
    /// It has come back as often as it may.
    #[error("it has come back by itself as often as its policy allows")]
    UsedUp,
    /// It slept for too long.
    #[error("nobody has seen it for 90 days")]
    AbsentTooLong,
}

impl Enrolment {
    /// Something to sign, whatever the name is.
    ///
    /// # Errors
    /// When there were too many tries.
    pub fn begin_recovery(
        &self,
        instance: InstanceName,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Vec<u8>, EnrolmentError> {
        self.returning.admit(peer)?;
        let challenge = serde_json::to_vec(&Challenge { instance, made_at: now });
        let challenge = challenge.map_err(|_| EnrolmentError::ChallengeInvalid)?;
        Ok(self.sealing.seal(Purpose::RecoveryChallenge, &challenge)?.to_text().into_bytes())
    }

    /// A certificate by the recovery key, to be used like a renewed one.
    ///
    /// # Errors
    /// See [`RecoveryRefusal`]; when the agent has an older certificate than is in use, which raises the alarm; when its
    /// certificate is still good.
    pub async fn recover(&self, request: RecoveryRequest, now: Timestamp) -> Result<Identity, EnrolmentError> {
        self.returning.admit(request.peer)?;
        unhindered(|| self.try_recover(&request, now)).await
    }

    async fn try_recover(&self, request: &RecoveryRequest, now: Timestamp) -> Result<Identity, EnrolmentError> {
        let name = self.challenged(&request.challenge, now)?;
        let key = CsrPublicKey::from_csr(&request.csr)?;
        let request_id = request.request_id;
        let transcript =
            RecoveryTranscript::new(&request.challenge, request_id.as_bytes(), &key.pin(), request.generation);
        let stored = self.registry.instances.get(name.as_str()).await?;
        let signed = stored.filter(|stored| has_signed(&stored.record, transcript.as_bytes(), &request.signature));
        let mut stored = signed.ok_or(EnrolmentError::RecoveryRefused(RecoveryRefusal::Stranger))?;
        check_standing(&stored.record)?;
        let ca = self.authority.state();
        let pin = key.pin().to_string();
        let answered = repeat(&stored.record, request_id, &pin, &ca).filter(|answer| now < answer.not_after);
        if answered.is_none() {
            // Also if it was quarantined by ops: that may be taken back, and nobody would know of the second machine.
            self.check_lineage(&stored, request.generation, now).await?;
        }
        if matches!(stored.record.state, InstanceState::Quarantined { .. }) {
            return Err(EnrolmentError::Quarantined);
        }
        if let Some(answered) = answered {
            return Ok(identity(&ca, answered));
        }
        if stored.record.restored_at.is_none() && still_good(&stored.record, request.generation, now, &ca) {
            return Err(EnrolmentError::CertificateStillGood);
        }
        let seen = self.liveness.sighting(&name).map(|sighting| sighting.last_seen_at);
        let seen = stored.record.restored_at.or(seen);
        stored.record.recovery = spent(&stored.record, seen, now).map_err(EnrolmentError::RecoveryRefused)?;
        // After a restore it may have newer ones than are known here, and so may a second machine: see `renewal`.
        let before = newest(&stored.record).max(restored(&stored.record)).max(request.generation);
        let order = CertificateOrder { request_id, generation: before + 1 };
        let certificate = self.certify(&ca, &name, &key, order, now)?;
        warn!(
            instance = %name, peer = %request.peer, generation = request.generation, policy = ?stored.record.recovery,
            "an instance comes back by its recovery key"
        );
        self.offer(stored, certificate, &ca).await
    }

    /// Whom a challenge was made for.
    fn challenged(&self, challenge: &[u8], now: Timestamp) -> Result<InstanceName, EnrolmentError> {
        let sealed = std::str::from_utf8(challenge).ok().and_then(|text| Sealed::from_text(text).ok());
        let opened = sealed.and_then(|sealed| self.sealing.open(Purpose::RecoveryChallenge, &sealed).ok());
        let challenge = opened.and_then(|plain| serde_json::from_slice::<Challenge>(&plain).ok());
        match challenge {
            Some(challenge) if now <= challenge.made_at + CHALLENGE_LIFETIME => Ok(challenge.instance),
            _ => Err(EnrolmentError::ChallengeInvalid),
        }
    }
}

/// Whether the instance is one that can come back at all.
fn check_standing(instance: &Instance) -> Result<(), EnrolmentError> {
    match instance.state {
        InstanceState::Confirmed
        | InstanceState::Quarantined { cause: QuarantineCause::Ops | QuarantineCause::Restored, .. } => Ok(()),
        InstanceState::Quarantined { cause: QuarantineCause::Alarm, .. } => Err(EnrolmentError::Quarantined),
        InstanceState::Claimed { .. } => Err(EnrolmentError::RecoveryRefused(RecoveryRefusal::NeverConfirmed)),
    }
}

/// Whether the certificate that the agent says it has works: then it is to renew by it. One that was made and has got
/// lost on its way does not count.
fn still_good(instance: &Instance, generation: u64, now: Timestamp, ca: &CaState) -> bool {
    let mut known = instance.pending_certificate.iter().chain([&instance.certificate]);
    known.any(|certificate| {
        certificate.generation == generation
            && now < certificate.not_after
            && ca.is_of_trusted(certificate.authority.as_deref())
    })
}

/// What is left of the instance's recovery policy after it has come back once more.
fn spent(instance: &Instance, seen: Option<Timestamp>, now: Timestamp) -> Result<RecoveryPolicy, RecoveryRefusal> {
    let seen = seen.unwrap_or(instance.certificate.not_after);
    if now.since(seen) > LONGEST_ABSENCE {
        return Err(RecoveryRefusal::AbsentTooLong);
    }
    match instance.recovery {
        // That the broker was restored is not the instance's fault.
        policy @ RecoveryPolicy::Times(_) if instance.restored_at.is_some() => Ok(policy),
        RecoveryPolicy::Off => Err(RecoveryRefusal::Off),
        RecoveryPolicy::Times(0) => Err(RecoveryRefusal::UsedUp),
        RecoveryPolicy::Times(left) => Ok(RecoveryPolicy::Times(left - 1)),
        RecoveryPolicy::Always => Ok(RecoveryPolicy::Always),
    }
}
