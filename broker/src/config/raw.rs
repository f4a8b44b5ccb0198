//! The file as it is written, and the way from there to a [`Config`]: defaults and bounds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::proxies::canonical;
use crate::config::tls::{RawTls, https};
use crate::config::{
    AuditSettings, Config, ConfigError, Federation, Issuer, Lifetimes, NamedSettings, RotationPolicy, TrustedProxies,
};
use crate::secret::{KekSource, KekSources, TokenSource};
use crate::storage::address::{EtcdAccess, StoreAddress};

/// Where the Admin service listens on a machine without data_dir.
const ADMIN_SOCKET: &str = "/run/homeward-broker/admin.sock";

/// Where the audit is, in a folder of its own, on a machine without data_dir and store.
const STATE: &str = "/var/lib/homeward-broker";

/// For how long records are kept if nobody says otherwise.
const KEEP_DAYS: u32 = 365;

/// What may stand in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) public_url: Option<String>,
    pub(super) agent_url: Option<String>,
    pub(super) trust_domain: Option<String>,
    data_dir: Option<PathBuf>,
    store: Option<String>,
    key_encryption_key_file: Option<PathBuf>,
    key_encryption_key_credential: Option<String>,
    pkcs11: Option<RawToken>,
    previous_key_encryption_key_file: Option<PathBuf>,
    previous_key_encryption_key_credential: Option<String>,
    previous_pkcs11: Option<RawToken>,
    admin_socket: Option<PathBuf>,
    trusted_proxies: Option<Vec<String>>,
    #[serde(default)]
    etcd: RawEtcd,
    #[serde(default)]
    listen: RawListen,
    tls: Option<RawTls>,
    #[serde(default)]
    pub(super) lifetimes: RawLifetimes,
    #[serde(default)]
    pub(super) rotation: RawRotation,
    #[serde(default)]
    pub(super) outbound: RawOutbound,
    #[serde(default)]
    audit: RawAudit,
    #[serde(default)]
    telemetry: homeward_telemetry::settings::Settings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    module: PathBuf,
    token_label: String,
    key_label: String,
    pin_file: PathBuf,
}

/// What all brokers of a federation have to agree on, as it stands in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RawFederation {
    public_url: String,
    agent_url: String,
    pub(super) trust_domain: String,
    #[serde(default)]
    lifetimes: RawLifetimes,
    #[serde(default)]
    rotation: RawRotation,
    #[serde(default)]
    private_networks: Vec<String>,
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
    https: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLifetimes {
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

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRotation {
    signing_keys_every: Option<u64>,
    client_secrets_every: Option<u64>,
    authority_every: Option<u64>,
    acknowledge_within: Option<u64>,
    grace_for_absent: Option<u64>,
    key_set_max_age: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOutbound {
    ca_file: Option<PathBuf>,
    pub(super) private_networks: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    dir: Option<PathBuf>,
    keep_days: Option<u32>,
    syslog: Option<String>,
}

impl RawAudit {
    /// Beside the store, if that is on this machine.
    fn beside(self, store: &StoreAddress, data_dir: Option<&Path>) -> Result<AuditSettings, ConfigError> {
        let beside = match store {
            StoreAddress::Sled(folder) => folder.parent(),
            StoreAddress::Etcd { .. } => None,
        };
        let parent = data_dir.or(beside).unwrap_or(Path::new(STATE));
        Ok(AuditSettings {
            dir: self.dir.unwrap_or_else(|| parent.join("audit")),
            keep_days: match self.keep_days.unwrap_or(KEEP_DAYS) {
                0 => None,
                days @ 1..=36_500 => Some(days),
                _ => return Err(ConfigError::KeepDays),
            },
            syslog: self.syslog.map(|text| text.parse()).transpose()?,
        })
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(mut raw: RawConfig) -> Result<Self, ConfigError> {
        let named = NamedSettings::of(&mut raw)?;
        let below = |name: &str| raw.data_dir.as_ref().map(|folder| folder.join(name));
        let store = match raw.store {
            None => below("store").map(StoreAddress::Sled).ok_or(ConfigError::NoStore)?,
            Some(text) => text.parse().map_err(ConfigError::Store)?,
        };
        let usual = || below("kek").map(KekSource::File);
        let kek_file = raw.key_encryption_key_file;
        let kek = kek("", kek_file, raw.key_encryption_key_credential, raw.pkcs11)?.or_else(usual);
        let previous = self::kek(
            "previous_",
            raw.previous_key_encryption_key_file,
            raw.previous_key_encryption_key_credential,
            raw.previous_pkcs11,
        )?;
        Ok(Self {
            named,
            audit: raw.audit.beside(&store, raw.data_dir.as_deref())?,
            kek: KekSources { current: kek.ok_or(ConfigError::NoKeyEncryptionKey)?, previous },
            admin_socket: raw.admin_socket.or_else(|| below("admin.sock")).unwrap_or_else(|| ADMIN_SOCKET.into()),
            data_dir: raw.data_dir,
            store,
            etcd: raw.etcd.try_into()?,
            trusted_proxies: TrustedProxies::configured(raw.trusted_proxies)?,
            // Whoever has HTTPS need not have the other.
            http: raw.listen.http.or(raw.listen.https.is_none().then_some(SocketAddr::from(([127, 0, 0, 1], 8080)))),
            https: https(raw.listen.https, raw.tls)?,
            redirect: raw.listen.redirect,
            grpc: raw.listen.grpc.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443))),
            outbound_ca_file: raw.outbound.ca_file,
            telemetry: raw.telemetry,
        })
    }
}

