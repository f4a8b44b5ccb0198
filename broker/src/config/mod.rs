//! The configuration file: what may stand in it ([`RawConfig`]) and what the program works with ([`Config`]).
//!
//! `deploy/broker.toml` is the reference; a test parses it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use homeward_certs::identity::{NameError, TrustDomain};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// How far an application's clock may be off.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What may stand in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    public_url: String,
    agent_url: String,
    trust_domain: String,
    data_dir: PathBuf,
    key_encryption_key_file: Option<PathBuf>,
    admin_socket: Option<PathBuf>,
    trusted_proxies: Option<Vec<IpAddr>>,
    #[serde(default)]
    listen: RawListen,
    #[serde(default)]
    lifetimes: RawLifetimes,
    #[serde(default)]
    rotation: RawRotation,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLifetimes {
    session: Option<u64>,
    session_idle: Option<u64>,
    login: Option<u64>,
    id_token: Option<u64>,
    access_token: Option<u64>,
    authorization_code: Option<u64>,
    instance_certificate: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRotation {
    signing_keys_every: Option<u64>,
    client_secrets_every: Option<u64>,
    authority_every: Option<u64>,
    acknowledge_within: Option<u64>,
    grace_for_absent: Option<u64>,
    key_set_max_age: Option<u64>,
}

/// What the broker works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Issuer of tokens and origin of all pages.
    pub issuer: Issuer,
    /// What join tokens tell agents: `https://host:port`.
    pub agent_url: Url,
    /// Name of the federation in certificates.
    pub trust_domain: TrustDomain,
    /// Folder of the store.
    pub data_dir: PathBuf,
    /// The key that seals secrets.
    pub key_encryption_key_file: PathBuf,
    /// Unix socket of the Admin service.
    pub admin_socket: PathBuf,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
    /// Plain HTTP.
    pub http: SocketAddr,
    /// mTLS gRPC.
    pub grpc: SocketAddr,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// When things turn.
    pub rotation: RotationPolicy,
}

/// When signing keys, client secrets and the CA turn, and how long their gates wait.
#[derive(Clone, Copy, Debug)]
pub struct RotationPolicy {
    /// Between two turns of the signing keys; they do not turn by themselves if unset.
    pub signing_keys_every: Option<Duration>,
    /// Age at which a client secret turns.
    pub client_secrets_every: Option<Duration>,
    /// Age at which the CA turns.
    pub authority_every: Option<Duration>,
    /// An agent that is connected acknowledges in this time, or the rotation pauses.
    pub acknowledge_within: Duration,
    /// An agent that is not connected is waited for this long.
    pub grace_for_absent: Duration,
    /// How long caches may keep the JWKS at the most. A new key is published twice as long before it signs.
    pub key_set_max_age: Duration,
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// A session, at the longest.
    pub session: Duration,
    /// A session without a login.
    pub session_idle: Duration,
    /// A login transaction.
    pub login: Duration,
    /// An ID token.
    pub id_token: Duration,
    /// An access token.
    pub access_token: Duration,
    /// An authorization code.
    pub authorization_code: Duration,
    /// An instance certificate.
    pub instance_certificate: Duration,
}

impl Lifetimes {
    /// How long something that a signing key has signed may still be shown to somebody: an ID token to an application
    /// whose clock is late, or to us as a hint for as long as the session lasts.
    pub fn longest_token(&self) -> Duration {
        self.id_token.max(self.access_token).max(self.session) + CLOCK_SKEW
    }
}

