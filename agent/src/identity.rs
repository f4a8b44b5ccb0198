//! Who the instance is: key, certificate, trust bundle and recovery key, in one private file that is replaced whole, so
//! that key and certificate always fit. What is in use swaps live; whoever holds a connection learns of a new certificate
//! from `Identity::generation` and makes a new one.
//!
//! The file is written from the one thread that serves everything: a few milliseconds once a day.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homeward_certs::authority::Serial;
use homeward_certs::bundle::{BundleError, TrustBundle};
use homeward_certs::csr::{InstanceKey, KeyError};
use homeward_certs::identity::{InstanceName, PeerIdentity, TrustDomain};
use homeward_certs::pin::SpkiPin;
use homeward_certs::recovery::RecoveryKey;
use homeward_certs::tls::{LiveBundle, LiveIdentity, TlsError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::backoff;
use crate::disk::{DiskError, PrivateDir};
use crate::random;
use crate::reachability::ReachabilityKey;

/// The file.
const FILE: &str = "identity.json";
/// How far from the middle of its life a certificate is renewed, to both sides.
const RENEWAL_SPREAD: f64 = 0.1;

/// An enrolled instance.
#[derive(Debug)]
pub struct Identity {
    data: PrivateDir,
    record: Mutex<Record>,
    live: Arc<LiveIdentity>,
    bundle: Arc<LiveBundle>,
    generation: watch::Sender<u64>,
}

/// What is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The instance.
    pub(crate) instance: InstanceName,
    /// The federation.
    pub(crate) trust_domain: TrustDomain,
    /// Where the broker takes agents' calls.
    pub(crate) agent_url: String,
    /// Issuer of the OpenID Provider.
    pub(crate) issuer: String,
    /// The key that outlives certificates.
    pub(crate) recovery_key: SecretBytes,
    /// Key and certificate.
    pub(crate) certificate: Certificate,
    /// Whom to trust.
    pub(crate) bundle: TrustBundle,
}

/// A key with its certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    key: SecretBytes,
    chain: Vec<Base64>,
    generation: u64,
    /// Seconds since 1970: the one draw of this certificate's jitter. A restart does not draw again.
    renew_at: i64,
    expires_at: i64,
}

