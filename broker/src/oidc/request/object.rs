//! Request objects (RFC 9101, OpenID Connect Core 6): an authorization request as a JWT of the client.
//!
//! What is signed is all that counts: a parameter that stands beside a signed object is not looked at, whoever wrote it
//! (RFC 9101 6.3). An unsigned object (of a client that registered `none`) is no better than the address that it came in,
//! and is read together with it (OpenID Connect Core 6.1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::info;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::oidc::Provider;
use crate::oidc::parameters::{ParameterError, Parameters};
use crate::registry::{Client, RelyingParty};

/// Longest object that is read, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// Longest address of an object, in bytes (OpenID Connect Core 6.2).
const MAX_ADDRESS: usize = 512;

/// How far a client's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(30);

/// How long an object of a FAPI 2.0 client may be good for, and how old it may be (FAPI 2.0 Message Signing 5.3.1).
const FAPI2_WINDOW: Duration = Duration::from_secs(3600);

/// Members that speak of the object and are no parameters.
const OF_THE_OBJECT: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// An object that nobody has verified.
pub(super) struct UnverifiedObject<'a> {
    text: &'a str,
    header: Header,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// An object that its client made for this broker.
#[derive(Debug)]
pub(super) struct RequestObject {
    claims: Map<String, Value>,
    signed: bool,
}

/// Why a request object does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum RequestObjectError {
    /// This client must sign its requests (RFC 9101 10.5).
    #[error("this client must send a signed request object")]
    Missing,
    /// Either, or (RFC 9101 5).
    #[error("there are both request and request_uri")]
    Two,
    /// Too long, encrypted, or no JWT at all.
    #[error("the request object is no signed JWT of at most {MAX_LENGTH} bytes")]
    Unreadable,
    /// Repeated outside.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The client did not register `none`.
    #[error("the request object is not signed")]
    Unsigned,
    /// Another type, or an extension that must be understood and is not.
    #[error("typ or crit of the request object is not ours")]
    Kind,
    /// Not the one that the client registered, or not asymmetric.
    #[error("the request object is signed by an algorithm that this client may not use")]
    Algorithm,
    /// By none of the keys of this client.
    #[error("no key of this client has signed the request object")]
    Signature,
    /// Not the client that sends it.
    #[error("iss or client_id of the request object is not the client, or sub is")]
    Client,
    /// For somebody else, or for somebody else as well.
    #[error("aud of the request object is not the issuer alone")]
    Audience,
    /// Too late, too early, or for too long.
    #[error("the request object is expired, from the future, or good for too long")]
    Time,
    /// A parameter that is no text, or one that must not be in there.
    #[error("the request object holds request, request_uri, or a parameter of the wrong type")]
    Members,
    /// Two requests in one.
    #[error("response_type outside is not that of the request object")]
    Differs,
    /// OpenID Connect Core 6.2: this client registered no address.
    #[error("the client registered no request_uris")]
    AddressesUnsupported,
    /// Nothing else is ever fetched (RFC 9101 10.4.1).
    #[error("the request_uri is not registered")]
    AddressNotRegistered,
    /// It does not answer, or not with an object.
    #[error("the request_uri cannot be fetched")]
    AddressUnreachable,
}

