//! Homes without agent: identity providers whose client the broker itself is.
//!
//! A home of this kind has a name of its own, as an instance has, and an id that its users' subjects are made of. The id
//! stays as long as the users do: another issuer, or another claim that tells them apart, is another home, so that nobody
//! inherits an account by a change of the configuration (OpenID Connect Core 5.7).

use std::collections::BTreeMap;
use std::fmt;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::registry::InstanceId;
use crate::secret::{HoldsSealed, Purpose, Sealed, SealingKeys, SecretError};
use crate::storage::table::Record;

/// Stands in an issuer for the token's own `tid` claim: Microsoft's providers for many tenants.
pub const TENANT: &str = "{tenantid}";

/// Longest display name, in characters; most scopes, fields and demands; longest text of each, in bytes.
const MAX_NAME: usize = 100;
const MAX_ENTRIES: usize = 32;
const MAX_TEXT: usize = 512;

/// What can be read of a user, by the name of the field.
pub const FIELDS: [&str; 8] =
    ["home_user_id", "username", "name", "given_name", "family_name", "email", "email_verified", "groups"];

/// Claims that people change, or that are given to somebody else later: no account is ever found by one of them.
const NOT_FOR_LIFE: [&str; 7] =
    ["/email", "/preferred_username", "/name", "/nickname", "/username", "/login", "/phone_number"];

/// A home without agent, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name; no instance has it.
    pub name: InstanceName,
    /// Never reused, and another one when its users are.
    pub id: InstanceId,
    /// The name people read.
    pub display_name: String,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// OAuth client id there.
    pub client_id: String,
    /// OAuth client secret there.
    pub client_secret: UpstreamSecret,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where what is known of a user stands: one of [`FIELDS`] to a JSON pointer.
    pub fields: BTreeMap<String, String>,
    /// What every user must have: a JSON pointer to a value.
    pub required: BTreeMap<String, String>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Record for Upstream {
    const TABLE: &'static str = "registry-upstream";
}

impl HoldsSealed for Upstream {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        vec![(Purpose::UpstreamSecret, &mut self.client_secret.0)]
    }
}

/// What a home without agent speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// OpenID Connect.
    OpenId {
        /// To the letter.
        issuer: String,
        /// Where the discovery document is, if not below the issuer.
        discovery_url: Option<String>,
    },
    /// OAuth 2.0 with a user endpoint of its own.
    Oauth {
        /// Authorization endpoint.
        authorization_url: String,
        /// Token endpoint.
        token_url: String,
        /// Says who the user is.
        user_url: String,
        /// How it differs from RFC 6749.
        dialect: OauthDialect,
    },
}

/// How an OAuth 2.0 server differs from RFC 6749.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OauthDialect {
    /// Not at all.
    Plain,
    /// A user's addresses are a second document.
    Github,
    /// Its own names for everything.
    Dingtalk,
}

impl OauthDialect {
    /// As ops write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Github => "github",
            Self::Dingtalk => "dingtalk",
        }
    }

    /// As ops write it.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Github, Self::Dingtalk].into_iter().find(|dialect| dialect.as_str() == name)
    }
}

impl UpstreamProtocol {
    /// Where browsers, and the broker, meet the provider first: an origin.
    pub fn origin(&self) -> String {
        let address = match self {
            Self::OpenId { issuer, .. } => issuer,
            Self::Oauth { authorization_url, .. } => authorization_url,
        };
        Url::parse(address).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// All origins that ops have named, and by that let the broker speak to.
    pub fn origins(&self) -> Vec<String> {
        let named: Vec<&String> = match self {
            Self::OpenId { issuer, discovery_url } => std::iter::once(issuer).chain(discovery_url).collect(),
            Self::Oauth { authorization_url, token_url, user_url, .. } => {
                vec![authorization_url, token_url, user_url]
            }
        };
        let urls = named.into_iter().filter_map(|address| Url::parse(address).ok());
        urls.map(|url| url.origin().ascii_serialization()).collect()
    }

    /// Whose users they are.
    fn provider(&self) -> &str {
        match self {
            Self::OpenId { issuer, .. } => issuer,
            Self::Oauth { user_url, .. } => user_url,
        }
    }

    fn addresses(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::OpenId { issuer, discovery_url } => {
                let discovery = discovery_url.iter().map(|url| ("discovery_url", url.as_str()));
                std::iter::once(("issuer", issuer.as_str())).chain(discovery).collect()
            }
            Self::Oauth { authorization_url, token_url, user_url, .. } => vec![
                ("authorization_url", authorization_url.as_str()),
                ("token_url", token_url.as_str()),
                ("user_url", user_url.as_str()),
            ],
        }
    }
}