impl Config {
    /// Folder of the embedded store.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// One sentence on what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// One sentence on what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str::<RawConfig>(text).map_err(|error| ConfigError::Toml(Box::new(error)))?.try_into()
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let agent_url = Url::parse(&raw.agent_url).ok().filter(|url| {
            url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.host().is_some()
        });
        let loopback = ["127.0.0.1", "::1"].iter().filter_map(|address| address.parse().ok()).collect();
        Ok(Self {
            issuer: Issuer::parse(&raw.public_url)?,
            agent_url: agent_url.ok_or(ConfigError::AgentUrl)?,
            trust_domain: raw.trust_domain.parse().map_err(ConfigError::TrustDomain)?,
            key_encryption_key_file: raw.key_encryption_key_file.unwrap_or_else(|| raw.data_dir.join("kek")),
            admin_socket: raw.admin_socket.unwrap_or_else(|| raw.data_dir.join("admin.sock")),
            data_dir: raw.data_dir,
            trusted_proxies: TrustedProxies::new(raw.trusted_proxies.unwrap_or(loopback)),
            http: raw.listen.http.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            grpc: raw.listen.grpc.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443))),
            lifetimes: raw.lifetimes.try_into()?,
            rotation: raw.rotation.try_into()?,
        })
    }
}

impl TryFrom<RawLifetimes> for Lifetimes {
    type Error = ConfigError;

    fn try_from(raw: RawLifetimes) -> Result<Self, ConfigError> {
        let within = |name, value: Option<u64>, default, least, most| match value.unwrap_or(default) {
            secs if (least..=most).contains(&secs) => Ok(Duration::from_secs(secs)),
            _ => Err(ConfigError::Lifetime { name, least, most }),
        };
        let (hour, day) = (3600, 86_400);
        let lifetimes = Self {
            session: within("session", raw.session, 12 * hour, 60, 90 * day)?,
            session_idle: within("session_idle", raw.session_idle, 2 * hour, 60, 90 * day)?,
            login: within("login", raw.login, 600, 30, hour)?,
            id_token: within("id_token", raw.id_token, 600, 30, day)?,
            access_token: within("access_token", raw.access_token, 600, 30, day)?,
            // RFC 6749 4.1.2 recommends ten minutes at the most.
            authorization_code: within("authorization_code", raw.authorization_code, 60, 5, 600)?,
            instance_certificate: within("instance_certificate", raw.instance_certificate, day, 10, 90 * day)?,
        };
        if lifetimes.session_idle > lifetimes.session { Err(ConfigError::SessionIdle) } else { Ok(lifetimes) }
    }
}

impl TryFrom<RawRotation> for RotationPolicy {
    type Error = ConfigError;

    fn try_from(raw: RawRotation) -> Result<Self, ConfigError> {
        let within = |name, value: Option<u64>, default, least, most| match value.unwrap_or(default) {
            secs if (least..=most).contains(&secs) => Ok(Duration::from_secs(secs)),
            _ => Err(ConfigError::Rotation { name, least, most }),
        };
        let (hour, day) = (3600, 86_400);
        // 0 turns the automatic off.
        let every = |name, value: Option<u64>, default, most| match value {
            Some(0) => Ok(None),
            value => within(name, value, default, 10, most).map(Some),
        };
        Ok(Self {
            signing_keys_every: every("signing_keys_every", raw.signing_keys_every, 90 * day, 3650 * day)?,
            client_secrets_every: every("client_secrets_every", raw.client_secrets_every, 180 * day, 3650 * day)?,
            authority_every: every("authority_every", raw.authority_every, 3 * 365 * day, 4 * 365 * day)?,
            acknowledge_within: within("acknowledge_within", raw.acknowledge_within, hour, 1, 30 * day)?,
            grace_for_absent: within("grace_for_absent", raw.grace_for_absent, day, 1, 90 * day)?,
            key_set_max_age: within("key_set_max_age", raw.key_set_max_age, 300, 1, day)?,
        })
    }
}

/// The issuer identifier: scheme and authority, without trailing slash (OpenID Connect Discovery 3), compared byte for
/// byte by relying parties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Issuer(String);

impl Issuer {
    /// Reads `https://host[:port]`; `http` for a loopback host only.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let url = Url::parse(text).map_err(|_| ConfigError::PublicUrl)?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        if scheme && url.origin().ascii_serialization() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(ConfigError::PublicUrl)
        }
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a path on it: `path` begins with a slash.
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reverse proxies whose word on the client's address is taken.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpAddr>);

