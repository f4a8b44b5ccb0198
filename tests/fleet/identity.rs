//! Who a simulated agent is: keys and certificate, in memory only; and how it gets the next certificate.

use std::sync::Arc;

use anyhow::Context as _;
use homeward_certs::csr::InstanceKey;
use homeward_certs::pin::SpkiPin;
use homeward_certs::proof::RenewalTranscript;
use homeward_certs::recovery::RecoveryKey;
use homeward_certs::tls::LiveIdentity;
use homeward_proto::v1;
use uuid::Uuid;

/// Keys and certificate of one agent.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Signs renewals.
    pub(crate) recovery: RecoveryKey,
    /// The key of the certificate.
    pub(crate) key: InstanceKey,
    /// Leaf first, DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Counts the certificates from 1.
    pub(crate) generation: u64,
}

impl Identity {
    /// The CA that the certificate is of: the second of its chain.
    ///
    /// # Errors
    /// When the chain has no second, or that is no certificate.
    pub(crate) fn authority(&self) -> anyhow::Result<SpkiPin> {
        self.chain.get(1).and_then(|der| SpkiPin::of_certificate(der)).context("the chain ends with the leaf")
    }

    /// As rustls takes it.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub(crate) fn live(&self) -> anyhow::Result<Arc<LiveIdentity>> {
        Ok(LiveIdentity::new(self.chain.clone(), &self.key.to_private_key())?)
    }

    /// Takes the certificate that answered a renewal.
    pub(crate) fn renew(&mut self, renewal: Renewal, answer: v1::RenewResponse) {
        (self.key, self.chain, self.generation) = (renewal.key, answer.certificate_chain, answer.generation);
    }
}

/// A renewal under way: key and request id stay the same until it is answered, so that a lost answer can be had again.
#[derive(Debug)]
pub(crate) struct Renewal {
    request_id: Uuid,
    key: InstanceKey,
}

impl Renewal {
    /// Begins one, with a new key.
    ///
    /// # Errors
    /// When there is no key to be had.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        Ok(Self { request_id: Uuid::new_v4(), key: InstanceKey::generate()? })
    }

    /// What to ask.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(crate) fn request(&self, identity: &Identity) -> anyhow::Result<v1::RenewRequest> {
        let transcript = RenewalTranscript::new(self.request_id.as_bytes(), &self.key.pin(), identity.generation);
        Ok(v1::RenewRequest {
            request_id: self.request_id.to_string(),
            csr: self.key.csr()?,
            generation: identity.generation,
            recovery_signature: identity.recovery.sign(transcript.as_bytes()),
        })
    }
}
