//! Who a certificate speaks for.
//!
//! The one source is the URI SAN of a verified leaf (SPIFFE X509-SVID 2): `spiffe://<trust domain>/broker` or
//! `spiffe://<trust domain>/instance/<name>`. Exactly one URI, compared byte for byte: nothing is lower-cased,
//! decoded or trimmed first, because every such step has been somebody's vulnerability (CVE-2021-27099).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Name of an instance: a DNS label of 1 to 63 characters `a-z`, `0-9` and inner `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

impl InstanceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let legal =
            (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if legal { Ok(Self(text.to_owned())) } else { Err(NameError::Instance) }
    }
}

/// Name of a federation: a lower-case DNS name of at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let label = |label: &str| InstanceName::from_str(label).is_ok();
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::TrustDomain)
        }
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_newtype!(InstanceName);
text_newtype!(TrustDomain);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label.
    #[error("an instance name is 1 to 63 characters a-z, 0-9 and -, and neither begins nor ends with -")]
    Instance,
    /// Not a DNS name.
    #[error("a trust domain is a DNS name in lower case, such as example.org")]
    TrustDomain,
}

/// The party at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerIdentity {
    /// The broker of this federation.
    Broker,
    /// An instance's agent.
    Instance(InstanceName),
}

impl PeerIdentity {
    /// The URI that stands in the certificate.
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> String {
        match self {
            Self::Broker => format!("spiffe://{trust_domain}/broker"),
            Self::Instance(name) => format!("spiffe://{trust_domain}/instance/{name}"),
        }
    }

    /// Reads the identity from a leaf certificate (DER) whose chain has been verified already.
    ///
    /// # Errors
    /// When the certificate names nobody, more than one party, or somebody of another trust domain.
    pub fn of_leaf(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let (rest, leaf) = X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
        if !rest.is_empty() {
            return Err(IdentityError::Malformed);
        }
        let san = leaf.subject_alternative_name().map_err(|_| IdentityError::Malformed)?.ok_or(IdentityError::NoUri)?;
        let mut uris = san.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let uri = uris.next().ok_or(IdentityError::NoUri)?;
        if uris.next().is_some() {
            return Err(IdentityError::SeveralUris);
        }
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(trust_domain.as_str()))
            .ok_or(IdentityError::OtherTrustDomain)?;
        match path.strip_prefix("/instance/") {
            _ if path == "/broker" => Ok(Self::Broker),
            Some(name) => name.parse().map(Self::Instance).map_err(|_| IdentityError::UnknownParty),
            None => Err(IdentityError::UnknownParty),
        }
    }
}

/// Why a certificate speaks for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate, or not only one.
    #[error("the certificate cannot be read")]
    Malformed,
    /// No URI SAN: a common name does not count.
    #[error("the certificate carries no SPIFFE id")]
    NoUri,
    /// X509-SVID 2 allows one.
    #[error("the certificate carries more than one URI")]
    SeveralUris,
    /// Issued for another federation.
    #[error("the certificate belongs to another trust domain")]
    OtherTrustDomain,
    /// Neither the broker nor an instance.
    #[error("the certificate's SPIFFE id names neither the broker nor an instance")]
    UnknownParty,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn leaf(uris: &[&str], dns: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .chain(dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())))
            .collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn identity(uris: &[&str]) -> Result<PeerIdentity, IdentityError> {
        PeerIdentity::of_leaf(&leaf(uris, &["beta"]), &"example.org".parse().unwrap())
    }

    #[test]
    fn broker_and_instances_are_recognised() {
        assert_eq!(identity(&["spiffe://example.org/broker"]), Ok(PeerIdentity::Broker));
        let alpha = PeerIdentity::Instance("alpha".parse().unwrap());
        assert_eq!(identity(&[&alpha.spiffe_id(&"example.org".parse().unwrap())]), Ok(alpha));
    }

    #[test]
    fn hostile_spiffe_ids_are_refused() {
        for uri in [
            "spiffe://example.org/instance/Alpha",
            "spiffe://example.org/instance/al%70ha",
            "spiffe://example.org/instance/alpha.",
            "spiffe://example.org/instance/alpha,beta",
            "spiffe://example.org/instance/alpha\n",
            "spiffe://example.org/instance/alpha\0",
            "spiffe://example.org/instance/*",
            "spiffe://example.org/instance/",
            "spiffe://example.org/instance/alpha/x",
            "spiffe://example.org/broker/",
            "spiffe://example.org//broker",
            "spiffe://example.org",
        ] {
            assert_eq!(identity(&[uri]), Err(IdentityError::UnknownParty), "{uri:?}");
        }
        let long = format!("spiffe://example.org/instance/{}", "a".repeat(10_000));
        assert_eq!(identity(&[&long]), Err(IdentityError::UnknownParty));
        for uri in ["spiffe://example.org.evil/broker", "SPIFFE://example.org/broker", "https://example.org/broker"] {
            let refused = identity(&[uri]);
            assert!(
                matches!(refused, Err(IdentityError::OtherTrustDomain | IdentityError::UnknownParty)),
                "{uri} {refused:?}"
            );
        }
        assert_eq!(
            identity(&["spiffe://example.org/instance/alpha", "spiffe://example.org/instance/beta"]),
            Err(IdentityError::SeveralUris)
        );
        assert_eq!(identity(&[]), Err(IdentityError::NoUri));
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "alpha", "a-1", &"a".repeat(63)] {
            assert!(good.parse::<InstanceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", "a\0", &"a".repeat(64)] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
    }
}
