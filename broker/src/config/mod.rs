//! The configuration file: what may stand in it (`raw`) and what the program works with ([`Config`]).
//!
//! `deploy/broker.toml` is the reference; a test parses it.

mod audit;
mod current;
mod error;
mod federation;
mod in_force;
mod named;
mod proxies;
mod raw;
mod tls;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use homeward_certs::identity::TrustDomain;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use serde::Serialize;
use url::{Host, Url};

use crate::secret::KekSources;
use crate::storage::address::{EtcdAccess, StoreAddress};

pub use audit::{AuditSettings, SyslogAddress};
pub use current::Current;
pub use error::ConfigError;
pub use federation::{NamedBy, SettingsError, agree, agree_again, first_settings, trust_domain_of};
pub use in_force::{InForce, Setting};
pub use named::NamedSettings;
pub use proxies::TrustedProxies;
use raw::RawConfig;
pub use tls::{AcmeSettings, CertificateSource, Https};

/// How far an application's clock may be off.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What this broker works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the file says of what all brokers of the federation agree on; the store says the rest.
    pub named: NamedSettings,
    /// What the embedded broker keeps on this machine.
    pub data_dir: Option<PathBuf>,
    /// Everything else.
    pub store: StoreAddress,
    /// The way into an etcd.
    pub etcd: EtcdAccess,
    /// The key that seals the keys that seal secrets.
    pub kek: KekSources,
    /// Unix socket of the Admin service.
    pub admin_socket: PathBuf,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<Https>,
    /// Plain HTTP, where everybody is sent on to the public address.
    pub redirect: Option<SocketAddr>,
    /// mTLS gRPC.
    pub grpc: SocketAddr,
    /// CAs of applications beside those of the machine, as PEM.
    pub outbound_ca_file: Option<PathBuf>,
    /// What was decided and changed.
    pub audit: AuditSettings,
    /// Who may watch, and what the log looks like.
    pub telemetry: homeward_telemetry::settings::Settings,
}

/// What all brokers of a federation agree on.
#[derive(Clone, Debug)]
pub struct Federation {
    /// Issuer of tokens and origin of all pages.
    pub issuer: Issuer,
    /// What join tokens tell agents: `https://host:port`.
    pub agent_url: Url,
    /// Name of the federation in certificates.
    pub trust_domain: TrustDomain,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// When things turn.
    pub rotation: RotationPolicy,
    /// Networks that are not public and may be spoken to all the same.
    pub private_networks: Vec<IpNet>,
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
    /// An agent that is connected acknowledges in this time, or the rotation pauses; that of a client secret ends.
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
    /// Refresh tokens of one grant, however often they are used.
    pub refresh_token: Duration,
    /// A refresh token that nobody uses.
    pub refresh_token_idle: Duration,
    /// An instance certificate.
    pub instance_certificate: Duration,
}

impl Lifetimes {
    /// How long something that a signing key has signed may still be shown to somebody: an ID token to an application
    /// whose clock is late, or to us as a hint for as long as the session lasts.
    pub fn longest_token(&self) -> Duration {
        self.id_token.max(self.access_token).max(self.session) + CLOCK_SKEW
    }

    /// How long something sealed may be in the hands of strangers: tokens and codes of applications, logins of browsers.
    pub fn longest_sealed(&self) -> Duration {
        self.refresh_token.max(self.access_token).max(self.session).max(self.login) + CLOCK_SKEW
    }
}

impl Federation {
    /// Where applications reach the agents' port, if certificates can name it.
    pub fn agent_host(&self) -> Option<ServerName<'static>> {
        match self.agent_url.host()? {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
            Host::Ipv4(address) => Some(IpAddr::V4(address).into()),
            Host::Ipv6(address) => Some(IpAddr::V6(address).into()),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence on what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        Self::parse(&text).map_err(|error| ConfigError::File(path.to_owned(), Box::new(error)))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// One sentence on what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str::<RawConfig>(text).map_err(|error| ConfigError::Toml(Box::new(error)))?.try_into()
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

    /// The name, or address, of the host.
    pub fn host(&self) -> String {
        let host = Url::parse(&self.0).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.map_or_else(String::new, |host| host.trim_matches(['[', ']']).to_owned())
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
        assert_eq!(
            (config.audit.dir.as_path(), config.audit.keep_days),
            (Path::new("/var/lib/homeward-broker/audit"), Some(365))
        );
        let federation = config.named.federation().unwrap();
        assert_eq!(federation.lifetimes.authorization_code, Duration::from_secs(60));
        assert_eq!(federation.issuer.address("/jwks"), "https://login.example.org/jwks");
    }

    #[test]
    fn a_broker_needs_no_more_than_its_store_and_the_key() {
        let config = Config::parse("store = \"etcd:http://a:2379\"\nkey_encryption_key_file = \"/k\"").unwrap();
        assert!(config.named.federation().is_err() && config.data_dir.is_none());
        assert_eq!(config.admin_socket, Path::new("/run/homeward-broker/admin.sock"));
        let refusal = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert!(refusal("key_encryption_key_file = \"/k\"").contains("store is missing"));
        assert!(refusal("store = \"sled:/s\"").contains("key_encryption_key_file is missing"));
    }

    #[test]
    fn mistakes_get_a_sentence() {
        assert!(refusal("colour = 1").contains("unknown field `colour`"));
        assert!(refusal("[lifetimes]\nauthorization_code = 3600").contains("from 5 to 600 seconds"));
        assert!(refusal("[lifetimes]\nsession = 60\nsession_idle = 61").contains("session_idle"));
        let longer = "[lifetimes]\nrefresh_token = 3600\nrefresh_token_idle = 3601";
        assert!(refusal(longer).contains("refresh_token_idle"));
        let twice = "key_encryption_key_file = \"/a\"\nkey_encryption_key_credential = \"kek\"";
        assert!(refusal(twice).contains("keep one of them"));
        assert!(refusal("[audit]\nsyslog = \"tcp://a\"").contains("udp://192.0.2.1:514"));
        assert!(refusal("[telemetry]\nlog = \"xml\"").contains("expected `human` or `json`"));
        assert!(refusal("[audit]\nkeep_days = 40000").contains("0 for ever"));
        assert!(refusal("previous_key_encryption_key_credential = \"../kek\"").contains("without slash"));
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
}
