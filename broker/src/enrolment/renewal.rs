//! From one certificate to the next: when an instance may have another, and how two machines with the same keys are found.
//!
//! **After a restore** the store knows the generation that was in use when the backup was made, and nothing of those since:
//! the agent says which it has, and nobody can tell whether that is true. So the first certificate after a restore has a
//! generation [beyond all before it](restored), whatever the one says who comes for it. Whoever comes with an older one once
//! that is in use is a second machine, as ever: if the thief was first, the agent gives him away, and the other way round.
//!
//! Only who has the recovery key can say a generation at all, and he could say an old one at any time: what raises an alarm
//! here gives nobody more power than he has. A certificate alone, however stale, raises none.
//!
//! A generation that was never made is no alarm: it shows a store that was put back from a copy *without* `restore`, and
//! there all agents are ahead. Cutting all of them off for good would help nobody; they are refused until ops restore it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use homeward_certs::csr::CsrPublicKey;
use homeward_certs::identity::InstanceName;
use homeward_certs::proof::RenewalTranscript;
use homeward_certs::recovery::RecoveryPublicKey;
use tracing::{error, info};
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::authority::CaState;
use crate::clock::Timestamp;
use crate::enrolment::{CertificateOrder, Enrolment, EnrolmentError, Identity, identity, unhindered};
use crate::registry::{Certificate, Instance};
use crate::storage::Expect;
use crate::storage::table::Stored;

/// So far ahead of what is known nobody is: whoever says so is to leave room for the certificates that follow. Matters only
/// where the clock was behind when the store was restored.
const MOST_SINCE_BACKUP: u64 = 1_000_000;

/// A certificate is renewed at most this many times in its life.
const RENEWALS_PER_LIFETIME: u32 = 20;

/// A request to renew, decoded.
#[derive(Clone, Debug)]
pub struct RenewalRequest {
    /// The same in every retry.
    pub request_id: Uuid,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
    /// Missing from agents that do not know of it.
    pub proof: Option<GenerationProof>,
}

/// Which certificate an agent says that it has, signed by its recovery key.
#[derive(Clone, Debug)]
pub struct GenerationProof {
    /// Of that certificate.
    pub generation: u64,
    /// Over the transcript.
    pub signature: Vec<u8>,
}

impl Enrolment {
    /// Makes the caller's next certificate. It takes the place of the current one when it is first used; until then a
    /// retry with the same request id gets the same one, unless the CA has turned in between.
    ///
    /// # Errors
    /// When the signing request is unfit, over the old key, or too soon after the last; when the caller has an older
    /// certificate than is in use, which raises the alarm.
    pub async fn renew(
        &self,
        caller: &InstanceName,
        request: RenewalRequest,
        now: Timestamp,
    ) -> Result<Identity, EnrolmentError> {
        unhindered(|| self.try_renew(caller, &request, now)).await
    }

    async fn try_renew(
        &self,
        caller: &InstanceName,
        request: &RenewalRequest,
        now: Timestamp,
    ) -> Result<Identity, EnrolmentError> {
        let key = CsrPublicKey::from_csr(&request.csr)?;
        let stored = self.registry.instances.get(caller.as_str()).await?.ok_or(EnrolmentError::AgentUnknown)?;
        let ca = self.authority.state();
        let signed = request
            .proof
            .as_ref()
            .map(|proof| (RenewalTranscript::new(request.request_id.as_bytes(), &key.pin(), proof.generation), proof));
        if let Some((transcript, proof)) = &signed
            && !has_signed(&stored.record, transcript.as_bytes(), &proof.signature)
        {
            return Err(EnrolmentError::RecoverySignature);
        }
        let pin = key.pin().to_string();
        if let Some(answered) = repeat(&stored.record, request.request_id, &pin, &ca) {
            return Ok(identity(&ca, answered));
        }
        if let Some((_, proof)) = &signed {
            self.check_lineage(&stored, proof.generation, now).await?;
        }
        check(&stored.record, &pin, self.settings.certificate_lifetime.now(), now, &ca)?;
        let order = CertificateOrder { request_id: request.request_id, generation: newest(&stored.record) + 1 };
        let certificate = self.certify(&ca, caller, &key, order, now)?;
        self.offer(stored, certificate, &ca).await
    }

    /// Keeps a certificate for its first use.
    pub(super) async fn offer(
        &self,
        stored: Stored<Instance>,
        certificate: Certificate,
        ca: &CaState,
    ) -> Result<Identity, EnrolmentError> {
        let Stored { record: mut instance, version } = stored;
        let identity = identity(ca, &certificate);
        info!(
            instance = %instance.name, generation = certificate.generation, authority = certificate.authority,
            "certificate made"
        );
        instance.pending_certificate = Some(certificate);
        let write = self.registry.instances.put(instance.name.as_str(), &instance, Expect::Version(version))?;
        let revision = self.registry.instances.commit(vec![write]).await?;
        self.registry.reached(revision).await?;
        self.audit.note(Event::new(Kind::CertificateRenewed).instance(&instance.name).object(identity.generation));
        Ok(identity)
    }

