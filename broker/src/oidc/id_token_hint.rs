//! `id_token_hint`: an ID token of ours that says which user is expected (OpenID Connect Core 3.1.2.1).

use jsonwebtoken::Validation;
use serde::Deserialize;

use crate::config::Issuer;
use crate::keys::KeySet;
use crate::oidc::request::RequestError;
use crate::registry::{ClientId, Subject};

/// Reads hints.
pub(super) struct HintVerifier {
    keys: KeySet,
    issuer: Issuer,
}

#[derive(Deserialize)]
struct Hint {
    sub: Subject,
}

impl HintVerifier {
    /// With the keys that we publish.
    pub(super) fn new(keys: KeySet, issuer: Issuer) -> Self {
        Self { keys, issuer }
    }

    /// Whom a hint names. It may be old: it says who is meant, not that anybody is signed in.
    ///
    /// # Errors
    /// When it is not an ID token of ours for this client.
    pub(super) fn subject(&self, hint: &str, client: &ClientId) -> Result<Subject, RequestError> {
        let header = jsonwebtoken::decode_header(hint).map_err(|_| RequestError::IdTokenHint)?;
        let keys = self.keys.current();
        let key = header.kid.as_deref().and_then(|kid| keys.published(kid)).ok_or(RequestError::IdTokenHint)?;
        // RFC 8725 3.1: the algorithm is that of our key; a header that says another one is refused.
        let mut validation = Validation::new(key.algorithm().of_jwt());
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer.as_str()]);
        validation.set_audience(&[client.as_str()]);
        let token = jsonwebtoken::decode::<Hint>(hint, key.verifying_key(), &validation);
        Ok(token.map_err(|_| RequestError::IdTokenHint)?.claims.sub)
    }
}
