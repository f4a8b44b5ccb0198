//! Client authentication at the token endpoint (RFC 6749 2.3): `client_secret_basic`, `client_secret_post` and
//! `private_key_jwt`, each client by the one that it registered.
//!
//! While a credential turns, a client has two, and both are good. Which of them it was is known afterwards: that tells its
//! agent whether the application uses the new one.

mod assertion;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};

use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::{ParameterError, Parameters};
use crate::registry::{Client, ClientAuthMethod, ClientCredential, RelyingParty, Snapshot};
use crate::secret::SecretHash;
use crate::storage::{Expect, StoreError};

pub use assertion::UsedAssertion;
use assertion::{Assertion, AssertionError, VerifiedAssertion};

/// What a client sent to prove who it is.
pub(super) struct Credentials {
    client_id: String,
    proof: Proof,
}

enum Proof {
    Basic(SecretString),
    Post(SecretString),
    Assertion(Assertion),
}

/// A client that is who it says.
pub(super) struct AuthenticatedClient<'a> {
    /// Which.
    pub(super) client: Client<'a>,
    /// Version of the credential that it used.
    pub(super) version: u64,
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
    /// Of a client that is known.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
}

impl Credentials {
    /// Finds them in a request.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub(super) fn of(headers: &HeaderMap, parameters: &Parameters) -> Result<Self, ClientAuthError> {
        let (client_id, secret) = (parameters.get("client_id")?, parameters.get("client_secret")?);
        let kind = parameters.get("client_assertion_type")?;
        let assertion = parameters.get("client_assertion")?;
        let mut authorization = headers.get_all(AUTHORIZATION).iter();
        let header = authorization.next();
        let methods = [header.is_some(), authorization.next().is_some(), secret.is_some(), assertion.is_some()];
        if methods.into_iter().filter(|used| *used).count() > 1 {
            return Err(ClientAuthError::TwoMethods);
        }
        let (proven_id, proof) = match (header, secret, assertion) {
            (Some(header), ..) => {
                let (id, secret) = header.to_str().ok().and_then(basic).ok_or(ClientAuthError::Header)?;
                (id, Proof::Basic(secret))
            }
            (None, Some(secret), _) => {
                (client_id.ok_or(ClientAuthError::Missing)?.to_owned(), Proof::Post(secret.into()))
            }
            (None, None, Some(assertion)) if kind == Some(assertion::TYPE) => {
                let assertion = Assertion::new(assertion);
                let subject = assertion.unverified_subject().ok_or(AssertionError::Unreadable)?;
                (subject, Proof::Assertion(assertion))
            }
            (None, None, _) => return Err(ClientAuthError::Missing),
        };
        let credentials = Self { client_id: proven_id, proof };
        // RFC 7521 4.2: a client_id beside another proof names the same client.
        let same = client_id.is_none_or(|id| id == credentials.client_id);
        if same { Ok(credentials) } else { Err(ClientAuthError::Wrong(credentials.method())) }
    }

    /// The client that they say they are of, if it would authenticate so. Nothing is proved.
    pub(super) fn claimed_client<'a>(&self, snapshot: &'a Snapshot) -> Option<Client<'a>> {
        snapshot.client(&self.client_id).filter(|client| client.relying_party.auth_method == self.method())
    }

    fn method(&self) -> ClientAuthMethod {
        match &self.proof {
            Proof::Basic(_) => ClientAuthMethod::ClientSecretBasic,
            Proof::Post(_) => ClientAuthMethod::ClientSecretPost,
            Proof::Assertion(_) => ClientAuthMethod::PrivateKeyJwt,
        }
    }
}

impl Provider {
    /// The client that these credentials belong to.
    ///
    /// # Errors
    /// When they are wrong in any way.
    pub(super) async fn authenticate<'a>(
        &self,
        credentials: &Credentials,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<AuthenticatedClient<'a>, TokenRequestError> {
        let client = credentials.claimed_client(snapshot);
        let relying_party = client.map(|client| client.relying_party);
        let wrong = ClientAuthError::Wrong(credentials.method());
        let version = match &credentials.proof {
            Proof::Basic(secret) | Proof::Post(secret) => matching_version(relying_party, secret),
            // Who is no client is told so at once: a client id is no secret, the authorization endpoint tells too.
            Proof::Assertion(assertion) => {
                let relying_party = relying_party.ok_or(wrong)?;
                let verified = assertion.verify(relying_party, &self.issuer, now).map_err(ClientAuthError::from)?;
                Some(self.use_up(verified).await?)
            }
        };
        let (client, version) = client.zip(version).ok_or(wrong)?;
        Ok(AuthenticatedClient { client, version })
    }

    /// RFC 7523 3: an assertion is used once. Gives the version of the key that has signed it.
    async fn use_up(&self, assertion: VerifiedAssertion) -> Result<u64, TokenRequestError> {
        let used = UsedAssertion { expires_at: assertion.expires_at };
        let write = self.used_assertions.put(assertion.id.as_str(), &used, Expect::Absent)?;
        match self.used_assertions.commit(vec![write]).await {
            Ok(_) => Ok(assertion.version),
            Err(StoreError::Conflict) => Err(ClientAuthError::from(AssertionError::Replayed).into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The version of the secret that this is, of the two that a client may have. It takes the same time for a client with
/// one or two secrets or none, and for nobody.
fn matching_version(relying_party: Option<&RelyingParty>, secret: &SecretString) -> Option<u64> {
    let (sent, nobodys) = (SecretHash::of(secret.expose_secret()), SecretHash::of(""));
    let current = relying_party.map(|relying_party| &relying_party.credential);
    let next = relying_party.and_then(|relying_party| relying_party.next_credential.as_ref());
    let mut matching = None;
    for secret in [current, next].map(|credential| credential.and_then(ClientCredential::secret)) {
        let right = secret.map_or(&nobodys, |secret| &secret.hash) == &sent;
        // Nobody's secret never matches, not even the empty one that it is made of.
        matching = secret.filter(|_| right).map(|secret| secret.version).or(matching);
    }
    matching
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
