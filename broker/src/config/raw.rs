//! The file as it is written, and the way from there to a [`Config`]: defaults and bounds.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::config::{Config, ConfigError, Issuer, Lifetimes, OutboundPolicy, RotationPolicy, TrustedProxies};
use crate::secret::{KekSource, KekSources, TokenSource};
use crate::storage::address::{EtcdAccess, StoreAddress};

/// What may stand in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    public_url: String,
    agent_url: String,
    trust_domain: String,
    data_dir: PathBuf,
    store: Option<String>,
    key_encryption_key_file: Option<PathBuf>,
    key_encryption_key_credential: Option<String>,
    pkcs11: Option<RawToken>,
    previous_key_encryption_key_file: Option<PathBuf>,
    previous_key_encryption_key_credential: Option<String>,
    previous_pkcs11: Option<RawToken>,
    admin_socket: Option<PathBuf>,
    trusted_proxies: Option<Vec<IpAddr>>,
    #[serde(default)]
    etcd: RawEtcd,
    #[serde(default)]
    listen: RawListen,
    #[serde(default)]
    lifetimes: RawLifetimes,
    #[serde(default)]
    rotation: RawRotation,
    #[serde(default)]
    outbound: RawOutbound,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    module: PathBuf,
    token_label: String,
    key_label: String,
    pin_file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEtcd {
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    private_key_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
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
    refresh_token: Option<u64>,
    refresh_token_idle: Option<u64>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutbound {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    private_networks: Vec<String>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let agent_url = Url::parse(&raw.agent_url).ok().filter(|url| {
            url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.host().is_some()
        });
        let store = match raw.store {
            None => StoreAddress::Sled(raw.data_dir.join("store")),
            Some(text) => text.parse().map_err(ConfigError::Store)?,
        };
        let loopback = ["127.0.0.1", "::1"].iter().filter_map(|address| address.parse().ok()).collect();
        Ok(Self {
            issuer: Issuer::parse(&raw.public_url)?,
            agent_url: agent_url.ok_or(ConfigError::AgentUrl)?,
            trust_domain: raw.trust_domain.parse().map_err(ConfigError::TrustDomain)?,
            kek: KekSources {
                current: kek("", raw.key_encryption_key_file, raw.key_encryption_key_credential, raw.pkcs11)?
                    .unwrap_or_else(|| KekSource::File(raw.data_dir.join("kek"))),
                previous: kek(
                    "previous_",
                    raw.previous_key_encryption_key_file,
                    raw.previous_key_encryption_key_credential,
                    raw.previous_pkcs11,
                )?,
            },
            admin_socket: raw.admin_socket.unwrap_or_else(|| raw.data_dir.join("admin.sock")),
            data_dir: raw.data_dir,
            store,
            etcd: raw.etcd.try_into()?,
            trusted_proxies: TrustedProxies::new(raw.trusted_proxies.unwrap_or(loopback)),
            http: raw.listen.http.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            grpc: raw.listen.grpc.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443))),
            lifetimes: raw.lifetimes.try_into()?,
            rotation: raw.rotation.try_into()?,
            outbound: raw.outbound.try_into()?,
        })
    }
}

/// The one of three ways that is taken; `which` begins the names of the options.
fn kek(
    which: &'static str,
    file: Option<PathBuf>,
    credential: Option<String>,
    token: Option<RawToken>,
) -> Result<Option<KekSource>, ConfigError> {
    match (file, credential, token) {
        (None, None, None) => Ok(None),
        (Some(file), None, None) => Ok(Some(KekSource::File(file))),
        (None, Some(name), None) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err(ConfigError::KekCredential(which))
        }
        (None, Some(name), None) => Ok(Some(KekSource::Credential(name))),
        (None, None, Some(RawToken { module, token_label, key_label, pin_file })) => {
            Ok(Some(KekSource::Token(TokenSource { module, token_label, key_label, pin_file })))
        }
        _ => Err(ConfigError::KekTwice(which)),
    }
}

impl TryFrom<RawEtcd> for EtcdAccess {
    type Error = ConfigError;

    fn try_from(raw: RawEtcd) -> Result<Self, ConfigError> {
        let certificate_and_key_files = match (raw.certificate_file, raw.private_key_file) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(ConfigError::EtcdCertificate),
        };
        let user_and_password_file = match (raw.user, raw.password_file) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => return Err(ConfigError::EtcdUser),
        };
        Ok(Self { ca_file: raw.ca_file, certificate_and_key_files, user_and_password_file })
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
            refresh_token: within("refresh_token", raw.refresh_token, 90 * day, 60, 3650 * day)?,
            refresh_token_idle: within("refresh_token_idle", raw.refresh_token_idle, 30 * day, 60, 3650 * day)?,
            instance_certificate: within("instance_certificate", raw.instance_certificate, day, 10, 90 * day)?,
        };
        if lifetimes.session_idle > lifetimes.session {
            return Err(ConfigError::SessionIdle);
        }
        if lifetimes.refresh_token_idle > lifetimes.refresh_token {
            return Err(ConfigError::RefreshTokenIdle);
        }
        Ok(lifetimes)
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

impl TryFrom<RawOutbound> for OutboundPolicy {
    type Error = ConfigError;

    fn try_from(raw: RawOutbound) -> Result<Self, ConfigError> {
        let network = |text: &String| text.parse().map_err(|_| ConfigError::PrivateNetwork(text.clone()));
        let private_networks = raw.private_networks.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Self { ca_file: raw.ca_file, private_networks })
    }
}
