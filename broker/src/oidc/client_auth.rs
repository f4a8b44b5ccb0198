//! Client authentication at the token endpoint (RFC 6749 2.3): `client_secret_basic` and `client_secret_post`, each
//! client by the one that it registered.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};

use crate::oidc::parameters::{ParameterError, Parameters};
use crate::registry::{ClientAuthMethod, Instance, Snapshot};
use crate::secret::SecretHash;

/// What a client sent to prove who it is.
pub(super) struct Credentials {
    method: ClientAuthMethod,
    client_id: String,
    secret: SecretString,
}

/// Why a client is not who it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientAuthError {
    /// Repeated or not UTF-8.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// RFC 6749 2.3: one method in a request.
    #[error("the client authenticates by two methods at once")]
    TwoMethods,
    /// None, or half of one.
    #[error("the client does not authenticate")]
    Missing,
    /// There is an Authorization header, and it is no Basic one that can be read.
    #[error("the Authorization header cannot be read")]
    Header,
    /// Unknown, disabled, another method than registered, or a wrong secret: all look the same.
    #[error("the client is unknown or its authentication is wrong")]
    Wrong(ClientAuthMethod),
}

impl Credentials {
    /// Finds them in a request.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub(super) fn of(headers: &HeaderMap, parameters: &Parameters) -> Result<Self, ClientAuthError> {
        let (body_id, body_secret) = (parameters.get("client_id")?, parameters.get("client_secret")?);
        let mut authorization = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = authorization.next() else {
            let (client_id, secret) = body_id.zip(body_secret).ok_or(ClientAuthError::Missing)?;
            let method = ClientAuthMethod::ClientSecretPost;
            return Ok(Self { method, client_id: client_id.to_owned(), secret: secret.into() });
        };
        if authorization.next().is_some() || body_secret.is_some() {
            return Err(ClientAuthError::TwoMethods);
        }
        let (client_id, secret) = header.to_str().ok().and_then(basic).ok_or(ClientAuthError::Header)?;
        let method = ClientAuthMethod::ClientSecretBasic;
        if body_id.is_some_and(|id| id != client_id) {
            return Err(ClientAuthError::Wrong(method));
        }
        Ok(Self { method, client_id, secret })
    }

    /// The client that they belong to. An unknown client costs the same comparison as a known one.
    ///
    /// # Errors
    /// When they are wrong in any way.
    pub(super) fn verify(&self, snapshot: &Snapshot) -> Result<Arc<Instance>, ClientAuthError> {
        let client = snapshot.client(&self.client_id);
        let relying_party = client.and_then(|client| client.relying_party.as_ref());
        let nobody = SecretHash::of("");
        let secret = relying_party.and_then(|relying_party| relying_party.credential.secret());
        let expected = secret.map_or(&nobody, |secret| &secret.hash);
        let right = expected.matches(self.secret.expose_secret());
        let method = relying_party.is_some_and(|relying_party| relying_party.auth_method == self.method);
        match client {
            Some(client) if right && method => Ok(client.clone()),
            _ => Err(ClientAuthError::Wrong(self.method)),
        }
    }
}

/// RFC 6749 2.3.1: both halves are form-urlencoded first, then joined with a colon, then in base64.
fn basic(header: &str) -> Option<(String, SecretString)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded.trim_matches(' ')).ok()?);
    let (client_id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((once_decoded(client_id)?, once_decoded(secret)?.into()))
}

/// Undoes form-urlencoding once. A bare `=` or `&` belongs to the value: it is all one value.
fn once_decoded(text: &str) -> Option<String> {
    let text = text.replace('=', "%3D").replace('&', "%26");
    let decoded = form_urlencoded::parse(text.as_bytes()).next().map(|(value, _)| value.into_owned());
    decoded.filter(|value| !value.contains('\u{fffd}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(plain: &[u8]) -> Option<(String, String)> {
        let (id, secret) = basic(&format!("Basic {}", STANDARD.encode(plain)))?;
        Some((id, secret.expose_secret().to_owned()))
    }

    // T4
    #[test]
    fn both_halves_are_decoded_once() {
        for (plain, id, secret) in [
            ("beta:secret", "beta", "secret"),
            ("be%3Ata:se%2Bc+ret", "be:ta", "se+c ret"),
            ("beta:a:b", "beta", "a:b"),
            ("beta:%2525", "beta", "%25"),
            ("beta:%C3%A9é", "beta", "éé"),
            ("beta:a=b&c", "beta", "a=b&c"),
            ("beta:%zz", "beta", "%zz"),
        ] {
            assert_eq!(decoded(plain.as_bytes()), Some((id.to_owned(), secret.to_owned())), "{plain}");
        }
    }

    // T4
    #[test]
    fn what_is_no_basic_header_is_refused() {
        for bad in
            ["", "Basic", "Basic ", "Basic !!!", "Basic YmV0YQ==", "Bearer YTpi", "Basic YTpi YTpi", "Basic YTpi=="]
        {
            assert!(basic(bad).is_none(), "{bad}");
        }
        assert!(decoded(b"beta:\xff").is_none());
        assert!(decoded(b"beta:%ff").is_none());
        assert!(decoded(b":secret").is_none());
        assert!(basic("bAsIc YTpi").is_some());
    }
}
