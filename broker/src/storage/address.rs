//! Where a store is, as ops write it, and the way from there to the store.
//!
//! | address | store |
//! |---|---|
//! | `sled:<folder>` | the embedded one, of one broker |
//! | `etcd:<url>[,<url>…][/<prefix>]` | an etcd cluster's, of any number of brokers; the prefix is `homeward` if there is none |

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

use crate::storage::Store;
#[cfg(feature = "etcd")]
use crate::storage::etcd::{self, EtcdStore};
use crate::storage::sled::{OpenError as SledOpenError, SledStore};

/// What the keys in an etcd begin with, unless the address says it.
const PREFIX: &str = "homeward";

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// In a folder of this machine.
    Sled(PathBuf),
    /// In an etcd cluster.
    Etcd {
        /// Its members, as clients reach them: `http` or `https`, host and port.
        endpoints: Vec<Url>,
        /// What all keys begin with, without slashes at its ends.
        prefix: String,
    },
}

/// How an etcd knows this broker, and this broker the etcd. All of it in files, none of it in the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdAccess {
    /// CAs that signed the members' certificates, as PEM; those of the machine if unset.
    pub ca_file: Option<PathBuf>,
    /// This broker's certificate chain and private key, as PEM.
    pub certificate_and_key_files: Option<(PathBuf, PathBuf)>,
    /// A user of etcd and the file with its password.
    pub user_and_password_file: Option<(String, PathBuf)>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded one.
    #[error(transparent)]
    Sled(#[from] SledOpenError),
    /// An etcd.
    #[cfg(feature = "etcd")]
    #[error(transparent)]
    Etcd(#[from] etcd::OpenError),
    /// It was built without.
    #[cfg(not(feature = "etcd"))]
    #[error("this program was built without etcd: build it with `--features etcd`")]
    NoEtcd,
}

impl OpenError {
    /// Whether it may be another matter in a moment, and nobody has to do anything about it here.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Sled(_) => false,
            #[cfg(feature = "etcd")]
            Self::Etcd(error) => matches!(error, etcd::OpenError::Unusable { may_pass: true, .. }),
            #[cfg(not(feature = "etcd"))]
            Self::NoEtcd => false,
        }
    }
}

/// Opens a store, or makes an empty one where there is none.
///
/// # Errors
/// One sentence on why it cannot be used.
#[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "only an etcd is to be got into"))]
pub async fn open(address: &StoreAddress, access: &EtcdAccess) -> Result<Arc<dyn Store>, OpenError> {
    match address {
        StoreAddress::Sled(folder) => Ok(Arc::new(SledStore::open(folder)?)),
        #[cfg(feature = "etcd")]
        StoreAddress::Etcd { endpoints, prefix } => Ok(Arc::new(EtcdStore::open(endpoints, prefix, access).await?)),
        #[cfg(not(feature = "etcd"))]
        StoreAddress::Etcd { .. } => Err(OpenError::NoEtcd),
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no store: write sled:<folder>, or etcd:https://host:2379 with further members behind commas")]
pub struct StoreAddressError(String);

impl FromStr for StoreAddress {
    type Err = StoreAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || StoreAddressError(text.to_owned());
        match text.split_once(':') {
            Some(("sled", folder)) if !folder.is_empty() => Ok(Self::Sled(folder.into())),
            Some(("etcd", rest)) => etcd(rest).ok_or_else(refused),
            _ => Err(refused()),
        }
    }
}

/// Members behind commas; the path of the last one is the prefix.
fn etcd(text: &str) -> Option<StoreAddress> {
    let mut endpoints = text.split(',').map(|url| Url::parse(url).ok()).collect::<Option<Vec<_>>>()?;
    let last = endpoints.last_mut()?;
    let prefix = match last.path().trim_matches('/') {
        "" => PREFIX.to_owned(),
        path => path.to_owned(),
    };
    last.set_path("");
    let member = |url: &Url| {
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none() && bare
    };
    endpoints.iter().all(member).then_some(StoreAddress::Etcd { endpoints, prefix })
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sled(folder) => write!(f, "sled:{}", folder.display()),
            Self::Etcd { endpoints, prefix } => {
                let members: Vec<_> = endpoints.iter().map(|url| url.origin().ascii_serialization()).collect();
                write!(f, "etcd:{}/{prefix}", members.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_were_read() {
        for (text, written) in [
            ("sled:/var/lib/homeward-broker/store", "sled:/var/lib/homeward-broker/store"),
            ("etcd:http://127.0.0.1:2379", "etcd:http://127.0.0.1:2379/homeward"),
            ("etcd:https://a:2379,https://b:2379/fed/one/", "etcd:https://a:2379,https://b:2379/fed/one"),
        ] {
            let address: StoreAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_store_gets_a_sentence() {
        for text in [
            "",
            "sled:",
            "/var/lib",
            "etcd:",
            "etcd:a:2379",
            "etcd:ftp://a:2379",
            "etcd:http://user:secret@a:2379",
            "etcd:http://a:2379/x,http://b:2379",
            "etcd:http://a:2379?x",
        ] {
            assert!(text.parse::<StoreAddress>().is_err(), "{text}");
        }
    }
}
