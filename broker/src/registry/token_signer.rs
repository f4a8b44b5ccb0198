//! With which key a relying party's tokens are signed.

use serde::Serialize;

use crate::keys::{KeyError, KeySet, SigningAlgorithm};
use crate::registry::{Client, Liveness, SigningKeyChoice};

/// Signs for relying parties, each by the key that it chose, as the keys are at this moment: a login that began before
/// they turned ends with the new one.
#[derive(Clone)]
pub struct TokenSigner {
    keys: KeySet,
    liveness: Liveness,
}

impl TokenSigner {
    /// With these keys, for those of whom it is known which of them they have.
    pub fn new(keys: KeySet, liveness: Liveness) -> Self {
        Self { keys, liveness }
    }

    /// The keys that it signs with.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// A JWT without explicit type, by the algorithm of the client's ID tokens.
    ///
    /// # Errors
    /// When the claims are no JSON or the library refuses.
    pub fn sign(&self, client: Client<'_>, claims: &impl Serialize) -> Result<String, KeyError> {
        let algorithm = client.relying_party.id_token_alg;
        self.keys.current().signer_for(algorithm, &self.acknowledged(client)).sign(claims)
    }

    /// A JWT of an explicit type (RFC 8725 3.11) by this algorithm.
    ///
    /// # Errors
    /// As [`TokenSigner::sign`].
    pub fn sign_typed(
        &self,
        client: Client<'_>,
        (kind, algorithm): (&str, SigningAlgorithm),
        claims: &impl Serialize,
    ) -> Result<String, KeyError> {
        self.keys.current().signer_for(algorithm, &self.acknowledged(client)).sign_typed(kind, claims)
    }

    /// The keys that a client is known to verify with, if it wants to be signed for by one of them. (If there is none,
    /// the active key signs.)
    fn acknowledged(&self, client: Client<'_>) -> Vec<String> {
        match client.relying_party.signing_key_choice {
            SigningKeyChoice::Active => Vec::new(),
            SigningKeyChoice::Acknowledged => {
                let sighting = self.liveness.sighting(client.name);
                sighting.map(|sighting| sighting.acknowledged.key_ids).unwrap_or_default()
            }
        }
    }
}
