//! Which of an instance's certificates counts: pure decisions on its record.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::enrolment::EnrolmentError;
use crate::registry::{Certificate, Instance, InstanceState};

/// A certificate is renewed at most this many times in its life.
const RENEWALS_PER_LIFETIME: u32 = 20;

/// What a verified certificate means for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the one in use.
    Plain,
    /// It was made for this instance and is used for the first time now.
    FirstUse,
}

/// Whether a certificate may make calls for this instance.
///
/// # Errors
/// When the instance is quarantined or the certificate is not one of its two.
pub(super) fn admit(instance: &Instance, serial: &str) -> Result<Admission, EnrolmentError> {
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
pub(super) fn promote(mut instance: Instance, serial: &str) -> Instance {
    instance.state = InstanceState::Confirmed;
    if let Some(pending) = instance.pending_certificate.take_if(|pending| pending.serial == serial) {
        instance.certificate = pending;
    }
    instance
}

/// The certificate that answered this very request before, if its answer was lost.
pub(super) fn repeat<'a>(instance: &'a Instance, request_id: Uuid, key: &str) -> Option<&'a Certificate> {
    instance.pending_certificate.as_ref().filter(|pending| pending.request_id == request_id && pending.key == key)
}

/// Whether the instance may have a new certificate over `key`.
///
/// # Errors
/// When it is too soon after the last, or the key is the old one.
pub(super) fn check(instance: &Instance, key: &str, lifetime: Duration, now: Timestamp) -> Result<(), EnrolmentError> {
    if instance.certificate.key == key {
        return Err(EnrolmentError::KeyNotNew);
    }
    let last = instance.pending_certificate.as_ref().unwrap_or(&instance.certificate).issued_at;
    if now.since(last) < lifetime / RENEWALS_PER_LIFETIME {
        return Err(EnrolmentError::RateLimited);
    }
    Ok(())
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
    fn a_renewal_is_repeated_for_its_own_request_and_refused_too_soon_or_over_the_old_key() {
        let instance = instance(InstanceState::Confirmed);
        assert!(repeat(&instance, Uuid::from_u128(2), "key 2").is_some());
        assert!(repeat(&instance, Uuid::from_u128(2), "key 3").is_none());
        assert!(repeat(&instance, Uuid::from_u128(3), "key 2").is_none());
        let at = |minutes: u32| NOW + HOUR / 2 + Duration::from_secs(60) * minutes;
        for (key, now, expected) in [
            ("key 3", at(0), "Err(RateLimited)"),
            ("key 3", at(2), "Err(RateLimited)"),
            ("key 3", at(3), "Ok(())"),
            ("key 1", at(3), "Err(KeyNotNew)"),
        ] {
            assert_eq!(format!("{:?}", check(&instance, key, HOUR, now)), expected, "{key} {now}");
        }
    }
}
