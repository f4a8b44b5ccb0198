//! The CA at one moment: who signs, who is trusted, and the way there from older trust bundles.

use std::time::Duration;

use homeward_certs::authority::{CertificateAuthority, IssuedLeaf, Validity};
use homeward_certs::bundle::{BundleStatement, TrustBundle};
use homeward_certs::csr::CsrPublicKey;
use homeward_certs::identity::{InstanceName, TrustDomain};
use homeward_certs::pin::SpkiPin;

use crate::authority::CaError;
use crate::authority::record::{CaPhase, StoredAuthority, StoredCa};
use crate::clock::Timestamp;
use crate::secret::{Purpose, SealingKeys};

/// The CA at one moment.
#[derive(Debug)]
pub struct CaState {
    /// Where it is while it turns; nothing when it does not.
    pub phase: Option<CaPhase>,
    /// What agents and brokers trust.
    pub bundle: TrustBundle,
    /// The store's revision when this was read.
    pub revision: u64,
    current: Ca,
    next: Option<Ca>,
    statements: Vec<BundleStatement>,
}

/// One CA, ready to sign.
#[derive(Debug)]
struct Ca {
    keys: CertificateAuthority,
    pin: SpkiPin,
    created_at: Timestamp,
}

/// One CA of the bundle, as ops see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedCa {
    /// Of its key.
    pub pin: SpkiPin,
    /// When it was made.
    pub created_at: Timestamp,
    /// End of its certificate.
    pub expires_at: Timestamp,
    /// Whether it signs instances now.
    pub signs_instances: bool,
    /// Whether it signs brokers now.
    pub signs_brokers: bool,
}

impl CaState {
    /// What the record says, with the keys opened.
    ///
    /// # Errors
    /// When a key cannot be opened.
    pub(super) fn open(
        stored: &StoredAuthority,
        statements: Vec<BundleStatement>,
        revision: u64,
        (sealing, trust_domain): (&SealingKeys, &TrustDomain),
    ) -> Result<Self, CaError> {
        let next = stored.turn.as_ref().map(|turn| Ca::open(&turn.next, sealing, trust_domain));
        let bundle = stored.bundle()?;
        Ok(Self {
            phase: stored.phase(),
            revision,
            current: Ca::open(&stored.current, sealing, trust_domain)?,
            next: next.transpose()?,
            // A statement that came in between the two readings is not this state's.
            statements: statements.into_iter().filter(|stated| stated.bundle.version <= bundle.version).collect(),
            bundle,
        })
    }

    /// A certificate for an instance.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        name: &InstanceName,
        key: &CsrPublicKey,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedLeaf, CaError> {
        Ok(self.signer().keys.issue_instance(name, key, Validity { now: now.to_system_time(), lifetime })?)
    }

    /// What an instance shows: its leaf, and the CA that signed it, if that is still trusted.
    pub fn chain(&self, leaf: Vec<u8>, authority: Option<&str>) -> Vec<Vec<u8>> {
        let signer = self.trusted().find(|ca| authority == Some(ca.pin.to_string().as_str())).unwrap_or(&self.current);
        vec![leaf, signer.keys.certificate().to_vec()]
    }

    /// The CA that signs instances.
    pub fn signer_pin(&self) -> SpkiPin {
        self.signer().pin
    }

    /// The CA that it turns to.
    #[cfg(test)]
    pub(super) fn next_pin(&self) -> Option<SpkiPin> {
        self.next.as_ref().map(|next| next.pin)
    }

    /// Whether a certificate with this pin as its authority is of the CA that signs instances now.
    pub fn is_of_signer(&self, authority: Option<&str>) -> bool {
        self.pin_of(authority) == self.signer_pin().to_string()
    }

    /// Whether a certificate with this pin as its authority is of a CA that is trusted.
    pub fn is_of_trusted(&self, authority: Option<&str>) -> bool {
        let pin = self.pin_of(authority);
        self.trusted().any(|ca| ca.pin.to_string() == pin)
    }

    /// The pin that certificates name, or that of the only CA there was when they named none.
    pub fn pin_of(&self, authority: Option<&str>) -> String {
        authority.map_or_else(|| self.current.pin.to_string(), str::to_owned)
    }

    /// The statements that lead from a bundle of this version to the newest; none if it is the newest, or the way is cut.
    pub fn statements_after(&self, version: u64) -> &[BundleStatement] {
        let newer = self.statements.iter().position(|stated| version.checked_add(1) == Some(stated.bundle.version));
        newer.map_or(&[], |first| &self.statements[first..])
    }

    /// All CAs of the bundle, the one that signs instances first.
    pub fn authorities(&self) -> Vec<ListedCa> {
        let (signer, server) = (self.signer_pin(), self.server_signer().pin());
        let mut listed: Vec<ListedCa> = self.trusted().map(|ca| ca.listed(signer, server)).collect();
        listed.sort_by_key(|ca| !ca.signs_instances);
        listed
    }

    /// The CA that signs brokers.
    pub(super) fn server_signer(&self) -> &CertificateAuthority {
        match (self.phase, &self.next) {
            (Some(CaPhase::ServersActivated), Some(next)) => &next.keys,
            _ => &self.current.keys,
        }
    }

    fn signer(&self) -> &Ca {
        match (self.phase, &self.next) {
            (Some(CaPhase::ClientsActivated | CaPhase::ServersActivated), Some(next)) => next,
            _ => &self.current,
        }
    }

    fn trusted(&self) -> impl Iterator<Item = &Ca> {
        std::iter::once(&self.current).chain(&self.next)
    }
}

/// A stored CA with its key opened.
///
/// # Errors
/// When the key cannot be opened.
pub(super) fn unseal(
    stored: &StoredCa,
    sealing: &SealingKeys,
    trust_domain: &TrustDomain,
) -> Result<CertificateAuthority, CaError> {
    let key = sealing.open(Purpose::AuthorityKey, &stored.key)?;
    Ok(CertificateAuthority::load(trust_domain.clone(), stored.certificate.to_vec(), &key)?)
}

impl Ca {
    fn open(stored: &StoredCa, sealing: &SealingKeys, trust_domain: &TrustDomain) -> Result<Self, CaError> {
        let keys = unseal(stored, sealing, trust_domain)?;
        Ok(Self { pin: keys.pin(), keys, created_at: stored.created_at })
    }

    fn listed(&self, signer: SpkiPin, server_signer: SpkiPin) -> ListedCa {
        ListedCa {
            pin: self.pin,
            created_at: self.created_at,
            expires_at: self.keys.not_after().into(),
            signs_instances: self.pin == signer,
            signs_brokers: self.pin == server_signer,
        }
    }
}
