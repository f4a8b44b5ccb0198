//! All signing keys at one moment.

use std::cmp::Reverse;
use std::fmt;
use std::mem::discriminant;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::keys::{KeyError, KeyState, Signer, SigningAlgorithm, StoredKey};
use crate::secret::{Purpose, SealingKeys};

/// All signing keys at one moment: what signs, and what is published.
#[derive(Debug)]
pub struct Keys {
    revision: u64,
    version: u64,
    rs256: Arc<Signer>,
    es256: Arc<Signer>,
    /// In the order of the JWKS.
    published: Vec<PublishedKey>,
    jwks: Bytes,
}

#[derive(Debug)]
struct PublishedKey {
    signer: Arc<Signer>,
    state: KeyState,
}

impl Keys {
    /// The picture of these records. Keys that `known` holds already are not parsed again: a `kid` is a thumbprint and
    /// never names another key.
    ///
    /// # Errors
    /// When a key cannot be opened, or there is not one active key of each algorithm.
    pub(super) fn of(
        mut stored: Vec<(String, StoredKey)>,
        known: Option<&Self>,
        sealing: &SealingKeys,
        revision: u64,
    ) -> Result<Self, KeyError> {
        stored.sort_by(|(one, a), (other, b)| (place(a), one).cmp(&(place(b), other)));
        let published = stored.into_iter().map(|(kid, stored)| {
            let parsed = known.and_then(|known| known.published.iter().find(|key| key.signer.kid() == kid));
            let signer = match parsed {
                Some(key) => key.signer.clone(),
                None => Arc::new(open(&kid, &stored, sealing)?),
            };
            Ok(PublishedKey { signer, state: stored.state })
        });
        let published = published.collect::<Result<Vec<_>, KeyError>>()?;
        let keys: Vec<_> = published.iter().map(|key| key.signer.jwk()).collect();
        let jwks = serde_json::json!({"keys": keys}).to_string();
        let mut head = [0; 8];
        head.copy_from_slice(digest(&SHA256, jwks.as_bytes()).as_ref().split_at(8).0);
        Ok(Self {
            revision,
            version: u64::from_be_bytes(head),
            rs256: only_active(&published, SigningAlgorithm::Rs256)?,
            es256: only_active(&published, SigningAlgorithm::Es256)?,
            published,
            jwks: jwks.into(),
        })
    }

    /// The store's revision of this picture.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Version of the JWKS: the head of its SHA-256. Another text has another one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The JWKS document (RFC 7517 5): public keys only. Active ones come first, RS256 before ES256, because some
    /// relying parties take the first key that they find; then pending ones, then retired ones, the last retired first.
    pub fn jwks(&self) -> &Bytes {
        &self.jwks
    }

    /// The `kid` of every published key, in the order of the JWKS.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.published.iter().map(|key| key.signer.kid())
    }

    /// Of each published key its algorithm, and where it is.
    pub fn states(&self) -> impl Iterator<Item = (SigningAlgorithm, &'static str)> {
        self.published.iter().map(|key| (key.signer.algorithm(), key.state.as_str()))
    }

    /// The key that signs with this algorithm.
    pub fn signer(&self, algorithm: SigningAlgorithm) -> &Signer {
        match algorithm {
            SigningAlgorithm::Rs256 => &self.rs256,
            SigningAlgorithm::Es256 => &self.es256,
        }
    }

    /// The key that signs with this algorithm for somebody who is known to verify with these keys: the active one if
    /// it is among them, else the one of them that was active last, else the active one all the same.
    pub fn signer_for(&self, algorithm: SigningAlgorithm, acknowledged: &[String]) -> &Signer {
        let signs = |key: &&PublishedKey| match key.state {
            KeyState::Active | KeyState::Retired { .. } => key.signer.algorithm() == algorithm,
            KeyState::Pending => false,
        };
        let known = |key: &&PublishedKey| acknowledged.iter().any(|kid| kid == key.signer.kid());
        // The order of the JWKS is the order of preference: active, then retired, the last retired first.
        let newest = self.published.iter().filter(signs).find(known);
        newest.map_or_else(|| self.signer(algorithm), |key| &key.signer)
    }

    /// A published key, to verify what it signed.
    pub fn published(&self, kid: &str) -> Option<&Signer> {
        self.published.iter().find(|key| key.signer.kid() == kid).map(|key| &*key.signer)
    }

    /// Whether nobody could tell the two apart: a retired key that goes later than planned is no news.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        let stages = |keys: &Self| keys.published.iter().map(|key| discriminant(&key.state)).collect::<Vec<_>>();
        self.jwks == other.jwks && stages(self) == stages(other)
    }
}

impl fmt::Display for Keys {
    /// Which key is where, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for PublishedKey { signer, state } in &self.published {
            let (algorithm, state) = (signer.algorithm().as_str(), state.as_str());
            write!(f, "{separator}{algorithm} {} {state}", signer.kid())?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Where a key stands in the JWKS.
fn place(key: &StoredKey) -> (u8, Reverse<Option<Timestamp>>, SigningAlgorithm) {
    let (stage, retired_at) = match key.state {
        KeyState::Active => (0, None),
        KeyState::Pending => (1, None),
        KeyState::Retired { .. } => (2, Some(key.since())),
    };
    (stage, Reverse(retired_at), key.algorithm)
}

fn open(kid: &str, stored: &StoredKey, sealing: &SealingKeys) -> Result<Signer, KeyError> {
    let pkcs8 = sealing.open(Purpose::SigningKey, &stored.private)?;
    let signer = Signer::load(stored.algorithm, &pkcs8)?;
    if signer.kid() == kid { Ok(signer) } else { Err(KeyError::Unreadable(kid.to_owned())) }
}

fn only_active(keys: &[PublishedKey], algorithm: SigningAlgorithm) -> Result<Arc<Signer>, KeyError> {
    let active = |key: &&PublishedKey| key.state == KeyState::Active && key.signer.algorithm() == algorithm;
    let mut active = keys.iter().filter(active);
    match (active.next(), active.next()) {
        (Some(key), None) => Ok(key.signer.clone()),
        (None, _) => Err(KeyError::Missing(algorithm)),
        (Some(_), Some(_)) => Err(KeyError::Ambiguous(algorithm)),
    }
}
