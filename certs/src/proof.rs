//! What agents prove, byte by byte: that they know a join token's secret, without sending it, and later that they still
//! hold the recovery key.
//!
//! The first proof is an HMAC-SHA256 over everything that must not be swapped underneath it: the key to be certified, the
//! recovery key, and the broker's leaf on this very connection. Somebody who sits between agent and broker with a
//! certificate of his own gets a proof that the broker refuses. Renewals and recoveries are signed by the recovery key.
//! Each transcript begins with a name of its own and, after that, has parts of fixed length only, so that no signature
//! counts for anything but what it was made for.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hkdf, hmac};
use secrecy::{ExposeSecret, SecretBox};

use crate::pin::SpkiPin;
use crate::recovery::RecoveryPublicKey;

/// The key that proofs are made and checked with: HKDF-SHA256 of the join token's secret. The broker keeps this, sealed,
/// and not the secret.
pub struct ProofKey(SecretBox<[u8; 32]>);

impl ProofKey {
    /// Derives the key from a join token's secret.
    ///
    /// # Errors
    /// Never for this length; the type of the library says it could.
    pub fn derive(secret: &SecretBox<[u8; 32]>) -> Result<Self, ProofError> {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"homeward join token 1")
            .extract(secret.expose_secret())
            .expand(&[b"enrolment proof"], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_| ProofError)?;
        Ok(Self(SecretBox::new(Box::new(key))))
    }

    /// The key with these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// Its bytes, to be sealed.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// The proof: 32 bytes.
    pub fn prove(&self, transcript: &EnrolmentTranscript) -> Vec<u8> {
        hmac::sign(&self.hmac(), transcript.as_bytes()).as_ref().to_vec()
    }

    /// Whether a proof is right, in constant time.
    pub fn verifies(&self, transcript: &EnrolmentTranscript, proof: &[u8]) -> bool {
        hmac::verify(&self.hmac(), transcript.as_bytes(), proof).is_ok()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret())
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(…)")
    }
}

/// The derivation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the join token could not be derived")]
pub struct ProofError;

/// What a proof and the recovery key's signature cover.
pub struct EnrolmentTranscript(Vec<u8>);

impl EnrolmentTranscript {
    /// Of one enrolment: the key to be certified, the recovery key, the broker's leaf as this connection showed it,
    /// and the 16 bytes of the request's UUID.
    pub fn new(csr_key: &SpkiPin, recovery: &RecoveryPublicKey, broker_leaf: &SpkiPin, request_id: &[u8; 16]) -> Self {
        let recovery = SpkiPin::of_spki(recovery.as_bytes());
        let parts: [&[u8]; 5] =
            [b"hw-enrol-1", csr_key.as_bytes(), recovery.as_bytes(), broker_leaf.as_bytes(), request_id];
        Self(parts.concat())
    }

    /// What is signed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the recovery key signs in a renewal.
pub struct RenewalTranscript(Vec<u8>);

impl RenewalTranscript {
    /// Of one renewal: the 16 bytes of the request's UUID, the key to be certified, and the generation of the
    /// certificate that is to be followed.
    pub fn new(request_id: &[u8; 16], csr_key: &SpkiPin, generation: u64) -> Self {
        let parts: [&[u8]; 4] = [b"hw-renew-1", request_id, csr_key.as_bytes(), &generation.to_be_bytes()];
        Self(parts.concat())
    }

    /// What is signed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the recovery key signs in a recovery.
pub struct RecoveryTranscript(Vec<u8>);

impl RecoveryTranscript {
    /// Of one recovery: the broker's challenge, the 16 bytes of the request's UUID, the key to be certified, and the
    /// generation of the last certificate that the agent has.
    pub fn new(challenge: &[u8], request_id: &[u8; 16], csr_key: &SpkiPin, generation: u64) -> Self {
        let challenge = digest(&SHA256, challenge);
        let parts: [&[u8]; 5] =
            [b"hw-recover-1", challenge.as_ref(), request_id, csr_key.as_bytes(), &generation.to_be_bytes()];
        Self(parts.concat())
    }

    /// What is signed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both sides must agree on for ever: the bytes, not only that they agree today.
    #[test]
    fn signed_transcripts_are_these_bytes() {
        let pin = SpkiPin::from_bytes([2; 32]);
        let renewal = RenewalTranscript::new(&[1; 16], &pin, 0x0102);
        let expected = [b"hw-renew-1".as_slice(), &[1; 16], &[2; 32], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!(renewal.as_bytes(), expected);
        let recovery = RecoveryTranscript::new(b"challenge", &[1; 16], &pin, 3);
        let challenge = digest(&SHA256, b"challenge");
        let expected =
            [b"hw-recover-1".as_slice(), challenge.as_ref(), &[1; 16], &[2; 32], &[0, 0, 0, 0, 0, 0, 0, 3]].concat();
        assert_eq!(recovery.as_bytes(), expected);
    }

    fn transcript(which: u8) -> EnrolmentTranscript {
        let part = |n: u8| SpkiPin::from_bytes([if which == n { 0xff } else { n }; 32]);
        let recovery = RecoveryPublicKey::try_from(part(2).as_bytes().as_slice()).unwrap();
        EnrolmentTranscript::new(&part(1), &recovery, &part(3), &[if which == 4 { 0xff } else { 4 }; 16])
    }

    #[test]
    fn a_proof_covers_every_part_and_needs_the_secret() {
        let key = ProofKey::derive(&SecretBox::new(Box::new([9; 32]))).unwrap();
        let proof = key.prove(&transcript(0));
        assert!(key.verifies(&transcript(0), &proof));
        for swapped in 1..=4 {
            assert!(!key.verifies(&transcript(swapped), &proof), "part {swapped}");
        }
        let other = ProofKey::derive(&SecretBox::new(Box::new([8; 32]))).unwrap();
        assert!(!other.verifies(&transcript(0), &proof));
        assert!(!key.verifies(&transcript(0), &proof[..31]));
        assert!(ProofKey::from_bytes(*key.expose_bytes()).verifies(&transcript(0), &proof));
    }
}