impl Upstream {
    /// The JSON pointer that tells its users apart.
    pub fn key_pointer(&self) -> &str {
        self.fields.get("home_user_id").map_or("/sub", String::as_str)
    }

    /// The one callback that its provider knows: no other home's, so that a provider can answer for nobody else (RFC 9700
    /// 4.4.2.2).
    pub fn callback(&self, broker: &Issuer) -> String {
        broker.address(&format!("/upstream/{}/callback", self.name))
    }

    /// Whether its users are those of another definition: then their subjects stay.
    pub fn has_users_of(&self, other: &Self) -> bool {
        self.protocol.provider() == other.protocol.provider() && self.key_pointer() == other.key_pointer()
    }

    /// Accepts the definition, or refuses it with the first rule that it breaks.
    ///
    /// # Errors
    /// That rule.
    pub fn check(self, broker: &Issuer) -> Result<Self, UpstreamRuleError> {
        use UpstreamRuleError as E;
        let text =
            |text: &str| !text.trim().is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        if self.display_name.chars().count() > MAX_NAME || !text(&self.display_name) {
            return Err(E::DisplayName);
        }
        if !text(&self.client_id) || !self.client_id.is_ascii() {
            return Err(E::ClientId);
        }
        for (field, address) in self.protocol.addresses() {
            check_address(address, broker).map_err(|rule| E::Address(field, rule))?;
        }
        let scope = |scope: &String| text(scope) && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if self.scopes.len() > MAX_ENTRIES || !self.scopes.iter().all(scope) {
            return Err(E::Scopes);
        }
        let pointer = |pointer: &String| text(pointer) && pointer.starts_with('/');
        if let Some(unknown) = self.fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(E::FieldUnknown(unknown.clone()));
        }
        if !self.fields.values().all(pointer) {
            return Err(E::Pointer);
        }
        if NOT_FOR_LIFE.contains(&self.key_pointer()) {
            return Err(E::KeyNotForLife);
        }
        let demand = |(at, value): (&String, &String)| pointer(at) && text(value);
        if self.required.len() > MAX_ENTRIES || !self.required.iter().all(demand) {
            return Err(E::Required);
        }
        Ok(self)
    }
}

/// Whether a provider may be there. What is typed by ops can be a slip, and what a slip makes of an address (`http`, a
/// user name in it) would send the client secret somewhere else.
///
/// # Errors
/// The rule that it breaks; otherwise its origin comes back.
pub fn check_address(address: &str, broker: &Issuer) -> Result<String, AddressRule> {
    let url = Url::parse(address).map_err(|_| AddressRule::NotHttps)?;
    let trying_out = broker.as_str().starts_with("http:");
    if url.scheme() != "https" && !(trying_out && url.scheme() == "http") || !url.has_host() {
        return Err(AddressRule::NotHttps);
    }
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !bare || address.len() > MAX_TEXT || address.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(AddressRule::NotBare);
    }
    // A broker that is its own home would ask itself for ever.
    let origin = url.origin().ascii_serialization();
    if origin == broker.as_str() { Err(AddressRule::Own) } else { Ok(origin) }
}

/// The broker's client secret at a provider: sealed, because the provider has to get the secret itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpstreamSecret(Sealed);

impl UpstreamSecret {
    /// Seals it.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal(sealing: &SealingKeys, secret: &str) -> Result<Self, SecretError> {
        sealing.seal(Purpose::UpstreamSecret, secret.as_bytes()).map(Self)
    }

    /// The secret, for the wire to the provider.
    ///
    /// # Errors
    /// When the key-encryption key does not fit.
    pub fn open(&self, sealing: &SealingKeys) -> Result<Zeroizing<String>, SecretError> {
        let bytes = sealing.open(Purpose::UpstreamSecret, &self.0)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotSealedForThis)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for UpstreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamSecret(…)")
    }
}