/// Why there is no usable identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What is in it.
    #[error("the stored key or certificate cannot be used ({0}); enrol again with a new join token")]
    Unusable(#[from] TlsError),
    /// What is in it.
    #[error("the stored key cannot be used; enrol again with a new join token")]
    Key(#[from] KeyError),
    /// What is in it, or was sent.
    #[error("the trust bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
    /// The broker certified something else than it was asked.
    #[error("the broker's answer is no certificate for this instance's key and name; report this to ops")]
    OtherCertificate,
}

impl Identity {
    /// The identity in the data directory; `None` before enrolment.
    pub fn load(data: PrivateDir) -> Result<Option<Self>, IdentityError> {
        data.load::<Record>(FILE)?.map(|record| Self::of(data, record)).transpose()
    }

    /// Keeps a new identity, in place of any other.
    pub(crate) fn store(data: PrivateDir, record: Record) -> Result<Self, IdentityError> {
        let identity = Self::of(data, record)?;
        identity.data.store(FILE, &*identity.record())?;
        Ok(identity)
    }

    fn of(data: PrivateDir, record: Record) -> Result<Self, IdentityError> {
        let key = InstanceKey::from_pkcs8(&record.certificate.key.0)?;
        let live = LiveIdentity::new(record.certificate.chain(), &key.to_private_key())?;
        let bundle = LiveBundle::new(&record.bundle)?;
        let generation = watch::Sender::new(record.certificate.generation);
        Ok(Self { data, record: Mutex::new(record), live, bundle, generation })
    }

    /// Uses a new certificate, and from then on only that. One that is older than the one in use comes too late: to go
    /// back to it is what a copy of this machine would do.
    pub(crate) fn renew(&self, certificate: Certificate, bundle: TrustBundle) -> Result<(), IdentityError> {
        let key = InstanceKey::from_pkcs8(&certificate.key.0)?;
        let mut record = self.record();
        if certificate.generation < record.certificate.generation {
            return Ok(());
        }
        let mut next = Record { certificate, ..record.clone() };
        adopt(&mut next, bundle);
        self.data.store(FILE, &next)?;
        self.live.swap(next.certificate.chain(), &key.to_private_key())?;
        self.bundle.swap(&next.bundle)?;
        self.generation.send_replace(next.certificate.generation);
        *record = next;
        Ok(())
    }

    /// Trusts a bundle, unless the one in use is as new: whoever could send an old one must not bring back a CA that was
    /// given up.
    pub(crate) fn trust(&self, bundle: TrustBundle) -> Result<(), IdentityError> {
        let mut record = self.record();
        let mut next = record.clone();
        if !adopt(&mut next, bundle) {
            return Ok(());
        }
        self.data.store(FILE, &next)?;
        self.bundle.swap(&next.bundle)?;
        *record = next;
        Ok(())
    }

    /// Trusts a bundle whatever was trusted before: for an operator who says so.
    pub(crate) fn trust_instead(&self, bundle: TrustBundle) -> Result<(), IdentityError> {
        let mut record = self.record();
        let next = Record { bundle, ..record.clone() };
        self.data.store(FILE, &next)?;
        self.bundle.swap(&next.bundle)?;
        *record = next;
        Ok(())
    }

    /// Signature by the key that outlives certificates.
    pub(crate) fn sign_by_recovery_key(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(RecoveryKey::from_pkcs8(&self.record().recovery_key.0)?.sign(message))
    }

    /// For the proof that this instance's own agent answers, and no other.
    pub(crate) fn reachability_key(&self) -> ReachabilityKey {
        ReachabilityKey::derive(&self.record().recovery_key.0)
    }

    /// Whether the certificate can be shown: it has not expired, and its CA is still trusted.
    pub(crate) fn is_good(&self, now: OffsetDateTime) -> bool {
        let record = self.record();
        let trusted = record.certificate.authority_pin().is_none_or(|pin| record.bundle.trusts(&pin));
        trusted && instant(record.certificate.expires_at) > now
    }

    /// Pin of the CA that signed the certificate, if it came along.
    pub(crate) fn authority_pin(&self) -> Option<SpkiPin> {
        self.record().certificate.authority_pin()
    }

    /// Number of the certificate; changes when there is a new one.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// For TLS: certificate and key.
    pub(crate) fn live(&self) -> Arc<LiveIdentity> {
        self.live.clone()
    }

    /// For TLS: whom to trust.
    pub(crate) fn bundle(&self) -> Arc<LiveBundle> {
        self.bundle.clone()
    }

    /// When to ask for the next certificate.
    pub(crate) fn renew_at(&self) -> OffsetDateTime {
        instant(self.record().certificate.renew_at)
    }

    /// End of the certificate.
    pub fn expires_at(&self) -> OffsetDateTime {
        instant(self.record().certificate.expires_at)
    }

    /// Fingerprint of the key in use.
    pub(crate) fn key_pin(&self) -> Option<SpkiPin> {
        InstanceKey::from_pkcs8(&self.record().certificate.key.0).ok().map(|key| key.pin())
    }

    /// Name of the instance.
    pub fn instance(&self) -> InstanceName {
        self.record().instance.clone()
    }

    /// The federation.
    pub fn trust_domain(&self) -> TrustDomain {
        self.record().trust_domain.clone()
    }

    /// Issuer of the OpenID Provider.
    pub fn issuer(&self) -> String {
        self.record().issuer.clone()
    }

    /// Where the broker takes agents' calls.
    pub fn agent_url(&self) -> String {
        self.record().agent_url.clone()
    }

    /// Whom to trust, as it is kept.
    pub(crate) fn trust_bundle(&self) -> TrustBundle {
        self.record().bundle.clone()
    }

    /// Version of the trust bundle.
    pub fn bundle_version(&self) -> u64 {
        self.record().bundle.version
    }

    /// Number of the certificate.
    pub fn certificate_generation(&self) -> u64 {
        self.record().certificate.generation
    }

    /// Serial of the certificate, as the broker writes it.
    pub(crate) fn certificate_serial(&self) -> Option<String> {
        let record = self.record();
        let leaf = record.certificate.chain.first()?;
        Serial::of_certificate(&leaf.0).map(|serial| serial.to_string())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Nothing panics while it is held; if something did, the record is whole: it is replaced in one assignment.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Certificate {
    /// A chain as the broker sent it, once it is sure that it certifies this key for this name.
    pub(crate) fn accept(
        chain: Vec<Vec<u8>>,
        generation: u64,
        key: &InstanceKey,
        (instance, trust_domain): (&InstanceName, &TrustDomain),
        now: OffsetDateTime,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::OtherCertificate)?;
        let ours = SpkiPin::of_certificate(leaf) == Some(key.pin())
            && PeerIdentity::of_leaf(leaf, trust_domain).ok() == Some(PeerIdentity::Instance(instance.clone()));
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| IdentityError::OtherCertificate)?;
        let expires_at = parsed.validity().not_after.timestamp();
        if !ours || expires_at <= now.unix_timestamp() {
            return Err(IdentityError::OtherCertificate);
        }
        let life = Duration::from_secs(expires_at.saturating_sub(now.unix_timestamp()).unsigned_abs());
        let until_renewal = backoff::spread(life / 2, RENEWAL_SPREAD, random::fraction());
        Ok(Self {
            key: SecretBytes(key.to_pkcs8()),
            chain: chain.into_iter().map(Base64).collect(),
            generation,
            renew_at: (now + until_renewal).unix_timestamp(),
            expires_at,
        })
    }

    fn authority_pin(&self) -> Option<SpkiPin> {
        SpkiPin::of_certificate(&self.chain.get(1)?.0)
    }

    fn chain(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|der| der.0.clone()).collect()
    }
}

