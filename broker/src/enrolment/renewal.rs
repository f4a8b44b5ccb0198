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
