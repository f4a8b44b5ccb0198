//! A CA asks whether the name is ours: by a handshake for a protocol that nobody else speaks (TLS-ALPN-01, RFC 8737).
//!
//! The answer is in the store, because the CA comes to whichever broker the name leads to.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::csr::KeyError;
use homeward_certs::public::challenge_certificate;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::clock::Clock;
use crate::storage::table::Table;
use crate::storage::{Expect, Store, StoreError};
use crate::tls::acme::record::StoredChallenge;

const PROTOCOL: &[u8] = b"acme-tls/1";

/// How long a CA may take to ask.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Whether a CA asks.
pub(in crate::tls) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    // RFC 8737 4: this protocol and no other.
    hello.alpn().is_some_and(|offered| offered.eq([PROTOCOL]))
}

/// What CAs are answered.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Challenges {
    table: Table<StoredChallenge>,
    host: String,
    clock: Clock,
}

impl Challenges {
    /// For the public address.
    pub(in crate::tls) fn new(store: Arc<dyn Store>, host: String, clock: Clock) -> Self {
        Self { table: Table::new(store), host, clock }
    }

    /// From now on this is the answer.
    pub(super) async fn put(&self, digest: &[u8]) -> Result<(), StoreError> {
        let (digest, expires_at) = (URL_SAFE_NO_PAD.encode(digest), self.clock.now() + LIFETIME);
        let write = self.table.put(&self.host, &StoredChallenge { digest, expires_at }, Expect::Any)?;
        self.table.commit(vec![write]).await.map(drop)
    }

    /// There is nothing to answer any more.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        self.table.commit(vec![self.table.delete(&self.host, Expect::Any)]).await.map(drop)
    }

    /// The handshake that answers a CA, which asks for this name.
    pub(in crate::tls) async fn answer(&self, name: Option<&str>) -> Result<Arc<ServerConfig>, ChallengeError> {
        // Only for our own name, so that strangers cannot look anything up.
        if name != Some(self.host.as_str()) {
            return Err(ChallengeError::NotAsked);
        }
        let stored = self.table.get(&self.host).await?.ok_or(ChallengeError::NotAsked)?.record;
        let digest = URL_SAFE_NO_PAD.decode(&stored.digest).map_err(|_| ChallengeError::NotAsked)?;
        let (certificate, key) = challenge_certificate(&self.host, &digest)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(key)?;
        // Not compared with the certificate: rustls reads none that has a critical extension which it does not know.
        let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
        let builder = ServerConfig::builder_with_details(provider, Arc::new(self.clock.clone()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Arc::new(config))
    }
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub(in crate::tls) enum ChallengeError {
    /// No certificate is being ordered, or not for this name.
    #[error("somebody asks as a CA does, and no CA was asked for a certificate")]
    NotAsked,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}
