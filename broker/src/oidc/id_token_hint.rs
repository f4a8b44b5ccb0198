//! `id_token_hint`: an ID token of ours that says which user is expected (OpenID Connect Core 3.1.2.1).

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::config::Issuer;
use crate::keys::KeySet;
use crate::oidc::request::RequestError;
use crate::registry::{ClientId, Subject};

/// Reads hints.
pub(super) struct HintVerifier {
    keys: JwkSet,
    issuer: Issuer,
}

#[derive(Deserialize)]
struct Hint {
    sub: Subject,
}

impl HintVerifier {
    /// With the keys that we publish.
    pub(super) fn new(keys: &KeySet, issuer: Issuer) -> Result<Self, serde_json::Error> {
        Ok(Self { keys: serde_json::from_str(keys.jwks())?, issuer })
    }

    /// Whom a hint names. It may be old: it says who is meant, not that anybody is signed in.
    ///
    /// # Errors
    /// When it is not an ID token of ours for this client.
    pub(super) fn subject(&self, hint: &str, client: &ClientId) -> Result<Subject, RequestError> {
        let header = jsonwebtoken::decode_header(hint).map_err(|_| RequestError::IdTokenHint)?;
        // RFC 8725 3.1: the algorithms are ours to choose, the header only says which of them.
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(RequestError::IdTokenHint);
        }
        let jwk = header.kid.as_deref().and_then(|kid| self.keys.find(kid)).ok_or(RequestError::IdTokenHint)?;
        let key = DecodingKey::from_jwk(jwk).map_err(|_| RequestError::IdTokenHint)?;
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer.as_str()]);
        validation.set_audience(&[client.as_str()]);
        let token = jsonwebtoken::decode::<Hint>(hint, &key, &validation).map_err(|_| RequestError::IdTokenHint)?;
        Ok(token.claims.sub)
    }
}
