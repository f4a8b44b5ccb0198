//! Where the audit is kept, for how long, and who gets a copy.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::ConfigError;

/// Where the audit is kept, for how long, and who gets a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The folder, of this broker alone.
    pub dir: PathBuf,
    /// Days are deleted after so many; never if unset.
    pub keep_days: Option<u32>,
    /// Who gets a copy of each record.
    pub syslog: Option<SyslogAddress>,
}

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Another machine.
    Udp(SocketAddr),
}

impl FromStr for SyslogAddress {
    type Err = ConfigError;

    /// `unix:<path>` or `udp://<address>:<port>`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let path = text.strip_prefix("unix:").filter(|path| path.starts_with('/'));
        let address = text.strip_prefix("udp://").and_then(|address| address.parse().ok());
        path.map(|path| Self::Unix(path.into())).or(address.map(Self::Udp)).ok_or(ConfigError::Syslog)
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp://{address}"),
        }
    }
}