/// Whether the bundle is newer, and then taken.
fn adopt(record: &mut Record, bundle: TrustBundle) -> bool {
    let newer = bundle.version > record.bundle.version;
    if newer {
        record.bundle = bundle;
    }
    newer
}

fn instant(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Bytes that are written as base64.
#[derive(Clone)]
struct Base64(Vec<u8>);

/// Key material: base64 in the agent's own files, and nowhere else.
#[derive(Clone)]
pub(crate) struct SecretBytes(pub(crate) Zeroizing<Vec<u8>>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The text may be a key: the error must not quote it.
        STANDARD.decode(text.as_bytes()).map(Self).map_err(|_| de::Error::custom("not base64"))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Base64::deserialize(deserializer).map(|bytes| Self(Zeroizing::new(bytes.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::test_authority::{TestAuthority, trust_domain};

    #[test]
    fn a_new_certificate_is_kept_and_told_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let identity = authority.enrol(folder.path(), "https://login.example:8443".to_owned());
        let (told, renew_at) = (identity.generation(), identity.renew_at());
        assert!(
            renew_at - clock::now() >= time::Duration::seconds(268)
                && renew_at - clock::now() <= time::Duration::seconds(330)
        );
        identity.renew(authority.certify("alpha", 2), authority.bundle()).unwrap();
        assert!(told.has_changed().unwrap());
        let kept = Identity::load(identity.data.clone()).unwrap().unwrap();
        assert_eq!((kept.certificate_generation(), kept.key_pin()), (2, identity.key_pin()));
        assert_eq!(kept.renew_at(), identity.renew_at(), "a restart draws no other jitter");
    }

    #[test]
    fn a_certificate_that_comes_too_late_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let identity = authority.enrol(folder.path(), "https://login.example:8443".to_owned());
        identity.renew(authority.certify("alpha", 3), authority.bundle()).unwrap();
        let key = identity.key_pin();
        identity.renew(authority.certify("alpha", 2), authority.bundle()).unwrap();
        assert_eq!((identity.certificate_generation(), identity.key_pin()), (3, key));
    }

    #[test]
    fn an_older_bundle_is_never_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let identity = authority.enrol(folder.path(), "https://login.example:8443".to_owned());
        let bundle = |version| {
            let mut bundle = TestAuthority::new(clock::now()).bundle();
            bundle.version = version;
            bundle
        };
        identity.trust(bundle(5)).unwrap();
        let pins = identity.record().bundle.pins();
        for version in [0, 1, 4, 5] {
            identity.trust(bundle(version)).unwrap();
        }
        assert_eq!((identity.bundle_version(), identity.record().bundle.pins()), (5, pins));
    }

    #[test]
    fn a_certificate_for_another_key_or_name_is_refused() {
        let authority = TestAuthority::new(clock::now());
        let (ours, theirs) = (InstanceKey::generate().unwrap(), InstanceKey::generate().unwrap());
        let alpha = "alpha".parse().unwrap();
        let accept = |leaf| Certificate::accept(vec![leaf], 1, &ours, (&alpha, &trust_domain()), clock::now());
        accept(authority.leaf("alpha", &ours)).unwrap();
        for leaf in [authority.leaf("alpha", &theirs), authority.leaf("beta", &ours), b"rubbish".to_vec()] {
            assert!(matches!(accept(leaf), Err(IdentityError::OtherCertificate)));
        }
        let past = TestAuthority::new(clock::now() - time::Duration::DAY);
        assert!(matches!(accept(past.leaf("alpha", &ours)), Err(IdentityError::OtherCertificate)));
    }

    #[test]
    fn keys_are_in_the_file_and_in_no_debug_output() {
        let folder = tempfile::tempdir().unwrap();
        let identity = TestAuthority::new(clock::now()).enrol(folder.path(), "https://login.example:8443".to_owned());
        let key = STANDARD.encode(&*identity.record().certificate.key.0);
        assert!(std::fs::read_to_string(folder.path().join("agent/identity.json")).unwrap().contains(&key));
        let debug = format!("{identity:?}");
        assert!(!debug.contains(&key) && !debug.contains(&key[8..40]), "{debug}");
    }
}
