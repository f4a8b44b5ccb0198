//! Which of an instance's certificates counts for a call. The first call with a new one makes it the one.

use std::sync::Arc;

use homeward_certs::identity::InstanceName;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::enrolment::{Enrolment, EnrolmentError, JoinTokenState};
use crate::registry::{Instance, InstanceState};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

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
        let known = self.registry.snapshot().instance(name).cloned();
        let refusal = match known.map(|known| admit(&known, serial).map(|admission| (known, admission))) {
            Some(Ok((instance, Admission::Plain))) => return Ok(instance),
            Some(Ok((_, Admission::FirstUse))) => return self.first_use(name, serial, now).await,
            Some(Err(refusal)) => refusal,
            None => EnrolmentError::AgentUnknown,
        };
        // Another broker may have enrolled, released or confirmed it a moment ago: nobody is refused, and dismissed by
        // that, for what this broker has not heard yet. (Whoever comes here has a certificate of this CA.)
        if !self.refused.admits(name) {
            return Err(refusal);
        }
        self.first_use(name, serial, now).await
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
            // What is looked up from here on is not older than this.
            self.registry.reached(version.revision()).await?;
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
                let generation = instance.certificate.generation;
                self.audit.note(Event::new(Kind::CertificateConfirmed).instance(&instance.name).object(generation));
                Ok(Arc::new(instance))
            }
            // Another call with the same certificate was first: that is as good, if it is in use now.
            Err(StoreError::Conflict) => {
                let stored = self.registry.instances.get(name.as_str()).await?.ok_or(EnrolmentError::AgentUnknown)?;
                match admit(&stored.record, serial)? {
                    Admission::Plain => {
                        self.registry.reached(stored.version.revision()).await?;
                        Ok(Arc::new(stored.record))
                    }
                    Admission::FirstUse => Err(StoreError::Conflict.into()),
                }
            }
            Err(error) => Err(error.into()),
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
    let restored = instance.restored_at.is_some();
    match &instance.state {
        InstanceState::Quarantined { .. } => Err(EnrolmentError::Quarantined),
        InstanceState::Confirmed if restored && !pending => Err(EnrolmentError::CertificateReplaced),
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
        instance.restored_at = None;
    }
    instance
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use homeward_certs::authority::{CertificateAuthority, Validity};
    use homeward_certs::csr::{CsrPublicKey, InstanceKey};
    use uuid::Uuid;

    use super::*;
    use crate::registry::{Certificate, InstanceId, QuarantineCause, RecoveryPolicy};

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
            restored_at: None,
            quarantines: 0,
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
        // After a restore only what was made since counts, and with it the restore is over.
        let restored = Instance { restored_at: Some(NOW), ..confirmed.clone() };
        assert!(matches!(admit(&restored, first), Err(EnrolmentError::CertificateReplaced)));
        assert!(matches!(admit(&restored, second), Ok(Admission::FirstUse)));
        assert_eq!(promote(restored, second).restored_at, None);
        let promoted = promote(confirmed.clone(), second);
        assert_eq!((&promoted.certificate.serial, &promoted.pending_certificate), (second, &None));
        assert!(matches!(admit(&promoted, first), Err(EnrolmentError::CertificateReplaced)));
        let same = promote(confirmed.clone(), first);
        assert_eq!(
            (&same.certificate, &same.pending_certificate),
            (&confirmed.certificate, &confirmed.pending_certificate)
        );
    }
}