    /// Whether an agent with a certificate of this generation may have the next. An older one than is in use was
    /// copied, or the one in use was: nobody can tell which, so both are cut off.
    ///
    /// # Errors
    /// When it is older than the one in use, or newer than all.
    pub(super) async fn check_lineage(
        &self,
        stored: &Stored<Instance>,
        generation: u64,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        let instance = &stored.record;
        let in_use = instance.certificate.generation;
        match lineage(generation, in_use, newest(instance)) {
            Lineage::Present => Ok(()),
            // Made since the backup was: nobody else can say so, it is signed by the recovery key.
            Lineage::Unknown
                if instance.restored_at.is_some()
                    && generation <= restored(instance).max(newest(instance)).saturating_add(MOST_SINCE_BACKUP) =>
            {
                Ok(())
            }
            Lineage::Unknown => {
                error!(
                    instance = %instance.name, presented = generation, newest = newest(instance),
                    "SECURITY: an agent has the recovery key of this instance and a certificate that this store does not \
                     know. The store was put back from a copy: stop the broker, make a backup of it with `backup --store`, \
                     and `restore` that into an empty store"
                );
                Err(EnrolmentError::GenerationUnknown)
            }
            Lineage::Older => {
                error!(
                    instance = %instance.name, presented = generation, in_use,
                    "SECURITY: two machines have this instance's keys; the instance is quarantined. Find out which one \
                     was copied from the other, then create a token with --replace"
                );
                let reason = format!(
                    "two machines have its keys: one presented certificate {generation} after certificate {in_use} had \
                     been used"
                );
                self.raise_alarm(stored.clone(), reason, now).await?;
                Err(EnrolmentError::GenerationOlder)
            }
        }
    }
}

/// The certificate that answered this very request before, if its answer was lost: pending, or used already by an agent
/// that was ended before it noted that. One that the CA of another time signed is no answer any more.
pub(super) fn repeat<'a>(instance: &'a Instance, request_id: Uuid, key: &str, ca: &CaState) -> Option<&'a Certificate> {
    let known = instance.pending_certificate.iter().chain([&instance.certificate]);
    let mut answers = known.filter(|certificate| certificate.request_id == request_id && certificate.key == key);
    answers.next().filter(|certificate| ca.is_of_signer(certificate.authority.as_deref()))
}

/// Whether the instance may have a new certificate over `key`.
///
/// # Errors
/// When it is too soon after the last, or the key is the old one.
fn check(
    instance: &Instance,
    key: &str,
    lifetime: Duration,
    now: Timestamp,
    ca: &CaState,
) -> Result<(), EnrolmentError> {
    if instance.certificate.key == key {
        return Err(EnrolmentError::KeyNotNew);
    }
    let last = instance.pending_certificate.as_ref().unwrap_or(&instance.certificate);
    // Who is told to come for a certificate of another CA is not told to wait.
    let asked = !ca.is_of_signer(last.authority.as_deref());
    if !asked && now.since(last.issued_at) < lifetime / RENEWALS_PER_LIFETIME {
        return Err(EnrolmentError::RateLimited);
    }
    Ok(())
}

/// How the certificate that an agent says it has relates to those that were made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lineage {
    /// In use, or made since.
    Present,
    /// Replaced: a newer one has been used.
    Older,
    /// Never made by this broker.
    Unknown,
}

fn lineage(generation: u64, in_use: u64, newest: u64) -> Lineage {
    if generation < in_use {
        Lineage::Older
    } else if generation <= newest {
        Lineage::Present
    } else {
        Lineage::Unknown
    }
}

/// Generation of the last certificate that was made. The next one has a greater one, also if this one is never used: of
/// two machines with the same keys one is always behind.
pub(super) fn newest(instance: &Instance) -> u64 {
    instance.pending_certificate.as_ref().unwrap_or(&instance.certificate).generation
}

/// What the generations of a restored instance begin behind; nothing for others. The time in seconds: generations count from
/// one, or from the time of an earlier restore, and no instance gets a certificate each second.
pub(super) fn restored(instance: &Instance) -> u64 {
    instance.restored_at.map_or(0, |at| u64::try_from(at.as_secs()).unwrap_or(0))
}

/// Whether the instance's recovery key made this signature.
pub(super) fn has_signed(instance: &Instance, message: &[u8], signature: &[u8]) -> bool {
    let key = STANDARD_NO_PAD.decode(&instance.recovery_key).unwrap_or_default();
    RecoveryPublicKey::try_from(key.as_slice()).is_ok_and(|key| key.verifies(message, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_older_than_the_one_in_use_or_was_made_since() {
        use Lineage::{Older, Present, Unknown};
        for (generation, in_use, newest, expected) in [
            (0, 1, 1, Older),
            (1, 1, 1, Present),
            (2, 1, 1, Unknown),
            (2, 3, 5, Older),
            (3, 3, 5, Present),
            (4, 3, 5, Present),
            (5, 3, 5, Present),
            (6, 3, 5, Unknown),
        ] {
            assert_eq!(lineage(generation, in_use, newest), expected, "{generation} {in_use} {newest}");
        }
    }
}
