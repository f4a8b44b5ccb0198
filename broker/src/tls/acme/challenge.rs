//! A CA asks whether the name is ours: by a handshake for a protocol that nobody else speaks (TLS-ALPN-01, RFC 8737).
//!
//! The answer is in the store, because the CA comes to whichever broker the name leads to.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_certs::csr::KeyError;
use homeward_certs::public::challenge_certificate;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::Mutex;
use tokio::time::Instant;

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

/// Between two looks into the store, however many strangers ask: the host's name is known, and so is the protocol.
const PACE: Duration = Duration::from_millis(200);

/// What CAs are answered.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Challenges {
    table: Table<StoredChallenge>,
    host: String,
    clock: Clock,
    /// What this broker has put, and nobody has taken away yet.
    own: Arc<std::sync::Mutex<Option<String>>>,
    last: Arc<Mutex<Last>>,
}

/// The last look into the store.
#[derive(Debug, Default)]
struct Last {
    begun: Option<Instant>,
    found: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    digest: String,
    config: Arc<ServerConfig>,
}

impl Challenges {
    /// For the public address.
    pub(in crate::tls) fn new(store: Arc<dyn Store>, host: String, clock: Clock) -> Self {
        Self { table: Table::new(store), host, clock, own: Arc::default(), last: Arc::default() }
    }

    /// From now on this is the answer.
    pub(super) async fn put(&self, digest: &[u8]) -> Result<(), StoreError> {
        let (digest, expires_at) = (URL_SAFE_NO_PAD.encode(digest), self.clock.now() + LIFETIME);
        self.own.lock().unwrap_or_else(PoisonError::into_inner).replace(digest.clone());
        let write = self.table.put(&self.host, &StoredChallenge { digest, expires_at }, Expect::Any)?;
        self.table.commit(vec![write]).await.map(drop)
    }

    /// What this broker has put is not asked for any more. Another one's, which has begun an order meanwhile, stays.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(own) = own else { return Ok(()) };
        let stored = self.table.get(&self.host).await?.filter(|stored| stored.record.digest == own);
        let Some(stored) = stored else { return Ok(()) };
        match self.table.commit(vec![self.table.delete(&self.host, Expect::Version(stored.version))]).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The handshake that answers a CA, which asks for this name.
    pub(in crate::tls) async fn answer(&self, name: Option<&str>) -> Result<Arc<ServerConfig>, ChallengeError> {
        // Only for our own name, so that strangers cannot look anything up.
        if name != Some(self.host.as_str()) {
            return Err(ChallengeError::NotAsked);
        }
        let came = Instant::now();
        let mut last = self.last.lock().await;
        // A look that began after he came is as good as one of his own; one from before may have been too early.
        if last.begun.is_none_or(|begun| begun <= came) {
            if let Some(begun) = last.begun {
                tokio::time::sleep_until(begun + PACE).await;
            }
            last.begun = Some(Instant::now());
            let before = last.found.take();
            last.found = self.look(before).await?;
        }
        last.found.as_ref().map(|found| found.config.clone()).ok_or(ChallengeError::NotAsked)
    }

    /// What is to be answered now; the answer of before is made once.
    async fn look(&self, before: Option<Answer>) -> Result<Option<Answer>, ChallengeError> {
        let stored = self.table.get(&self.host).await?.map(|stored| stored.record);
        // What a broker that was killed has left may not be swept away yet.
        let Some(stored) = stored.filter(|it| it.expires_at > self.clock.now()) else { return Ok(None) };
        if let Some(before) = before.filter(|before| before.digest == stored.digest) {
            return Ok(Some(before));
        }
        let Ok(digest) = URL_SAFE_NO_PAD.decode(&stored.digest) else { return Ok(None) };
        Ok(Some(Answer { digest: stored.digest, config: self.config(&digest)? }))
    }

    fn config(&self, digest: &[u8]) -> Result<Arc<ServerConfig>, ChallengeError> {
        let (certificate, key) = challenge_certificate(&self.host, digest)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::storage::sled::SledStore;

    const HOST: &str = "login.example.org";
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn challenges(store: &Arc<dyn Store>) -> (Challenges, crate::clock::ManualClock) {
        let (clock, hands) = Clock::manual(NOW);
        (Challenges::new(store.clone(), HOST.to_owned(), clock), hands)
    }

    #[tokio::test]
    async fn what_was_put_is_answered_at_once_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let (orders, (answers, hands)) = (challenges(&store).0, challenges(&store));
        assert!(matches!(answers.answer(Some(HOST)).await, Err(ChallengeError::NotAsked)));
        // A stranger asked a moment ago; that hides nothing from the CA.
        orders.put(&[1; 32]).await.unwrap();
        let first = answers.answer(Some(HOST)).await.unwrap();
        let second = answers.answer(Some(HOST)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second), "a key and a signature for each stranger");
        assert!(answers.answer(Some("login.example.com")).await.is_err() && answers.answer(None).await.is_err());
        orders.put(&[2; 32]).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &answers.answer(Some(HOST)).await.unwrap()), "that of before");
        hands.advance(LIFETIME);
        assert!(matches!(answers.answer(Some(HOST)).await, Err(ChallengeError::NotAsked)));
    }

    #[tokio::test]
    async fn a_crowd_of_strangers_is_one_look_into_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let (answers, _hands) = challenges(&store);
        let (begun, mut crowd) = (Instant::now(), tokio::task::JoinSet::new());
        for _ in 0..500 {
            let answers = answers.clone();
            crowd.spawn(async move { answers.answer(Some(HOST)).await.is_err() });
        }
        assert!(crowd.join_all().await.into_iter().all(|refused| refused));
        assert!(begun.elapsed() < PACE * 20, "each of them waited for a look of his own");
    }

    #[tokio::test]
    async fn who_gives_up_takes_nothing_of_another_broker_away() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let (one, two) = (challenges(&store).0, challenges(&store).0);
        one.put(&[1; 32]).await.unwrap();
        two.put(&[2; 32]).await.unwrap();
        one.clear().await.unwrap();
        assert!(two.answer(Some(HOST)).await.is_ok());
        two.clear().await.unwrap();
        assert!(two.answer(Some(HOST)).await.is_err());
    }
}
