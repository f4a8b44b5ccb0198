//! The join token: one string that carries all an operator needs to give an agent.
//!
//! `hwj1.` and base64url without padding of a CBOR map followed by its CRC-32: broker address, trust domain, the only
//! instance it enrols, when it ends, which CA keys to trust, a public id and a secret. The checksum tells a token that
//! was cut while copying from one that is wrong; it protects nothing.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use zeroize::Zeroizing;

use crate::identity::{InstanceName, TrustDomain};
use crate::pin::SpkiPin;

const PREFIX: &str = "hwj1.";

/// Longest text that is looked at, in bytes.
const MAX_TEXT: usize = 2048;

/// Public part of a join token: it may stand in logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinTokenId([u8; 8]);

impl JoinTokenId {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl From<[u8; 8]> for JoinTokenId {
    fn from(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for JoinTokenId {
    type Error = JoinTokenError;

    fn try_from(bytes: &[u8]) -> Result<Self, JoinTokenError> {
        bytes.try_into().map(Self).map_err(|_| JoinTokenError::Malformed)
    }
}

impl FromStr for JoinTokenId {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let legal = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| legal).ok_or(JoinTokenError::Id)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for JoinTokenId {
    /// 16 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for JoinTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A join token with its secret.
pub struct JoinToken {
    /// Where the agent dials: `https://host:port`.
    pub agent_url: String,
    /// The federation.
    pub trust_domain: TrustDomain,
    /// The public part.
    pub id: JoinTokenId,
    /// 256 random bits; what is sent is a proof of knowing them.
    pub secret: SecretBox<[u8; 32]>,
    /// Keys of the CAs that may have signed the broker's certificate: one, or two while the CA turns.
    pub pins: Vec<SpkiPin>,
    /// The only instance that it enrols.
    pub instance: InstanceName,
    /// Seconds since the epoch.
    pub expires_at: u64,
}

impl JoinToken {
    /// The text to hand to the operator: the one way to get the secret out.
    ///
    /// # Errors
    /// When the address is too long for a token.
    pub fn to_text(&self) -> Result<SecretString, JoinTokenError> {
        let wire = Wire {
            agent_url: self.agent_url.clone(),
            trust_domain: self.trust_domain.clone(),
            id: ByteArray::new(self.id.0),
            secret: ByteArray::new(*self.secret.expose_secret()),
            pins: self.pins.iter().map(|pin| ByteBuf::from(pin.as_bytes().as_slice())).collect(),
            instance: self.instance.clone(),
            expires_at: self.expires_at,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        ciborium::into_writer(&wire, &mut *bytes).map_err(|_| JoinTokenError::Malformed)?;
        let checksum = crc32fast::hash(&bytes).to_be_bytes();
        bytes.extend_from_slice(&checksum);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        if text.len() > MAX_TEXT { Err(JoinTokenError::TooLong) } else { Ok(SecretString::from(text)) }
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    /// Reads a token; white space around it is forgiven.
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(JoinTokenError::TooLong);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(JoinTokenError::NotAToken)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JoinTokenError::Damaged)?);
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(JoinTokenError::Damaged)?;
        if crc32fast::hash(body).to_be_bytes() != *checksum {
            return Err(JoinTokenError::Damaged);
        }
        let wire: Wire = ciborium::from_reader(body).map_err(|_| JoinTokenError::Malformed)?;
        let pins = wire.pins.iter().map(|pin| pin.as_slice().try_into().map(SpkiPin::from_bytes));
        let pins: Vec<SpkiPin> = pins.collect::<Result<_, _>>().map_err(|_| JoinTokenError::Malformed)?;
        if !(1..=2).contains(&pins.len()) {
            return Err(JoinTokenError::Malformed);
        }
        Ok(Self {
            agent_url: wire.agent_url,
            trust_domain: wire.trust_domain,
            id: JoinTokenId(wire.id.into_array()),
            secret: SecretBox::new(Box::new(wire.secret.into_array())),
            pins,
            instance: wire.instance,
            expires_at: wire.expires_at,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, {})", self.id, self.instance)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "u")]
    agent_url: String,
    #[serde(rename = "d")]
    trust_domain: TrustDomain,
    #[serde(rename = "i")]
    id: ByteArray<8>,
    #[serde(rename = "s")]
    secret: ByteArray<32>,
    #[serde(rename = "p")]
    pins: Vec<ByteBuf>,
    #[serde(rename = "n")]
    instance: InstanceName,
    #[serde(rename = "e")]
    expires_at: u64,
}

/// Why a text is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Something else was pasted.
    #[error("this is not a join token: one begins with hwj1.")]
    NotAToken,
    /// Cut or altered on the way.
    #[error("the join token is damaged: copy it again, whole")]
    Damaged,
    /// Written by something that is not Homeward.
    #[error("the join token cannot be read: ask ops for a new one")]
    Malformed,
    /// More than 2,048 characters.
    #[error("the join token is too long")]
    TooLong,
    /// Not 16 hex digits.
    #[error("the id of a join token is 16 hex digits, as `token list` shows it")]
    Id,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            agent_url: "https://login.example.org:8443".into(),
            trust_domain: "example.org".parse().unwrap(),
            id: JoinTokenId([1; 8]),
            secret: SecretBox::new(Box::new([0xa5; 32])),
            pins: vec![SpkiPin::from_bytes([7; 32])],
            instance: "alpha".parse().unwrap(),
            expires_at: 1_700_000_000,
        }
    }

    #[test]
    fn text_brings_everything_across() {
        let text = token().to_text().unwrap();
        let read: JoinToken = format!("  {}\n", text.expose_secret()).parse().unwrap();
        assert_eq!(read.agent_url, "https://login.example.org:8443");
        assert_eq!(read.secret.expose_secret(), &[0xa5; 32]);
        assert_eq!((read.id, read.expires_at, read.pins), (JoinTokenId([1; 8]), 1_700_000_000, token().pins));
        assert!(text.expose_secret().len() < 300, "{}", text.expose_secret().len());
    }

    #[test]
    fn debug_output_has_no_secret() {
        assert_eq!(format!("{:?}", token()), "JoinToken(0101010101010101, alpha)");
    }

    #[test]
    fn a_damaged_token_says_so() {
        let text = token().to_text().unwrap().expose_secret().to_owned();
        assert_eq!(text[..text.len() - 4].parse::<JoinToken>().err(), Some(JoinTokenError::Damaged));
        assert_eq!("glpat-123".parse::<JoinToken>().err(), Some(JoinTokenError::NotAToken));
        assert_eq!("hwj1.".parse::<JoinToken>().err(), Some(JoinTokenError::Damaged));
        assert_eq!("x".repeat(5000).parse::<JoinToken>().err(), Some(JoinTokenError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("hwj1.{text}").parse::<JoinToken>();
        }

        #[test]
        fn no_bytes_make_the_parser_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            let _ = format!("hwj1.{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<JoinToken>();
        }
    }
}
