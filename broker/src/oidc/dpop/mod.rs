//! DPoP: a client shows with each request that it has the key that its tokens are bound to (RFC 9449).
//!
//! 1. [`proof`] reads a proof and judges it: signed by the key that it names, for this method and address, now.
//! 2. Its nonce must be one of ours (8): the sealed time of its making, good for five minutes, remembered nowhere. A
//!    client that has none is told one and tries again; each answer brings the next. So a proof that somebody made in
//!    advance, or on a machine that he had for a moment, is soon worth nothing.
//! 3. Within its time a proof is used once ([`replays`]). That is known to one broker, in memory: on another, or after a
//!    restart, a stolen proof could be used again for as long as its nonce and its own time allow.

mod jwk;
mod proof;
mod replays;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::grants::Thumbprint;
use crate::oidc::Provider;
use crate::secret::{Purpose, SealingKeys};

pub(super) use jwk::ALGORITHMS;
pub(super) use replays::Replays;

/// Carries the proof.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Carries the nonce of the next proof.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// How long a nonce may be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// What a proof has to be for.
pub(super) struct Purported<'a> {
    /// The method of the request.
    pub(super) method: &'a Method,
    /// Its address: where browsers reach us, or the agents' port.
    pub(super) addresses: &'a [String; 2],
    /// The access token beside it, at a resource.
    pub(super) access_token: Option<&'a str>,
}

/// A key that a request has shown, by a proof that is not used up yet.
pub(super) struct ShownKey {
    /// What tokens are bound to.
    pub(super) thumbprint: Thumbprint,
    id: proof::ProofId,
}

/// Why a proof does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum DpopError {
    /// This client's tokens are bound.
    #[error("the client has to send a proof")]
    Missing,
    /// 4.3 (1).
    #[error("there is more than one proof")]
    Repeated,
    /// 4.3 (2) and (3): no JWT, or without what it must have.
    #[error("the proof cannot be read")]
    Unreadable,
    /// 4.3 (4).
    #[error("the proof is not of type dpop+jwt")]
    Type,
    /// 4.3 (5).
    #[error("the proof is not signed by ES256, EdDSA, PS256 or RS256")]
    Algorithm,
    /// 4.3 (7), too weak, or not a key for this algorithm.
    #[error("the key of the proof is private, weak, or none for its algorithm")]
    Key,
    /// 4.3 (6).
    #[error("the signature of the proof is wrong")]
    Signature,
    /// 4.3 (8).
    #[error("the proof is for another method")]
    Method,
    /// 4.3 (9).
    #[error("the proof is for another address")]
    Address,
    /// 4.3 (11).
    #[error("the proof is too old or from the future: compare the clocks")]
    Time,
    /// 4.3 (12).
    #[error("the proof is for another access token")]
    AccessToken,
    /// 8: none, or too old.
    #[error("the proof has no nonce of ours that is still good")]
    Nonce,
    /// 11.1.
    #[error("the proof was used before")]
    Replayed,
}

#[derive(Serialize, Deserialize)]
struct Nonce {
    made_at: Timestamp,
}

impl Provider {
    /// The key that a request shows, if it shows one. It counts when it was used up by [`Provider::use_up_proof`]: not
    /// before the client is known, so that one that has to come again with a nonce has not used its assertion up either.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn shown_key(
        &self,
        headers: &HeaderMap,
        purported: &Purported<'_>,
        now: Timestamp,
    ) -> Result<Option<ShownKey>, DpopError> {
        let mut sent = headers.get_all(DPOP).iter();
        let Some(first) = sent.next() else { return Ok(None) };
        if sent.next().is_some() {
            return Err(DpopError::Repeated);
        }
        let text = first.to_str().map_err(|_| DpopError::Unreadable)?;
        let proof = proof::verify(text, purported, now)?;
        let nonce = proof.nonce.as_deref().and_then(|nonce| opened(&self.sealing, nonce));
        let good = nonce.is_some_and(|Nonce { made_at }| made_at <= now && now < made_at + NONCE_LIFETIME);
        if !good {
            return Err(DpopError::Nonce);
        }
        Ok(Some(ShownKey { thumbprint: proof.thumbprint, id: proof.id }))
    }

    /// The addresses of a path.
    pub(super) fn addresses(&self, path: &str) -> [String; 2] {
        [self.issuer.address(path), format!("{}{path}", self.agents_origin)]
    }

    /// The thumbprint of a key that was shown, once for each proof.
    ///
    /// # Errors
    /// When the proof was used before.
    pub(super) fn use_up_proof(&self, shown: ShownKey, now: Timestamp) -> Result<Thumbprint, DpopError> {
        if self.replays.is_first(shown.id, now) { Ok(shown.thumbprint) } else { Err(DpopError::Replayed) }
    }

    /// Adds the nonce for the next proof to an answer, if the client sends proofs.
    pub(super) fn add_nonce(&self, request: &HeaderMap, answer: &mut HeaderMap, now: Timestamp) {
        if !request.contains_key(DPOP) {
            return;
        }
        // Without randomness there is no nonce, and the next request asks for one.
        let nonce = self.sealing.seal_value(Purpose::DpopNonce, &Nonce { made_at: now }).ok();
        if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::from_str(&nonce).ok()) {
            answer.insert(DPOP_NONCE, nonce);
        }
    }
}

fn opened(sealing: &SealingKeys, nonce: &str) -> Option<Nonce> {
    sealing.open_value(Purpose::DpopNonce, nonce).ok()
}
