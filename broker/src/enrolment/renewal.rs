//! From one certificate to the next: which of an instance's certificates counts, and when it may have another.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use homeward_certs::csr::CsrPublicKey;
use homeward_certs::identity::InstanceName;
use homeward_certs::proof::RenewalTranscript;
use homeward_certs::recovery::RecoveryPublicKey;
use tracing::{error, info};
use uuid::Uuid;

use crate::authority::CaState;
use crate::clock::Timestamp;
use crate::enrolment::{CertificateOrder, Enrolment, EnrolmentError, Identity, JoinTokenState, identity, unhindered};
use crate::registry::{Certificate, Instance, InstanceState};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

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
    /// Decides whether a verified certificate may make calls. The first call with a new one makes it the one.
    ///
    /// # Errors
    /// When the instance is unknown, quarantined, or has a newer certificate.
    pub async fn authenticate(
        &self,
        name: &InstanceName,
        serial: &str,
        now: Timestamp,
    ) -> Result<Arc<Instance>, EnrolmentError> {
        let instance = self.registry.snapshot().instance(name).cloned().ok_or(EnrolmentError::AgentUnknown)?;
        match admit(&instance, serial)? {
            Admission::Plain => Ok(instance),
            Admission::FirstUse => self.first_use(name, serial, now).await,
        }
    }

    async fn first_use(
        &self,
        name: &InstanceName,
        serial: &str,
        now: Timestamp,
    ) -> Result<Arc<Instance>, EnrolmentError> {
        let Some(Stored { record, version }) = self.registry.instances.get(name.as_str()).await? else {
            return Err(EnrolmentError::AgentUnknown);
        };
        if admit(&record, serial)? == Admission::Plain {
            return Ok(Arc::new(record));
        }
        let mut writes = Vec::new();
        if let InstanceState::Claimed { join_token } = &record.state
            && let Some(Stored { record: mut token, version }) = self.tokens.get(join_token).await?
            && let JoinTokenState::Claimed(claim) = token.state
        {
            token.state = JoinTokenState::Confirmed(claim);
            writes.push(self.tokens.put(join_token, &token, Expect::Version(version))?);
        }
        let instance = promote(record, serial);
        writes.push(self.registry.instances.put(name.as_str(), &instance, Expect::Version(version))?);
        match self.tokens.commit(writes).await {
            Ok(revision) => {
                self.registry.reached(revision).await?;
                info!(instance = %name, generation = instance.certificate.generation, at = %now, "certificate in use");
                Ok(Arc::new(instance))
            }
            // Another call with the same certificate was first: that is as good, if it is in use now.
            Err(StoreError::Conflict) => {
                let stored = self.registry.instances.get(name.as_str()).await?.ok_or(EnrolmentError::AgentUnknown)?;
                match admit(&stored.record, serial)? {
                    Admission::Plain => Ok(Arc::new(stored.record)),
                    Admission::FirstUse => Err(StoreError::Conflict.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

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
        check(&stored.record, &pin, self.settings.certificate_lifetime, now, &ca)?;
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
        match lineage(instance, generation) {
            Lineage::Present => Ok(()),
            Lineage::Unknown => Err(EnrolmentError::GenerationUnknown),
            Lineage::Older => {
                let in_use = instance.certificate.generation;
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

/// What a verified certificate means for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// It is the one in use.
    Plain,
    /// It was made for this instance and is used for the first time now.
    FirstUse,
}

/// Whether a certificate may make calls for this instance.
///
/// # Errors
/// When the instance is quarantined or the certificate is not one of its two.
fn admit(instance: &Instance, serial: &str) -> Result<Admission, EnrolmentError> {
    let pending = instance.pending_certificate.as_ref().is_some_and(|pending| pending.serial == serial);
    match &instance.state {
        InstanceState::Quarantined { .. } => Err(EnrolmentError::Quarantined),
        InstanceState::Confirmed if instance.certificate.serial == serial => Ok(Admission::Plain),
        InstanceState::Claimed { .. } if instance.certificate.serial == serial => Ok(Admission::FirstUse),
        InstanceState::Confirmed if pending => Ok(Admission::FirstUse),
        InstanceState::Confirmed | InstanceState::Claimed { .. } => Err(EnrolmentError::CertificateReplaced),
    }
}

/// The instance after the first use of one of its certificates.
fn promote(mut instance: Instance, serial: &str) -> Instance {
    instance.state = InstanceState::Confirmed;
    if let Some(pending) = instance.pending_certificate.take_if(|pending| pending.serial == serial) {
        instance.certificate = pending;
    }
    instance
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

fn lineage(instance: &Instance, generation: u64) -> Lineage {
    if generation < instance.certificate.generation {
        Lineage::Older
    } else if generation <= newest(instance) {
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

/// Whether the instance's recovery key made this signature.
pub(super) fn has_signed(instance: &Instance, message: &[u8], signature: &[u8]) -> bool {
    let key = STANDARD_NO_PAD.decode(&instance.recovery_key).unwrap_or_default();
    RecoveryPublicKey::try_from(key.as_slice()).is_ok_and(|key| key.verifies(message, signature))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use homeward_certs::authority::{CertificateAuthority, Validity};
    use homeward_certs::csr::{CsrPublicKey, InstanceKey};

    use super::*;
    use crate::registry::{InstanceId, QuarantineCause, RecoveryPolicy};

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn certificate(generation: u64, issued_at: Timestamp) -> Certificate {
        let domain = "example.org".parse().unwrap();
        let ca = CertificateAuthority::generate(domain, SystemTime::UNIX_EPOCH + HOUR, 2 * HOUR).unwrap();
        let key = CsrPublicKey::from_csr(&InstanceKey::generate().unwrap().csr().unwrap()).unwrap();
        let validity = Validity { now: SystemTime::UNIX_EPOCH + HOUR, lifetime: HOUR };
        let leaf = ca.issue_instance(&"alpha".parse().unwrap(), &key, validity).unwrap();
        Certificate::of(&leaf, format!("key {generation}"), Uuid::from_u128(generation.into()), issued_at, generation)
    }

    fn instance(state: InstanceState) -> Instance {
        Instance {
            name: "alpha".parse().unwrap(),
            id: InstanceId::generate(),
            display_name: String::new(),
            public_url: String::new(),
            state,
            enrolled_at: NOW,
            recovery_key: String::new(),
            certificate: certificate(1, NOW),
            pending_certificate: Some(certificate(2, NOW + HOUR / 2)),
            relying_party: None,
            home: None,
            recovery: RecoveryPolicy::default(),
        }
    }

    #[test]
    fn a_certificate_counts_by_state_and_serial() {
        let claimed = instance(InstanceState::Claimed { join_token: String::new() });
        let (first, second) = (&claimed.certificate.serial, &claimed.pending_certificate.as_ref().unwrap().serial);
        let confirmed = Instance { state: InstanceState::Confirmed, ..claimed.clone() };
        let state = InstanceState::Quarantined { reason: String::new(), since: NOW, cause: QuarantineCause::Ops };
        let quarantined = Instance { state, ..claimed.clone() };
        for (instance, serial, expected) in [
            (&claimed, first, "Ok(FirstUse)"),
            (&claimed, second, "Err(CertificateReplaced)"),
            (&confirmed, first, "Ok(Plain)"),
            (&confirmed, second, "Ok(FirstUse)"),
            (&confirmed, &"00".to_owned(), "Err(CertificateReplaced)"),
            (&quarantined, first, "Err(Quarantined)"),
            (&quarantined, second, "Err(Quarantined)"),
        ] {
            assert_eq!(format!("{:?}", admit(instance, serial)), expected, "{:?} {serial}", instance.state);
        }
        let promoted = promote(confirmed.clone(), second);
        assert_eq!((&promoted.certificate.serial, &promoted.pending_certificate), (second, &None));
        assert!(matches!(admit(&promoted, first), Err(EnrolmentError::CertificateReplaced)));
        let same = promote(confirmed.clone(), first);
        assert_eq!(
            (&same.certificate, &same.pending_certificate),
            (&confirmed.certificate, &confirmed.pending_certificate)
        );
    }

    #[test]
    fn a_generation_is_older_than_the_one_in_use_or_was_made_since() {
        let mut instance = instance(InstanceState::Confirmed);
        instance.certificate.generation = 3;
        instance.pending_certificate.as_mut().unwrap().generation = 5;
        use Lineage::{Older, Present, Unknown};
        for (generation, expected) in
            [(0, Older), (1, Older), (2, Older), (3, Present), (4, Present), (5, Present), (6, Unknown)]
        {
            assert_eq!(lineage(&instance, generation), expected, "{generation}");
        }
        assert_eq!(newest(&instance), 5);
        instance.pending_certificate = None;
        assert_eq!((newest(&instance), lineage(&instance, 4)), (3, Unknown));
    }
}
