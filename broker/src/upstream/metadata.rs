//! A provider's discovery document (OpenID Connect Discovery 1.0 3), read by `openidconnect` and held against what ops
//! have said of the provider.

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode,
    CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, ProviderMetadata};
use serde::{Deserialize, Serialize};

use crate::config::Issuer;
use crate::registry::{Snapshot, Upstream, check_address};
use crate::upstream::error::MetadataRule;
use crate::upstream::jws;

/// What the broker must know of an OpenID provider.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) userinfo_endpoint: Option<String>,
    pub(super) jwks_uri: String,
    /// By which ID tokens may be signed: asymmetric ones alone.
    pub(super) algorithms: Vec<CoreJwsSigningAlgorithm>,
    /// Whether answers name their issuer (RFC 9207 3).
    pub(super) names_issuer: bool,
    /// How the broker authenticates at the token endpoint.
    pub(super) secret_in_body: bool,
}

/// Members that `openidconnect` does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Further {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Further {}

type Document = ProviderMetadata<
    Further,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Where the document is. Discovery 4.1: a slash at the end of the issuer is not doubled.
pub(super) fn address(issuer: &str, discovery_url: Option<&str>) -> String {
    let below = || format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    discovery_url.map_or_else(below, str::to_owned)
}

impl Metadata {
    /// Reads the document of this home's provider.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(super) fn read(
        document: &[u8],
        upstream: &Upstream,
        wanted_issuer: &str,
        broker: &Issuer,
        snapshot: &Snapshot,
    ) -> Result<Self, MetadataRule> {
        let document: Document =
            serde_json::from_slice(document).map_err(|error| MetadataRule::Unreadable(error.to_string()))?;
        // Discovery 4.3: exactly, or anybody could speak for somebody else.
        if document.issuer().as_str() != wanted_issuer {
            return Err(MetadataRule::Issuer(document.issuer().as_str().chars().take(200).collect()));
        }
        let known = document.id_token_signing_alg_values_supported().iter();
        let algorithms: Vec<_> = known.filter(|alg| jws::is_asymmetric(alg)).cloned().collect();
        if algorithms.is_empty() {
            return Err(MetadataRule::Symmetric);
        }
        let token_endpoint = document.token_endpoint().ok_or(MetadataRule::Missing("token_endpoint"))?;
        let methods = document.token_endpoint_auth_methods_supported();
        let offers = |method| methods.is_some_and(|offered| offered.contains(&method));
        let metadata = Self {
            authorization_endpoint: document.authorization_endpoint().as_str().to_owned(),
            token_endpoint: token_endpoint.as_str().to_owned(),
            userinfo_endpoint: document.userinfo_endpoint().map(|url| url.as_str().to_owned()),
            jwks_uri: document.jwks_uri().as_str().to_owned(),
            algorithms,
            names_issuer: document.additional_metadata().authorization_response_iss_parameter_supported,
            // Discovery 3: what is not said is client_secret_basic.
            secret_in_body: offers(CoreClientAuthMethod::ClientSecretPost)
                && !offers(CoreClientAuthMethod::ClientSecretBasic),
        };
        metadata.check_addresses(upstream, broker, snapshot)?;
        Ok(metadata)
    }

    /// A provider that could name any address could have the broker send other homes' codes, and its secrets, anywhere.
    fn check_addresses(&self, upstream: &Upstream, broker: &Issuer, snapshot: &Snapshot) -> Result<(), MetadataRule> {
        let userinfo = self.userinfo_endpoint.iter().map(|url| ("userinfo_endpoint", url));
        let endpoints = [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("jwks_uri", &self.jwks_uri),
        ];
        let own = upstream.protocol.origins();
        for (name, address) in endpoints.into_iter().chain(userinfo) {
            let origin = check_address(address, broker).map_err(|rule| MetadataRule::Address(name, rule))?;
            let others = snapshot.upstreams().filter(|other| other.name != upstream.name);
            if !own.contains(&origin) && others.into_iter().any(|other| other.protocol.origins().contains(&origin)) {
                return Err(MetadataRule::OfAnotherHome(name));
            }
        }
        Ok(())
    }
}
