//! Configuration: the file as it is written ([`raw`]) and what it comes to ([`Config`]): addresses parsed, the recipe
//! loaded, relations checked. Each part of the agent gets its own section and sees no more.

pub mod error;
pub mod gate;
pub mod home;
pub mod operator_page;
pub mod provider;
pub mod raw;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use homeward_telemetry::settings::Settings;
use ipnet::IpNet;
use serde::Deserialize;
use url::{Host, Url};

use self::error::ConfigError;
use self::gate::GateConfig;
use self::home::HomeConfig;
use self::operator_page::OperatorPageConfig;
use self::raw::RawConfig;
use crate::apply::owner::Owner;
use crate::parameters::Parameters;
use crate::recipe::Recipe;
use crate::recipe::library::Library;

/// What the file comes to.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where browsers reach the application: scheme and authority.
    pub public_url: PublicUrl,
    /// The name that people read; the instance's if empty.
    pub display_name: String,
    /// Where the agent keeps what it must not lose.
    pub data_dir: PathBuf,
    /// What the agent knows of the application.
    pub recipe: Recipe,
    /// Where the agent reaches the application.
    pub app_url: Url,
    /// What the recipe asks to know of this installation.
    pub parameters: Parameters,
    /// The application as relying party.
    pub relying_party: Option<RelyingPartyConfig>,
    /// The agent as relying party in the application's stead.
    pub gate: Option<GateConfig>,
    /// The application as home.
    pub home: Option<HomeConfig>,
    /// The agent's portal.
    pub portal: PortalConfig,
    /// Who may watch, and what the log looks like.
    pub telemetry: Settings,
    /// Where the operator looks at it with a browser; nowhere if unset.
    pub operator_page: Option<OperatorPageConfig>,
}

/// Where browsers reach the application: `https`, or `http` on a loopback host; no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

/// Where credentials go, for whom, and what to run then.
#[derive(Debug, Clone)]
pub struct RelyingPartyConfig {
    /// The recipe's way of writing; its first if unset.
    pub way: Option<String>,
    /// `current` in here leads to the files; set if the way has files.
    pub credentials_dir: Option<PathBuf>,
    /// Who may read them.
    pub owner: Owner,
    /// Program and arguments; nothing is run if empty.
    pub reload: Vec<String>,
}

/// The agent's portal.
#[derive(Debug, Clone)]
pub struct PortalConfig {
    /// Plain HTTP.
    pub listen: SocketAddr,
    /// What the reverse proxy passes on: begins and ends with a slash.
    pub path: String,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Config {
    /// What a file says of the log. Of a file that cannot be read, somebody else complains.
    pub fn telemetry(path: &Path) -> Settings {
        #[derive(Deserialize)]
        struct Log {
            #[serde(default)]
            telemetry: Settings,
        }
        let log = std::fs::read_to_string(path).ok().and_then(|text| toml::from_str::<Log>(&text).ok());
        log.map(|log| log.telemetry).unwrap_or_default()
    }

    /// The recipes that a file leads to. The rest of it is looked at by nobody: whoever chooses a recipe has not written
    /// it yet, and without a file there are those that come with the agent.
    pub fn library(path: &Path) -> Library {
        #[derive(Deserialize)]
        struct Folders {
            #[serde(default)]
            recipe_dirs: Vec<PathBuf>,
        }
        let folders = std::fs::read_to_string(path).ok().and_then(|text| toml::from_str::<Folders>(&text).ok());
        Library::new(folders.map(|folders| folders.recipe_dirs).unwrap_or_default())
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let raw: RawConfig = toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })?;
        Self::try_from(raw)
    }

    /// Where the operator's page listens.
    pub(crate) fn page_address(&self) -> Option<SocketAddr> {
        self.operator_page.as_ref().map(|page| page.listen)
    }

    /// Whether browsers are to reach the portal.
    pub(crate) fn has_portal(&self) -> bool {
        let role = self.relying_party.as_ref().and(self.recipe.relying_party.as_ref());
        self.home.is_some() || role.is_some_and(|role| role.gate.is_some())
    }

    /// Where a login at this home starts, for the broker to send browsers to.
    pub fn portal_url(&self) -> String {
        format!("{}{}login", self.public_url.origin(), self.portal.path)
    }

    /// Where logins come back to when the agent itself is the relying party.
    pub fn gate_callback_url(&self) -> String {
        format!("{}{}gate/callback", self.public_url.origin(), self.portal.path)
    }
}

impl TryFrom<Url> for PublicUrl {
    type Error = ConfigError;

    fn try_from(url: Url) -> Result<Self, ConfigError> {
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        // RFC 6761 6.3: names below localhost are this machine to browsers.
        let local_name = url.domain().is_some_and(|name| name.ends_with(".localhost"));
        let safe = url.scheme() == "https" || (url.scheme() == "http" && (local_name || is_loopback(&url)));
        if bare && anonymous && safe && url.has_host() { Ok(Self(url)) } else { Err(ConfigError::PublicUrl) }
    }
}

impl PublicUrl {
    /// Scheme, host and port, without a slash at the end.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Host, and port if it is not the scheme's own: what browsers send as `Host`.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Host only: what cookies are for.
    pub fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().to_owned()
    }

    /// `https`, or `http`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Whether browsers come over TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
