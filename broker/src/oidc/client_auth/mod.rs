//! Client authentication at the token endpoint and its neighbours (RFC 6749 2.3), each client by the one method that it
//! registered: `client_secret_basic`, `client_secret_post`, `client_secret_jwt`, `private_key_jwt`, its instance
//! certificate (`tls_client_auth`), or none for public clients.
//!
//! While a credential turns, a client has two, and both are good. Which of them it was is known afterwards: that tells its
//! agent whether the application uses the new one.
//!
//! Who fails too often from one place has to wait ([`Throttle`]), but for who is right at last: nobody can lock a client
//! out.

mod assertion;
mod caller;
mod peer_certificate;
mod throttle;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::{ParameterError, Parameters, excerpt};
use crate::registry::{Client, ClientAuthMethod, ClientCredential, ClientSecret, RelyingParty, Snapshot};
use crate::secret::SecretHash;
use crate::storage::{Expect, StoreError};

pub use assertion::UsedAssertion;
use assertion::{Assertion, AssertionError, AssertionKey, VerifiedAssertion};
pub(super) use caller::Caller;
pub use peer_certificate::PeerCertificate;
pub(super) use throttle::Throttle;

/// What a client sent to prove who it is.
pub(super) struct Credentials {
    client_id: String,
    proof: Proof,
}

enum Proof {
    /// Nothing in the request itself: a public client, or one that its connection speaks for.
    Absent,
    Basic(SecretString),
    Post(SecretString),
    Assertion(Assertion),
}

/// A client that is who it says. (A public one says so only.)
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
    /// A public client is nobody in particular.
    #[error("a public client may not do this")]
    Public,
    /// There is an Authorization header, and it is no Basic one that can be read.
    #[error("the Authorization header cannot be read")]
    Header,
    /// Unknown, disabled, another method than registered, or a wrong secret: all look the same.
    #[error("the client is unknown or its authentication is wrong")]
    Wrong,
    /// The same, in an Authorization header.
    #[error("the client is unknown or what its Authorization header says is wrong")]
    WrongBasic,
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
        let named = || client_id.map(str::to_owned).ok_or(ClientAuthError::Missing);
        let (proven_id, proof) = match (header, secret, assertion) {
            (Some(header), ..) => {
                let (id, secret) = header.to_str().ok().and_then(basic).ok_or(ClientAuthError::Header)?;
                (id, Proof::Basic(secret))
            }
            (None, Some(secret), _) => (named()?, Proof::Post(secret.into())),
            (None, None, Some(assertion)) if kind == Some(assertion::TYPE) => {
                let assertion = Assertion::read(assertion)?;
                (assertion.unverified_subject().to_owned(), Proof::Assertion(assertion))
            }
            (None, None, Some(_)) => return Err(ClientAuthError::Missing),
            // Half of an assertion is none at all, and no way to pass for a public client.
            (None, None, None) if kind.is_some() => return Err(ClientAuthError::Missing),
            (None, None, None) => (named()?, Proof::Absent),
        };
        let credentials = Self { client_id: proven_id, proof };
        // RFC 7521 4.2: a client_id beside another proof names the same client.
        let same = client_id.is_none_or(|id| id == credentials.client_id);
        if same { Ok(credentials) } else { Err(credentials.wrong()) }
    }

    /// The client that they say they are of, if it would authenticate so. Nothing is proved.
    pub(super) fn claimed_client<'a>(&self, snapshot: &'a Snapshot) -> Option<Client<'a>> {
        snapshot.client(&self.client_id).filter(|client| self.are_of_kind(client.relying_party))
    }

    /// Whether a client would authenticate in this way: by the method that it registered and by no other (OpenID Connect
    /// Core 9), and by a key if its profile demands that (FAPI 2.0 Security Profile 5.3.2.1).
    fn are_of_kind(&self, party: &RelyingParty) -> bool {
        let by_key = matches!(party.auth_method, ClientAuthMethod::PrivateKeyJwt | ClientAuthMethod::TlsClientAuth);
        let registered = match party.auth_method {
            ClientAuthMethod::ClientSecretBasic => matches!(self.proof, Proof::Basic(_)),
            ClientAuthMethod::ClientSecretPost => matches!(self.proof, Proof::Post(_)),
            ClientAuthMethod::ClientSecretJwt => matches!(&self.proof, Proof::Assertion(jwt) if jwt.is_symmetric()),
            ClientAuthMethod::PrivateKeyJwt => matches!(&self.proof, Proof::Assertion(jwt) if !jwt.is_symmetric()),
            ClientAuthMethod::TlsClientAuth | ClientAuthMethod::None => matches!(self.proof, Proof::Absent),
        };
        registered && (by_key || !party.policy.is_fapi2())
    }

    /// Unknown, disabled, or any other reason.
    fn wrong(&self) -> ClientAuthError {
        match &self.proof {
            Proof::Absent => ClientAuthError::Missing,
            Proof::Basic(_) => ClientAuthError::WrongBasic,
            Proof::Post(_) | Proof::Assertion(_) => ClientAuthError::Wrong,
        }
    }
}