impl<'a> UnverifiedObject<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// When it is no JWT of ours to read.
    pub(super) fn read(text: &'a str) -> Result<Self, RequestObjectError> {
        // Three parts: five would be an encrypted one, which nobody here has a key for.
        if text.len() > MAX_LENGTH || text.split('.').count() != 3 {
            return Err(RequestObjectError::Unreadable);
        }
        let header: Header = text.split('.').next().and_then(json).ok_or(RequestObjectError::Unreadable)?;
        // RFC 9101 4 and RFC 8725 3.11: a token of another kind is no request.
        let kind = header.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
        let typ =
            matches!(kind.as_deref(), None | Some("jwt" | "oauth-authz-req+jwt" | "application/oauth-authz-req+jwt"));
        if !typ || header.crit.is_some() {
            return Err(RequestObjectError::Kind);
        }
        Ok(Self { text, header })
    }

    /// By which key and algorithm it says it is signed; nothing if by none that could be.
    pub(super) fn signed_by(&self) -> Option<(Option<&str>, Algorithm)> {
        // RFC 8725 3.2: asymmetric ones only. A client's secret is no key for what passes through browsers.
        let algorithm = match self.header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            _ => return None,
        };
        Some((self.header.kid.as_deref(), algorithm))
    }

    /// Verifies it as this client's, to this issuer, now, by the keys that may have signed it.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn verify(
        &self,
        client: &RelyingParty,
        keys: &[DecodingKey],
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<RequestObject, RequestObjectError> {
        let claims = match self.signed_by() {
            Some((_, algorithm)) => self.signed(client, keys, algorithm)?,
            None => self.unsigned(client)?,
        };
        check_origin(&claims, client, issuer)?;
        check_time(&claims, client, now)?;
        // RFC 9101 4: no object in an object.
        if claims.contains_key("request") || claims.contains_key("request_uri") {
            return Err(RequestObjectError::Members);
        }
        Ok(RequestObject { claims, signed: self.signed_by().is_some() })
    }

    fn signed(
        &self,
        client: &RelyingParty,
        keys: &[DecodingKey],
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>, RequestObjectError> {
        if client.policy.request_object_alg.as_ref().is_some_and(|only| *only != self.header.alg) {
            return Err(RequestObjectError::Algorithm);
        }
        // FAPI 2.0 Security Profile 5.4.1.
        if client.policy.is_fapi2() && algorithm == Algorithm::RS256 {
            return Err(RequestObjectError::Algorithm);
        }
        let mut validation = Validation::new(algorithm);
        // The library would read the clock: the claims are checked by our own.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        let verified = keys.iter().find_map(|key| jsonwebtoken::decode(self.text, key, &validation).ok());
        Ok(verified.ok_or(RequestObjectError::Signature)?.claims)
    }

    fn unsigned(&self, client: &RelyingParty) -> Result<Map<String, Value>, RequestObjectError> {
        if self.header.alg != "none" {
            return Err(RequestObjectError::Algorithm);
        }
        let policy = &client.policy;
        let allowed = policy.request_object_alg.as_deref() == Some("none");
        if !allowed || policy.require_signed_request || policy.is_fapi2() {
            return Err(RequestObjectError::Unsigned);
        }
        let mut parts = self.text.split('.').skip(1);
        let claims = parts.next().and_then(json).ok_or(RequestObjectError::Unreadable)?;
        // RFC 7518 3.6: what is not signed has no signature.
        if parts.next() == Some("") { Ok(claims) } else { Err(RequestObjectError::Signature) }
    }
}

/// Who made it, and for whom. What a FAPI 2.0 client may not leave out, others may (RFC 9101 4: SHOULD).
fn check_origin(claims: &Map<String, Value>, client: &RelyingParty, issuer: &Issuer) -> Result<(), RequestObjectError> {
    let strict = client.policy.is_fapi2();
    let own_id = client.client_id.as_str();
    let own = |name: &str, required: bool| claims.get(name).map_or(!required, |said| said == own_id);
    // RFC 9101 10.8: an object with the client as its subject could be taken for an assertion, and the other way round.
    if !own("iss", strict) || !own("client_id", false) || claims.get("sub").is_some_and(|sub| sub == own_id) {
        return Err(RequestObjectError::Client);
    }
    let ours = |audience: &Value| audience == issuer.as_str();
    let for_us = match claims.get("aud") {
        None => !strict,
        // Somebody else whom it is for as well could bring it here.
        Some(Value::Array(audiences)) => !audiences.is_empty() && audiences.iter().all(ours),
        Some(audience) => ours(audience),
    };
    if for_us { Ok(()) } else { Err(RequestObjectError::Audience) }
}

