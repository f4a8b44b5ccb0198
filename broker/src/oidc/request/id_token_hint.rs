//! `id_token_hint`: an ID token of ours that says which user is expected (OpenID Connect Core 3.1.2.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use serde::Deserialize;

use crate::config::Issuer;
use crate::keys::KeySet;
use crate::oidc::request::RequestError;
use crate::registry::{ClientId, Subject};

/// Reads hints.
pub(in crate::oidc) struct HintVerifier {
    keys: KeySet,
    issuer: Issuer,
}

/// Whom a hint names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hinted {
    /// A user, as the client knows him.
    Subject(Subject),
    /// Somebody who was told to this client under a key that is gone by now: nobody can say who.
    Forgotten,
}

#[derive(Deserialize)]
struct Hint {
    sub: Subject,
}

/// What a token says that nobody can verify any more.
#[derive(Deserialize)]
struct Unverified {
    iss: String,
    aud: String,
}

impl HintVerifier {
    /// With the keys that we publish.
    pub(in crate::oidc) fn new(keys: KeySet, issuer: Issuer) -> Self {
        Self { keys, issuer }
    }

    /// Whom a hint names. It may be old: it says who is meant, not that anybody is signed in.
    ///
    /// # Errors
    /// When it is not an ID token of ours for this client.
    pub(super) fn read(&self, hint: &str, client: &ClientId) -> Result<Hinted, RequestError> {
        let header = jsonwebtoken::decode_header(hint).map_err(|_| RequestError::IdTokenHint)?;
        let keys = self.keys.current();
        let kid = header.kid.as_deref().ok_or(RequestError::IdTokenHint)?;
        let Some(key) = keys.published(kid) else { return self.forgotten(hint, client) };
        // RFC 8725 3.1: the algorithm is that of our key; a header that says another one is refused.
        let mut validation = Validation::new(key.algorithm().of_jwt());
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer.as_str()]);
        validation.set_audience(&[client.as_str()]);
        let token = jsonwebtoken::decode::<Hint>(hint, key.verifying_key(), &validation);
        Ok(Hinted::Subject(token.map_err(|_| RequestError::IdTokenHint)?.claims.sub))
    }

    /// A token that says it is ours, under a key that nobody has: it may be as old as any. What it says of the user is not
    /// believed.
    fn forgotten(&self, hint: &str, client: &ClientId) -> Result<Hinted, RequestError> {
        let payload = hint.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let said: Option<Unverified> = payload.and_then(|json| serde_json::from_slice(&json).ok());
        let ours = said.is_some_and(|said| said.iss == self.issuer.as_str() && said.aud == client.as_str());
        if ours { Ok(Hinted::Forgotten) } else { Err(RequestError::IdTokenHint) }
    }
}