impl AuthenticatedClient<'_> {
    /// For what nobody but the client itself may do.
    ///
    /// # Errors
    /// When it is a public client, who could be anybody.
    pub(super) fn confidential(&self) -> Result<(), ClientAuthError> {
        match self.client.relying_party.auth_method {
            ClientAuthMethod::None => Err(ClientAuthError::Public),
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt
            | ClientAuthMethod::PrivateKeyJwt
            | ClientAuthMethod::TlsClientAuth => Ok(()),
        }
    }
}

impl Provider {
    /// The registry as it is now, with the client in it that a request says it comes from, if another broker has just
    /// made it.
    pub(super) async fn snapshot_for(&self, caller: &Caller, parameters: &Parameters) -> Arc<Snapshot> {
        match Credentials::of(&caller.headers, parameters) {
            Ok(credentials) => self.registry.snapshot_with_client(&credentials.client_id).await,
            Err(_) => self.registry.snapshot(),
        }
    }

    /// The client that a request comes from: for every endpoint where clients speak for themselves.
    ///
    /// # Errors
    /// When it is wrong in any way, or failed too often.
    pub(super) async fn client_of<'a>(
        &self,
        caller: &Caller,
        parameters: &Parameters,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<AuthenticatedClient<'a>, TokenRequestError> {
        let credentials = Credentials::of(&caller.headers, parameters)?;
        self.authenticate(&credentials, caller, snapshot, now).await
    }

    /// The client that these credentials belong to.
    ///
    /// # Errors
    /// When they are wrong in any way, and perhaps were too often.
    pub(super) async fn authenticate<'a>(
        &self,
        credentials: &Credentials,
        caller: &Caller,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<AuthenticatedClient<'a>, TokenRequestError> {
        // A client that tries a method first which it has not registered does not fail by that.
        let party = credentials.claimed_client(snapshot).map(|client| client.relying_party);
        let client_id = party.map(|party| &party.client_id);
        let wait = self.throttle.wait(client_id, caller.address, now);
        let can_prove = party.is_some_and(|party| party.auth_method != ClientAuthMethod::None);
        if let (Some(wait), false) = (wait, can_prove) {
            return Err(TokenRequestError::TooMany(wait));
        }
        match (self.judge(credentials, caller.certificate.as_ref(), snapshot, now).await, wait) {
            // Only who is wrong waits: else anybody behind the same address, who knows a client's public name, could keep
            // that client out. Nobody guesses 256 bits, however often he may try.
            (Err(TokenRequestError::Client(_)), Some(wait)) => Err(TokenRequestError::TooMany(wait)),
            (Err(TokenRequestError::Client(error)), None) => {
                self.throttle.note(client_id, caller.address, now);
                let client_id = excerpt(&credentials.client_id);
                info!(?client_id, address = %caller.address, %error, "a client has not shown who it is");
                let refused = Event::new(Kind::ClientRefused).refused("invalid_client").detail(error.to_string());
                // What a stranger calls itself is not noted; whom it has named, if there is such a client, is.
                self.audit.note(match party {
                    Some(party) => refused.client(&party.client_id),
                    None => refused,
                });
                Err(error.into())
            }
            (judged, _) => judged,
        }
    }

    /// Lets a request of a client be kept. A public client could be anybody: what is kept for those is bounded, or a
    /// stranger could fill the store (RFC 9126 7.1, RFC 8628 5.1).
    ///
    /// # Errors
    /// When there were too many from where the request comes from.
    pub(super) fn check_keeping(
        &self,
        client: Client<'_>,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), TokenRequestError> {
        if client.relying_party.auth_method != ClientAuthMethod::None {
            return Ok(());
        }
        self.throttle.keep_for_stranger(caller.address, now).map_err(TokenRequestError::TooMany)
    }

    async fn judge<'a>(
        &self,
        credentials: &Credentials,
        certificate: Option<&PeerCertificate>,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<AuthenticatedClient<'a>, TokenRequestError> {
        let client = credentials.claimed_client(snapshot);
        let party = client.map(|client| client.relying_party);
        let version = match &credentials.proof {
            Proof::Basic(secret) | Proof::Post(secret) => matching_version(party, secret),
            // Who is no client is told so at once: a client id is no secret, the authorization endpoint tells too.
            Proof::Assertion(assertion) => {
                let party = party.ok_or(credentials.wrong())?;
                let keys = self.assertion_keys(party, assertion, now).await;
                let verified = assertion.verify(party, &keys, &self.issuer, now).map_err(ClientAuthError::from)?;
                Some(self.use_up(verified).await?)
            }
            Proof::Absent => client.and_then(|client| version_without_proof(client, certificate)),
        };
        let (client, version) = client.zip(version).ok_or(credentials.wrong())?;
        Ok(AuthenticatedClient { client, version })
    }

    /// The keys that an assertion of this client may be signed with, by the algorithm that it says.
    async fn assertion_keys(&self, party: &RelyingParty, assertion: &Assertion, now: Timestamp) -> Vec<AssertionKey> {
        let mut keys = Vec::new();
        for credential in party.credentials() {
            let key = match credential {
                ClientCredential::Secret(secret) if assertion.is_symmetric() => self.secret_as_key(secret),
                ClientCredential::Key(key) if assertion.algorithm() == Algorithm::ES256 => key.jwk.verifying_key(),
                ClientCredential::Secret(_)
                | ClientCredential::Key(_)
                | ClientCredential::KeyWanted { .. }
                | ClientCredential::Nothing => None,
            };
            keys.extend(key.map(|key| AssertionKey { version: credential.version(), key }));
        }
        if party.keys.is_some() && !assertion.is_symmetric() {
            let own = self.client_keys.verifying_keys(party, assertion.kid(), assertion.algorithm(), now).await;
            keys.extend(own.into_iter().map(|key| AssertionKey { version: 0, key }));
        }
        keys
    }

    fn secret_as_key(&self, secret: &ClientSecret) -> Option<DecodingKey> {
        let text = secret.open(&self.sealing).ok()?;
        Some(DecodingKey::from_secret(text.as_bytes()))
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

/// A public client is taken by its word; the certificate of a connection speaks for the client of its instance
/// (RFC 8705 2.1).
fn version_without_proof(client: Client<'_>, certificate: Option<&PeerCertificate>) -> Option<u64> {
    let shown = certificate.is_some_and(|shown| client.enrolled && shown.instance == *client.name);
    let right = match client.relying_party.auth_method {
        ClientAuthMethod::None => true,
        ClientAuthMethod::TlsClientAuth => shown,
        ClientAuthMethod::ClientSecretBasic
        | ClientAuthMethod::ClientSecretPost
        | ClientAuthMethod::ClientSecretJwt
        | ClientAuthMethod::PrivateKeyJwt => false,
    };
    right.then(|| client.relying_party.credential.version())
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
