//! Why an identity provider's word is not taken.

use crate::outbound::OutboundError;
use crate::registry::AddressRule;
use crate::secret::SecretError;

/// Why an identity provider's word is not taken, or not asked for.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The answer belongs to no login that this browser began at this home, or its cookie is gone.
    #[error("the answer belongs to no login of this browser")]
    StateUnknown,
    /// Another issuer answers than the one that was asked (RFC 9207 2.4).
    #[error("the answer is from another issuer")]
    IssuerDiffers,
    /// The provider says that it names itself, and did not.
    #[error("the answer does not say which issuer it is from")]
    IssuerMissing,
    /// Neither a code nor an error.
    #[error("the answer holds no code")]
    CodeMissing,
    /// The request of the relying party fits into no cookie.
    #[error("the relying party's request is too large to be kept in a cookie")]
    RequestTooLarge,
    /// The provider answered badly a moment ago, and is not asked again yet.
    #[error("its metadata are not known, and were asked for a moment ago")]
    NotKnown,
    /// Something was not fetched.
    #[error("{0} cannot be fetched: {1}")]
    Fetch(&'static str, #[source] OutboundError),
    /// The answer of an endpoint is not what it should be.
    #[error("{0} answers {1}")]
    Answer(&'static str, http::StatusCode),
    /// The discovery document.
    #[error("its discovery document {0}")]
    Metadata(#[from] MetadataRule),
    /// The token endpoint refuses, or says something that cannot be read.
    #[error("its token endpoint {0}")]
    Exchange(String),
    /// The ID token.
    #[error("its ID token {0}")]
    IdToken(#[from] IdTokenRule),
    /// What it says of the user.
    #[error("its user document {0}")]
    User(#[from] UserRule),
    /// It vouches for somebody whom ops did not mean.
    #[error("its user is not among those who may log in")]
    UserRefused,
    /// No randomness, or a key that does not fit.
    #[error("a secret could not be made")]
    Internal(#[from] SecretError),
}

/// What is wrong with a discovery document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataRule {
    /// Not what OpenID Connect Discovery 3 wants.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Discovery 4.3: to the letter.
    #[error("says that the issuer is {0}: give it to the letter, with or without a slash at the end")]
    Issuer(String),
    /// An endpoint where no code and no secret is sent.
    #[error("puts {0} at an address that {1}")]
    Address(&'static str, #[source] AddressRule),
    /// At another home's provider.
    #[error("puts {0} at another home's provider")]
    OfAnotherHome(&'static str),
    /// There is none.
    #[error("names no {0}")]
    Missing(&'static str),
    /// Only HS256 or none.
    #[error(
        "offers no signature that can be checked with a public key (HS256 and none are refused): choose a signing key or \
         certificate at the provider"
    )]
    Symmetric,
    /// No key in the set.
    #[error("leads to a key set without a usable key")]
    NoKey,
}

/// The rule that an ID token breaks (OpenID Connect Core 3.1.3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenRule {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// No JWS of JSON, or one with a member twice.
    #[error("cannot be read")]
    Unreadable,
    /// Another kind of token, or one that wants something understood that is not.
    #[error("is of another type")]
    Type,
    /// Not one that the provider offers, or none that counts.
    #[error("is signed by an algorithm that is refused")]
    Algorithm,
    /// No key of this name, or several and no name.
    #[error("does not say which of the keys signed it")]
    Key,
    /// Wrong.
    #[error("has a wrong signature")]
    Signature,
    /// Rule 2.
    #[error("is from another issuer")]
    Issuer,
    /// Rules 3 to 5.
    #[error("is for somebody else")]
    Audience,
    /// Rule 9.
    #[error("has expired")]
    Expired,
    /// Rule 10.
    #[error("was not issued just now: are both clocks right?")]
    IssuedAt,
    /// Rule 11.
    #[error("belongs to another login")]
    Nonce,
    /// Core 3.1.3.8.
    #[error("belongs to another access token")]
    AccessTokenHash,
    /// Core 2: 1 to 255 ASCII characters.
    #[error("names no subject")]
    Subject,
    /// A claim of another type than the specification says.
    #[error("has a claim of a wrong type")]
    ClaimType,
}

/// The rule that a user document breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserRule {
    /// Not a JSON object, or one with a member twice.
    #[error("cannot be read")]
    Unreadable,
    /// Core 5.3.2: another user's.
    #[error("is of another user than the ID token")]
    OtherSubject,
    /// Core 5.3.2: signed, and for somebody else.
    #[error("is signed for somebody else")]
    OtherAudience,
    /// Nothing tells users apart.
    #[error("holds nothing where the user's identifier should be")]
    NoKey,
}