impl RawFederation {
    /// Of some federation, with everything as usual.
    pub(super) fn any() -> Self {
        Self {
            public_url: "https://localhost".to_owned(),
            agent_url: "https://localhost:8443".to_owned(),
            trust_domain: "localhost".to_owned(),
            lifetimes: RawLifetimes::default(),
            rotation: RawRotation::default(),
            private_networks: Vec::new(),
        }
    }
}

impl TryFrom<RawFederation> for Federation {
    type Error = ConfigError;

    fn try_from(raw: RawFederation) -> Result<Self, ConfigError> {
        let agent_url = Url::parse(&raw.agent_url).ok().filter(|url| {
            url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.host().is_some()
        });
        let network =
            |text: &String| text.parse().map(canonical).map_err(|_| ConfigError::PrivateNetwork(text.clone()));
        Ok(Self {
            issuer: Issuer::parse(&raw.public_url)?,
            agent_url: agent_url.ok_or(ConfigError::AgentUrl)?,
            trust_domain: raw.trust_domain.parse().map_err(ConfigError::TrustDomain)?,
            lifetimes: raw.lifetimes.try_into()?,
            rotation: raw.rotation.try_into()?,
            private_networks: raw.private_networks.iter().map(network).collect::<Result<_, _>>()?,
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

impl From<&Federation> for RawFederation {
    /// With every default said, so that another release's defaults change nothing.
    fn from(federation: &Federation) -> Self {
        Self {
            public_url: federation.issuer.to_string(),
            agent_url: federation.agent_url.to_string(),
            trust_domain: federation.trust_domain.to_string(),
            lifetimes: (&federation.lifetimes).into(),
            rotation: (&federation.rotation).into(),
            private_networks: federation.private_networks.iter().map(ToString::to_string).collect(),
        }
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

impl From<&Lifetimes> for RawLifetimes {
    fn from(lifetimes: &Lifetimes) -> Self {
        let secs = |lifetime: Duration| Some(lifetime.as_secs());
        Self {
            session: secs(lifetimes.session),
            session_idle: secs(lifetimes.session_idle),
            login: secs(lifetimes.login),
            id_token: secs(lifetimes.id_token),
            access_token: secs(lifetimes.access_token),
            authorization_code: secs(lifetimes.authorization_code),
            refresh_token: secs(lifetimes.refresh_token),
            refresh_token_idle: secs(lifetimes.refresh_token_idle),
            instance_certificate: secs(lifetimes.instance_certificate),
        }
    }
}

impl From<&RotationPolicy> for RawRotation {
    fn from(policy: &RotationPolicy) -> Self {
        let secs = |time: Duration| Some(time.as_secs());
        // 0 turns the automatic off.
        let every = |time: Option<Duration>| Some(time.map_or(0, |time| time.as_secs()));
        Self {
            signing_keys_every: every(policy.signing_keys_every),
            client_secrets_every: every(policy.client_secrets_every),
            authority_every: every(policy.authority_every),
            acknowledge_within: secs(policy.acknowledge_within),
            grace_for_absent: secs(policy.grace_for_absent),
            key_set_max_age: secs(policy.key_set_max_age),
        }
    }
}