impl TrustedProxies {
    /// These.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self(addresses)
    }

    /// The client's address: the last one in `X-Forwarded-For` that is not a trusted proxy, if the peer is one; else
    /// the peer itself. A value that cannot be read ends the search, so that rubbish never opens anything.
    pub fn client(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in forwarded_for.unwrap_or_default().rsplit(',') {
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            if !self.0.contains(&client) {
                break;
            }
            client = address.to_canonical();
        }
        client
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not there.
    #[error("{file}: {1}", file = .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// Not TOML, an unknown key, or a missing one.
    #[error("{0}")]
    Toml(#[source] Box<toml::de::Error>),
    /// See [`Issuer`].
    #[error("public_url must be https://host[:port] without trailing slash (http only for a loopback host)")]
    PublicUrl,
    /// Agents speak TLS only.
    #[error("agent_url must be https://host:port")]
    AgentUrl,
    /// See [`TrustDomain`].
    #[error("trust_domain: {0}")]
    TrustDomain(#[source] NameError),
    /// Out of bounds.
    #[error("lifetimes.{name} must be from {least} to {most} seconds")]
    Lifetime {
        /// The option.
        name: &'static str,
        /// Seconds.
        least: u64,
        /// Seconds.
        most: u64,
    },
    /// Out of bounds.
    #[error("rotation.{name} must be from {least} to {most} seconds{zero}", zero = if name.ends_with("every") { ", or 0 for never" } else { "" })]
    Rotation {
        /// The option.
        name: &'static str,
        /// Seconds.
        least: u64,
        /// Seconds.
        most: u64,
    },
    /// Makes no sense.
    #[error("lifetimes.session_idle must not be longer than lifetimes.session")]
    SessionIdle,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        public_url = "https://login.example.org"
        agent_url = "https://login.example.org:8443"
        trust_domain = "example.org"
        data_dir = "/var/lib/homeward-broker"
    "#;

    fn refusal(more: &str) -> String {
        Config::parse(&format!("{MINIMAL}{more}")).unwrap_err().to_string()
    }

    #[test]
    fn defaults_need_four_lines() {
        let config = Config::parse(MINIMAL).unwrap();
        assert_eq!(config.admin_socket, Path::new("/var/lib/homeward-broker/admin.sock"));
        assert_eq!(config.lifetimes.authorization_code, Duration::from_secs(60));
        assert_eq!(config.issuer.address("/jwks"), "https://login.example.org/jwks");
    }

    #[test]
    fn mistakes_get_a_sentence() {
        assert!(refusal("colour = 1").contains("unknown field `colour`"));
        assert!(refusal("[lifetimes]\nauthorization_code = 3600").contains("from 5 to 600 seconds"));
        assert!(refusal("[lifetimes]\nsession = 60\nsession_idle = 61").contains("session_idle"));
    }

    #[test]
    fn issuer_is_an_origin_and_nothing_else() {
        for good in ["https://a.example", "https://a.example:8443", "http://localhost:1", "http://127.0.0.1:80801"] {
            assert_eq!(Issuer::parse(good).is_ok(), !good.ends_with("80801"), "{good}");
        }
        for bad in [
            "https://a.example/",
            "https://A.example",
            "https://a.example/x",
            "https://u@a.example",
            "http://a.example",
            "https://a.example:443",
            "https://a.example?x",
            "ftp://a.example",
            "a.example",
            "",
        ] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let proxies = TrustedProxies(vec!["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let client = |peer: &str, header: Option<&str>| proxies.client(peer.parse().unwrap(), header).to_string();
        assert_eq!(client("127.0.0.1", Some("192.0.2.1")), "192.0.2.1");
        assert_eq!(client("127.0.0.1", Some("evil, 192.0.2.1")), "192.0.2.1");
        assert_eq!(client("127.0.0.1", Some("192.0.2.9, 192.0.2.1, 10.0.0.1")), "192.0.2.1");
        assert_eq!(client("192.0.2.7", Some("127.0.0.1")), "192.0.2.7");
        assert_eq!(client("127.0.0.1", Some("a")), "127.0.0.1");
        assert_eq!(client("127.0.0.1", None), "127.0.0.1");
        assert_eq!(client("::ffff:127.0.0.1", Some("192.0.2.1")), "192.0.2.1");
    }
}
