//! Why a configuration is refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use super::home::HomeMethod;
use crate::apply::owner::OwnerError;
use crate::recipe::RecipeError;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file.
    #[error("cannot read {path}: {source}; --config names another file", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a wrong type.
    #[error("{path}: {source}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Not what browsers can be sent to.
    #[error(
        "public_url must be https without a path (http only for a loopback host), for example https://alpha.example.org"
    )]
    PublicUrl,
    /// Users' cookies and passwords would leave the machine.
    #[error("[app] url must be plain http on this machine, for example http://127.0.0.1:8000: users' cookies go there")]
    AppUrl,
    /// Two, or none.
    #[error(
        "set either recipe or recipe_file; `homeward-agent recipe list` names the recipes that come with the agent"
    )]
    OneRecipe,
    /// The recipe does not load.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Neither role.
    #[error("set [relying_party], [home] or both: with neither there is nothing to do")]
    NoRole,
    /// The recipe has no such role.
    #[error("the recipe {recipe} cannot be used as {role}: leave out [{role}] or take another recipe{}", hint(role))]
    RoleNotInRecipe {
        /// Its name.
        recipe: String,
        /// The table.
        role: &'static str,
    },
    /// The recipe does not know that method.
    #[error(
        "the recipe {recipe} does not support the home method {method}; only \"ldap\" and \"file\" need nothing of it"
    )]
    MethodNotInRecipe {
        /// Its name.
        recipe: String,
        /// The method.
        method: HomeMethod,
    },
    /// A value that nobody asks for.
    #[error(
        "[app.parameters] {parameter}: the recipe {recipe} asks for no such thing; see `homeward-agent recipe show {recipe}`"
    )]
    UnknownParameter {
        /// Its name.
        recipe: String,
        /// The parameter.
        parameter: String,
    },
    /// None, or one twice.
    #[error(
        "[home] methods must name at least one method, and each once; \"session\" and \"password\" are the usual ones"
    )]
    Methods,
    /// Users of two kinds.
    #[error(
        "[home] methods: \"{0}\" must stand alone: its users are others than the application's, and each needs one identifier"
    )]
    MethodAlone(HomeMethod),
    /// One without the other.
    #[error("[home] methods with \"{0}\" and the section [home.{0}] belong together: set both or neither")]
    MethodSection(HomeMethod),
    /// The application as a provider of logins.
    #[error("[home.{0}] {1}")]
    Provider(HomeMethod, &'static str),
    /// Where passwords would leak, or fit anybody.
    #[error("[home.ldap] {0}")]
    Ldap(&'static str),
    /// Not a path.
    #[error(
        "[portal] path must begin and end with a slash and use a-z, A-Z, 0-9, -, _ and . only, for example /homeward/"
    )]
    PortalPath,
    /// Neither.
    #[error(
        "[portal] trusted_proxies: {0:?} is neither an address nor a network: write it like 10.0.0.7 or 10.0.0.0/8"
    )]
    TrustedProxy(String),
    /// Whoever reaches the page may read it.
    #[error(
        "[operator_page] listen: {0} can be reached from elsewhere, and the page asks nobody who he is: take an address of this machine, for example 127.0.0.1:9446, and put a reverse proxy that asks before it"
    )]
    OperatorPageListen(SocketAddr),
    /// Not one host.
    #[error("[operator_page] hosts: {0:?} must be one name without port, for example beta.example.org")]
    OperatorPageHost(String),
    /// No such user or group.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// No such way.
    #[error("the recipe {recipe} has no way {way:?} of writing; its ways are: {}", known.join(", "))]
    UnknownWay {
        /// Its name.
        recipe: String,
        /// The way.
        way: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The section [gate].
    #[error("[gate] {0}")]
    Gate(&'static str),
    /// Nowhere to write.
    #[error("set [relying_party] credentials_dir: the recipe has files to write")]
    NoCredentialsDir,
    /// A folder that the application cannot enter.
    #[error("credentials_dir must be outside data_dir when owner is set: data_dir is closed to everyone but the agent")]
    CredentialsInDataDir,
    /// A path that depends on where the agent was started.
    #[error("{0} must be an absolute path")]
    RelativePath(&'static str),
    /// Too long, or with control characters.
    #[error("display_name may have 64 characters, none of them control characters")]
    DisplayName,
}

/// What else a home could be.
fn hint(role: &str) -> &'static str {
    if role == "home" { "; only the home methods \"ldap\" and \"file\" need nothing of it" } else { "" }
}