fn check_time(claims: &Map<String, Value>, client: &RelyingParty, now: Timestamp) -> Result<(), RequestObjectError> {
    let moment = |name| match claims.get(name) {
        None => Ok(None),
        // RFC 7519 2: a NumericDate may have a fraction. What is beyond all time is at its end.
        Some(date) => date.as_f64().map(|at| Some(Timestamp::from_secs(at as i64))).ok_or(RequestObjectError::Time),
    };
    let (exp, nbf, iat) = (moment("exp")?, moment("nbf")?, moment("iat")?);
    let expired = exp.is_some_and(|exp| exp <= now);
    let early = [nbf, iat].into_iter().flatten().any(|at| at > now + SKEW);
    let strict = client.policy.is_fapi2();
    let short = match (nbf, exp) {
        (Some(nbf), Some(exp)) => !strict || (exp <= nbf + FAPI2_WINDOW && nbf + FAPI2_WINDOW >= now),
        _ => !strict,
    };
    if expired || early || !short { Err(RequestObjectError::Time) } else { Ok(()) }
}

impl RequestObject {
    /// The parameters of the request that came with these others.
    ///
    /// # Errors
    /// When one is no text, or the two do not belong together.
    pub(super) fn parameters(self, outer: &Parameters) -> Result<Parameters, RequestObjectError> {
        let mut pairs = Vec::new();
        for (name, value) in self.claims {
            if OF_THE_OBJECT.contains(&name.as_str()) {
                continue;
            }
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                (_, Value::String(text)) => pairs.push((name, text)),
                (_, Value::Number(number)) => pairs.push((name, number.to_string())),
                ("claims", claims @ Value::Object(_)) => pairs.push((name, claims.to_string())),
                // RFC 8707 2: it may be repeated, which a JWT says by an array.
                ("resource", Value::Array(values)) => {
                    for value in values {
                        let text = value.as_str().ok_or(RequestObjectError::Members)?;
                        pairs.push((name.clone(), text.to_owned()));
                    }
                }
                ("claims" | "resource", _) => return Err(RequestObjectError::Members),
                // Nobody reads it.
                (_, Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {}
            }
        }
        let inner = Parameters::of_pairs(pairs);
        // OpenID Connect Core 6.1: what OAuth demands outside is the same inside.
        if let Some(outside) = outer.get("response_type")?
            && inner.get("response_type")?.is_some_and(|inside| inside != outside)
        {
            return Err(RequestObjectError::Differs);
        }
        Ok(if self.signed { inner } else { inner.or(outer) })
    }
}

impl Provider {
    /// Fetches a request object from where its client registered that it may be fetched (OpenID Connect Core 6.2).
    ///
    /// # Errors
    /// When it is not registered there, or cannot be had.
    pub(super) async fn fetch_request_object(
        &self,
        address: &str,
        client: Client<'_>,
    ) -> Result<String, RequestObjectError> {
        let registered = &client.relying_party.request_uris;
        if registered.is_empty() {
            return Err(RequestObjectError::AddressesUnsupported);
        }
        let whole = |address: &str| address.split('#').next().unwrap_or_default().to_owned();
        let wanted = whole(address);
        if address.len() > MAX_ADDRESS || !registered.iter().any(|own| whole(own) == wanted) {
            return Err(RequestObjectError::AddressNotRegistered);
        }
        let fetched = self.outbound.fetch(&wanted, MAX_LENGTH).await.map_err(|cause| {
            info!(relying_party = %client.name, %cause, "a request object cannot be fetched");
            RequestObjectError::AddressUnreachable
        })?;
        let text = std::str::from_utf8(&fetched).map_err(|_| RequestObjectError::Unreadable)?;
        Ok(text.trim().to_owned())
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
