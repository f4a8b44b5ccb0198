//! What a provider says of itself (OpenID Connect Discovery 1.0), and its keys. Both are kept; keys are fetched anew when a
//! signature asks for it, and never more often than every ten seconds, so that rubbish does not become a flood.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::ACCEPT;
use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::wire::{Wire, WireError};

/// How long metadata and keys are used without a question.
const KEPT: Duration = Duration::from_secs(3600);
/// Keys are not fetched again sooner.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// The members of the metadata that count here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    /// Where the browser goes.
    pub(crate) authorization_endpoint: Url,
    /// Where codes are redeemed.
    pub(crate) token_endpoint: Url,
    jwks_uri: Url,
    /// Where more is said of the user.
    pub(crate) userinfo_endpoint: Option<Url>,
    /// Where the browser logs out.
    pub(crate) end_session_endpoint: Option<Url>,
    /// RFC 9207 3: whether each answer says whose it is.
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(crate) names_itself: bool,
}

/// A provider as it was last seen.
#[derive(Debug)]
pub(crate) struct Known {
    /// What it says of itself.
    pub(crate) metadata: Arc<Metadata>,
    /// Its keys.
    pub(crate) keys: CoreJsonWebKeySet,
    seen_at: Instant,
    keys_at: Instant,
}

/// A provider, as far as it is known.
#[derive(Debug)]
pub(crate) struct KnownProvider {
    issuer: String,
    known: Mutex<Option<Arc<Known>>>,
}

/// Why a provider cannot be used.
#[derive(Debug, Error)]
pub(crate) enum MetadataError {
    /// It does not answer.
    #[error("{what} of the provider {issuer}: {source}")]
    Unreachable {
        /// Which document.
        what: &'static str,
        /// Whose.
        issuer: String,
        /// Why.
        #[source]
        source: WireError,
    },
    /// It answers, but not so.
    #[error("{what} of the provider {issuer}: it answers {status}, or not as the specification says")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// Whose.
        issuer: String,
        /// HTTP status.
        status: u16,
    },
    /// Discovery 4.3.
    #[error(
        "the metadata of the provider {issuer} is that of another one, {found:?}; the issuer must be spelt exactly as the provider spells it, also as to https and a slash at its end"
    )]
    OtherIssuer {
        /// Who was asked.
        issuer: String,
        /// Who answered.
        found: String,
    },
    /// Codes, secrets and tokens would travel in clear.
    #[error("an endpoint of the provider {issuer} is neither https nor on the provider's own origin")]
    UnsafeEndpoint {
        /// Whose.
        issuer: String,
    },
}

impl KnownProvider {
    pub(super) fn new(issuer: String) -> Self {
        Self { issuer, known: Mutex::default() }
    }

    /// What is known, or is to be learnt.
    pub(super) async fn get(&self, wire: &Wire) -> Result<Arc<Known>, MetadataError> {
        let mut slot = self.known.lock().await;
        let kept = slot.as_ref().filter(|known| known.seen_at.elapsed() < KEPT);
        if let Some(known) = kept {
            return Ok(known.clone());
        }
        let metadata = Arc::new(self.discover(wire).await?);
        let keys = self.keys(wire, &metadata).await?;
        let known = Arc::new(Known { metadata, keys, seen_at: Instant::now(), keys_at: Instant::now() });
        *slot = Some(known.clone());
        Ok(known)
    }

    /// After a signature that `old` did not verify.
    pub(super) async fn with_new_keys(&self, wire: &Wire, old: &Arc<Known>) -> Result<Arc<Known>, MetadataError> {
        let mut slot = self.known.lock().await;
        // Somebody else may have fetched them meanwhile.
        if let Some(known) = slot.as_ref().filter(|known| known.keys_at > old.keys_at) {
            return Ok(known.clone());
        }
        if old.keys_at.elapsed() < KEYS_AT_MOST_EVERY {
            return Ok(old.clone());
        }
        let (metadata, seen_at) = (old.metadata.clone(), old.seen_at);
        let keys = self.keys(wire, &metadata).await?;
        let known = Arc::new(Known { metadata, keys, seen_at, keys_at: Instant::now() });
        *slot = Some(known.clone());
        Ok(known)
    }

    async fn discover(&self, wire: &Wire) -> Result<Metadata, MetadataError> {
        let issuer = || self.issuer.clone();
        // Discovery 4.1: a slash at the end is removed before the rest is put on.
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.fetch(wire, &address, "the metadata").await?;
        if metadata.issuer != self.issuer {
            return Err(MetadataError::OtherIssuer { issuer: issuer(), found: metadata.issuer });
        }
        let own = Url::parse(&self.issuer).ok().map(|url| url.origin());
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        let further = metadata.userinfo_endpoint.iter().chain(&metadata.end_session_endpoint);
        let safe = |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && Some(url.origin()) == own);
        if endpoints.into_iter().chain(further).all(safe) {
            Ok(metadata)
        } else {
            Err(MetadataError::UnsafeEndpoint { issuer: issuer() })
        }
    }

    async fn keys(&self, wire: &Wire, metadata: &Metadata) -> Result<CoreJsonWebKeySet, MetadataError> {
        self.fetch(wire, metadata.jwks_uri.as_str(), "the key set").await
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        wire: &Wire,
        address: &str,
        what: &'static str,
    ) -> Result<T, MetadataError> {
        let malformed = |status| MetadataError::Malformed { what, issuer: self.issuer.clone(), status };
        let request = Request::get(address).header(ACCEPT, "application/json").body(Vec::new());
        let answer = wire.send(request.map_err(|_| malformed(0))?).await;
        let answer =
            answer.map_err(|source| MetadataError::Unreachable { what, issuer: self.issuer.clone(), source })?;
        let status = answer.status().as_u16();
        let parsed = (status == 200).then(|| serde_json::from_slice(answer.body()).ok()).flatten();
        parsed.ok_or_else(|| malformed(status))
    }
}
