//! What is wrong with a configuration, in one sentence: causes are part of it, and are not told once more as sources.

use std::path::PathBuf;

use homeward_certs::identity::NameError;

use crate::storage::address::StoreAddressError;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not there.
    #[error("{file} cannot be read ({1}): name the configuration with --config FILE", file = .0.display())]
    Read(PathBuf, std::io::Error),
    /// What is wrong in a file.
    #[error("{file} cannot be used, deploy/broker.toml says what may stand in it: {1}", file = .0.display())]
    File(PathBuf, Box<Self>),
    /// Not TOML, an unknown key, or a missing one.
    #[error("{0}")]
    Toml(Box<toml::de::Error>),
    /// See [`Issuer`](super::Issuer).
    #[error("public_url must be https://host[:port] without trailing slash (http only for a loopback host)")]
    PublicUrl,
    /// What a file names and what the store has make no settings.
    #[error("the settings cannot be read together: {0}")]
    Together(String),
    /// They have no usual value.
    #[error("public_url, agent_url and trust_domain have to be named where no store says them")]
    NoFederation,
    /// Nowhere to look.
    #[error("store is missing: write sled:<folder> or etcd:https://host:2379, or name a data_dir to keep one in")]
    NoStore,
    /// Nowhere to look.
    #[error("key_encryption_key_file is missing: it can be left out only where there is a data_dir")]
    NoKeyEncryptionKey,
    /// Agents speak TLS only.
    #[error("agent_url must be https://host:port")]
    AgentUrl,
    /// See [`TrustDomain`](homeward_certs::identity::TrustDomain).
    #[error("trust_domain: {0}")]
    TrustDomain(NameError),
    /// Neither of the two kinds.
    #[error("store: {0}")]
    Store(StoreAddressError),
    /// One key, one place.
    #[error(
        "{0}key_encryption_key_file, {0}key_encryption_key_credential and [{0}pkcs11] are three ways to name one key: keep one of them"
    )]
    KekTwice(&'static str),
    /// It becomes a file name in a folder that systemd made.
    #[error("{0}key_encryption_key_credential must be the name of a credential, without slash")]
    KekCredential(&'static str),
    /// One without the other.
    #[error("etcd.certificate_file and etcd.private_key_file belong together")]
    EtcdCertificate,
    /// One without the other.
    #[error("etcd.user and etcd.password_file belong together")]
    EtcdUser,
    /// One without the other.
    #[error("listen.https and [tls] belong together: an address to listen on, and the certificate to show there")]
    HttpsWithoutTls,
    /// Neither, half of one, or both.
    #[error("[tls] takes either certificate_file and private_key_file, or [tls.acme]")]
    Certificate,
    /// The CA wants it (RFC 8555 7.3).
    #[error("tls.acme.accept_terms must be true: read the terms of service of that CA, its directory names them")]
    AcmeTerms,
    /// The account's key signs what is sent there.
    #[error("tls.acme.directory must be the https URL of the CA's directory")]
    AcmeDirectory,
    /// RFC 8555 7.3.
    #[error("tls.acme.contact: {0:?} is no contact: write it like mailto:ops@example.org")]
    AcmeContact(String),
    /// Neither of the two.
    #[error("audit.syslog must be unix:/dev/log, or an address and port like udp://192.0.2.1:514")]
    Syslog,
    /// Out of bounds.
    #[error("audit.keep_days must be from 1 to 36500 days, or 0 for ever")]
    KeepDays,
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
    /// Makes no sense.
    #[error("lifetimes.refresh_token_idle must not be longer than lifetimes.refresh_token")]
    RefreshTokenIdle,
    /// Neither.
    #[error("trusted_proxies: {0:?} is neither an address nor a network: write it like 10.0.0.7 or 10.0.0.0/8")]
    TrustedProxy(String),
    /// Not an address with the length of its prefix.
    #[error("outbound.private_networks: {0:?} is no network: write it like 10.0.0.0/8 or fd00::/8")]
    PrivateNetwork(String),
}