/// The rule that a definition breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamRuleError {
    /// Empty, too long, or not readable.
    #[error("a display name is 1 to {MAX_NAME} characters without control characters")]
    DisplayName,
    /// Empty, too long, or not ASCII.
    #[error("a client id is 1 to {MAX_TEXT} ASCII characters: copy it from the provider")]
    ClientId,
    /// An address that nobody should be sent to.
    #[error("{0} {1}")]
    Address(&'static str, AddressRule),
    /// Too many, or with characters that no scope has.
    #[error("scopes are at most {MAX_ENTRIES} words of printable ASCII (RFC 6749 3.3)")]
    Scopes,
    /// No field of a user.
    #[error(
        "there is no field {0}: they are home_user_id, username, name, given_name, family_name, email, email_verified, groups"
    )]
    FieldUnknown(String),
    /// Not a JSON pointer.
    #[error("a field's place is a JSON pointer such as /preferred_username (RFC 6901)")]
    Pointer,
    /// People change it, or somebody else gets it later.
    #[error(
        "home_user_id must be something that never changes and is never given to another user, such as /sub or /id"
    )]
    KeyNotForLife,
    /// Too many, or not readable.
    #[error("at most {MAX_ENTRIES} demands, each a JSON pointer and a value: /owner=my-company")]
    Required,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRule {
    /// Anybody in between could be the provider.
    #[error("must be an https URL")]
    NotHttps,
    /// More than an address.
    #[error("must have no user name, password or fragment in it")]
    NotBare,
    /// The broker itself.
    #[error("is this broker's own address: a broker cannot be its own home")]
    Own,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn upstream(name: &str, issuer: &str, sealing: &SealingKeys) -> Upstream {
        Upstream {
            name: name.parse().unwrap(),
            id: InstanceId::generate(),
            display_name: format!("{name} accounts"),
            protocol: UpstreamProtocol::OpenId { issuer: issuer.to_owned(), discovery_url: None },
            client_id: "homeward".to_owned(),
            client_secret: UpstreamSecret::seal(sealing, "s3cret").unwrap(),
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            fields: BTreeMap::new(),
            required: BTreeMap::new(),
            updated_at: Timestamp::from_secs(0),
        }
    }

    fn checked(change: impl FnOnce(&mut Upstream)) -> Result<Upstream, UpstreamRuleError> {
        let sealing = SealingKeys::new_for_test();
        let mut upstream = upstream("accounts", "https://id.example/o/", &sealing);
        change(&mut upstream);
        upstream.check(&Issuer::parse("https://login.example").unwrap())
    }

    fn issuer(issuer: &str) -> Result<Upstream, UpstreamRuleError> {
        let protocol = UpstreamProtocol::OpenId { issuer: issuer.to_owned(), discovery_url: None };
        checked(|upstream| upstream.protocol = protocol)
    }

    // B3, B18
    #[test]
    fn a_provider_is_at_an_https_address_that_is_not_the_broker() {
        assert!(issuer("https://id.example").is_ok() && issuer("https://id.example/a/b/?x").is_ok());
        for (address, rule) in [
            ("http://id.example", AddressRule::NotHttps),
            ("id.example", AddressRule::NotHttps),
            ("https://a:b@id.example", AddressRule::NotBare),
            ("https://id.example/#x", AddressRule::NotBare),
            ("https://id.example/ x", AddressRule::NotBare),
            ("https://login.example/realms/x", AddressRule::Own),
            ("https://LOGIN.example:443", AddressRule::Own),
        ] {
            let refused = issuer(address).err();
            assert_eq!(refused, Some(UpstreamRuleError::Address("issuer", rule)), "{address}");
        }
    }

    // B7
    #[test]
    fn nobody_is_known_by_what_changes() {
        let key =
            |pointer: &str| checked(|upstream| drop(upstream.fields.insert("home_user_id".into(), pointer.into())));
        assert!(key("/id").is_ok() && key("/sub").is_ok());
        for pointer in ["/email", "/preferred_username", "/name", "/login"] {
            assert_eq!(key(pointer).err(), Some(UpstreamRuleError::KeyNotForLife), "{pointer}");
        }
        assert_eq!(key("sub").err(), Some(UpstreamRuleError::Pointer));
        let unknown = checked(|upstream| drop(upstream.fields.insert("role".into(), "/role".into())));
        assert_eq!(unknown.err(), Some(UpstreamRuleError::FieldUnknown("role".into())));
    }

    // B13
    #[test]
    fn another_issuer_or_another_key_has_other_users() {
        let known = checked(|_| {}).unwrap();
        assert!(known.has_users_of(&checked(|upstream| upstream.client_id = "other".into()).unwrap()));
        assert!(!known.has_users_of(&issuer("https://id.example/o").unwrap()));
        let by_id = checked(|upstream| drop(upstream.fields.insert("home_user_id".into(), "/id".into()))).unwrap();
        assert!(!known.has_users_of(&by_id));
    }

    #[test]
    fn the_secret_is_sealed_and_never_printed() {
        let sealing = SealingKeys::new_for_test();
        let secret = UpstreamSecret::seal(&sealing, "s3cret").unwrap();
        assert_eq!(secret.open(&sealing).unwrap().as_str(), "s3cret");
        assert!(!format!("{secret:?}{}", serde_json::to_string(&secret).unwrap()).contains("s3cret"));
        assert!(secret.open(&SealingKeys::new_for_test()).is_err());
    }
}
