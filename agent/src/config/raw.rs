//! The file as it is written, and the way from there to a [`Config`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use homeward_telemetry::settings::Settings;
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use super::error::ConfigError;
use super::gate::RawGate;
use super::home::RawHome;
use super::operator_page::RawOperatorPage;
use super::{Config, PortalConfig, PublicUrl, RelyingPartyConfig, is_loopback};
use crate::apply::owner::Owner;
use crate::parameters::Parameters;
use crate::recipe::Recipe;
use crate::recipe::library::Library;
use crate::recipe::way::Target;

/// The file as it is written. `deploy/agent.toml` documents it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Where browsers reach the application.
    public_url: Url,
    /// The name that people read.
    display_name: Option<String>,
    /// Where the agent keeps what it must not lose.
    data_dir: PathBuf,
    /// A recipe by its name.
    recipe: Option<String>,
    /// Folders with the operator's own recipes, which go before those that come with the agent.
    #[serde(default)]
    recipe_dirs: Vec<PathBuf>,
    /// One recipe of the operator's own.
    recipe_file: Option<PathBuf>,
    /// The application.
    app: RawApp,
    /// The application as relying party.
    relying_party: Option<RawRelyingParty>,
    /// The agent as relying party in the application's stead.
    gate: Option<RawGate>,
    /// The application as home.
    home: Option<RawHome>,
    /// The agent's portal.
    #[serde(default)]
    portal: RawPortal,
    /// Who watches.
    #[serde(default)]
    telemetry: Settings,
    /// Where the operator looks at it.
    operator_page: Option<RawOperatorPage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    url: Url,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRelyingParty {
    way: Option<String>,
    credentials_dir: Option<PathBuf>,
    owner: Option<String>,
    group: Option<String>,
    #[serde(default)]
    reload: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPortal {
    listen: SocketAddr,
    path: String,
    trusted_proxies: Vec<String>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let display_name = raw.display_name.unwrap_or_default();
        if display_name.chars().count() > 64 || display_name.chars().any(char::is_control) {
            return Err(ConfigError::DisplayName);
        }
        if raw.data_dir.is_relative() {
            return Err(ConfigError::RelativePath("data_dir"));
        }
        if raw.recipe_dirs.iter().any(|folder| folder.is_relative()) {
            return Err(ConfigError::RelativePath("recipe_dirs"));
        }
        let recipe = match (&raw.recipe, &raw.recipe_file) {
            (Some(name), None) => Library::new(raw.recipe_dirs).find(name)?,
            (None, Some(path)) => Recipe::load(path)?,
            (None, None) | (Some(_), Some(_)) => return Err(ConfigError::OneRecipe),
        };
        if let Some(name) = raw.app.parameters.keys().find(|name| !recipe.parameters.contains_key(*name)) {
            return Err(ConfigError::UnknownParameter { recipe: recipe.name, parameter: name.clone() });
        }
        if raw.relying_party.is_none() && raw.home.is_none() {
            return Err(ConfigError::NoRole);
        }
        let relying_party = raw.relying_party.map(|raw_role| raw_role.check(&raw.data_dir, &recipe)).transpose()?;
        let gate = RawGate::check(raw.gate, relying_party.as_ref().and(recipe.relying_party.as_ref()))?;
        let home = raw.home.map(|home| home.check(&recipe)).transpose()?;
        Ok(Self {
            public_url: PublicUrl::try_from(raw.public_url)?,
            display_name,
            data_dir: raw.data_dir,
            app_url: check_app_url(raw.app.url)?,
            parameters: Parameters::new(&recipe.parameters, &raw.app.parameters),
            recipe,
            relying_party,
            gate,
            home,
            portal: raw.portal.check()?,
            telemetry: raw.telemetry,
            operator_page: raw.operator_page.map(RawOperatorPage::check).transpose()?,
        })
    }
}

impl RawRelyingParty {
    fn check(self, data_dir: &Path, recipe: &Recipe) -> Result<RelyingPartyConfig, ConfigError> {
        let name = || recipe.name.clone();
        let no_role = || ConfigError::RoleNotInRecipe { recipe: name(), role: "relying_party" };
        let role = recipe.relying_party.as_ref().ok_or_else(no_role)?;
        let way = role.way(self.way.as_deref());
        if let (Some(way), true) = (&self.way, way.is_none()) {
            let known = role.ways.iter().map(|way| way.name.clone()).collect();
            return Err(ConfigError::UnknownWay { recipe: name(), way: way.clone(), known });
        }
        let has_files = way.is_some_and(|way| matches!(way.target, Target::Files(_)));
        if has_files && self.credentials_dir.is_none() {
            return Err(ConfigError::NoCredentialsDir);
        }
        if self.credentials_dir.as_ref().is_some_and(|folder| folder.is_relative()) {
            return Err(ConfigError::RelativePath("[relying_party] credentials_dir"));
        }
        if self.owner.is_some() && self.credentials_dir.as_ref().is_some_and(|folder| folder.starts_with(data_dir)) {
            return Err(ConfigError::CredentialsInDataDir);
        }
        let owner = Owner::resolve(self.owner.as_deref(), self.group.as_deref())?;
        Ok(RelyingPartyConfig { way: self.way, credentials_dir: self.credentials_dir, owner, reload: self.reload })
    }
}

impl RawPortal {
    fn check(self) -> Result<PortalConfig, ConfigError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let dotted = self.path.split('/').any(|segment| segment == "." || segment == "..");
        let slashes = self.path.starts_with('/') && self.path.ends_with('/') && !self.path.contains("//");
        if !slashes || dotted || !self.path.chars().all(legal) {
            return Err(ConfigError::PortalPath);
        }
        let trusted_proxies = self.trusted_proxies.iter().map(|text| proxies(text)).collect::<Result<_, _>>()?;
        Ok(PortalConfig { listen: self.listen, path: self.path, trusted_proxies })
    }
}

impl Default for RawPortal {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9811)),
            path: "/homeward/".to_owned(),
            trusted_proxies: vec!["127.0.0.1".to_owned(), "::1".to_owned()],
        }
    }
}

/// Reverse proxies by their network; an address is a network of one.
fn proxies(text: &str) -> Result<IpNet, ConfigError> {
    let address = || text.parse::<IpAddr>().ok().map(|address| address.to_canonical().into());
    text.parse().ok().or_else(address).ok_or_else(|| ConfigError::TrustedProxy(text.to_owned()))
}

fn check_app_url(url: Url) -> Result<Url, ConfigError> {
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if url.scheme() == "http" && is_loopback(&url) && bare { Ok(url) } else { Err(ConfigError::AppUrl) }
}

#[cfg(test)]
mod tests {
    use super::super::home::HomeMethod;
    use super::*;
    use crate::recipe::RecipeError;

    const GOOD: &str = r#"
        public_url = "https://alpha.example.org"
        data_dir = "/var/lib/homeward-agent"
        recipe = "django-allauth"
        [app]
        url = "http://127.0.0.1:8000"
        [relying_party]
        credentials_dir = "/var/lib/homeward-credentials"
        [home]
        [portal]
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|source| ConfigError::Malformed { path: PathBuf::from("agent.toml"), source: Box::new(source) })?;
        Config::try_from(raw)
    }

    fn refused(from: &str, to: &str) -> ConfigError {
        assert!(GOOD.contains(from));
        parse(&GOOD.replace(from, to)).unwrap_err()
    }

    #[test]
    fn the_reference_file_parses() {
        let config = Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/agent.toml"))).unwrap();
        assert_eq!(config.portal_url(), "https://alpha.example.org/homeward/login");
        assert_eq!(config.public_url.authority(), "alpha.example.org");
    }

    #[test]
    fn defaults_are_those_of_the_reference_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.home.unwrap().methods, [HomeMethod::Session, HomeMethod::Password]);
        assert_eq!(config.portal.listen.to_string(), "127.0.0.1:9811");
        assert_eq!(config.portal.path, "/homeward/");
        assert_eq!(config.portal.trusted_proxies.len(), 2);
    }

    #[test]
    fn proxies_are_named_by_address_or_network() {
        let with = |one: &str| parse(&GOOD.replace("[portal]", &format!("[portal]\ntrusted_proxies = [\"{one}\"]")));
        for (written, network) in [
            ("10.0.0.7", "10.0.0.7/32"),
            ("10.20.0.0/16", "10.20.0.0/16"),
            ("fd00:20::/32", "fd00:20::/32"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
        ] {
            assert_eq!(with(written).unwrap().portal.trusted_proxies, [network.parse().unwrap()], "{written}");
        }
        for bad in ["10.20.0.0/33", "proxy.example.org", ""] {
            assert!(matches!(with(bad), Err(ConfigError::TrustedProxy(_))), "{bad}");
        }
    }

    #[test]
    fn addresses_that_would_leak_are_refused() {
        for bad in
            ["http://alpha.example.org", "https://alpha.example.org/app", "https://u:p@alpha.example.org", "ftp://x"]
        {
            assert!(matches!(refused("https://alpha.example.org", bad), ConfigError::PublicUrl), "{bad}");
        }
        for bad in ["http://10.0.0.7:8000", "https://127.0.0.1:8000", "http://app:8000", "http://127.0.0.1:8000/x"] {
            assert!(matches!(refused("http://127.0.0.1:8000", bad), ConfigError::AppUrl), "{bad}");
        }
        parse(&GOOD.replace("https://alpha.example.org", "http://127.0.0.2:8080")).unwrap();
        parse(&GOOD.replace("http://127.0.0.1:8000", "http://[::1]:8000")).unwrap();
    }

    #[test]
    fn unknown_keys_and_contradictions_are_refused() {
        assert!(matches!(refused("[home]", "[home]\ncolour = 1"), ConfigError::Malformed { .. }));
        assert!(matches!(refused("recipe = \"django-allauth\"", ""), ConfigError::OneRecipe));
        assert!(matches!(refused("recipe =", "recipe_file = \"/x\"\nrecipe ="), ConfigError::OneRecipe));
        assert!(matches!(refused("\"django-allauth\"", "\"nonsense\""), ConfigError::Recipe(RecipeError::Unknown(_))));
        assert!(matches!(refused("[home]", "[home]\nmethods = []"), ConfigError::Methods));
        assert!(matches!(refused("[home]", "[home]\nmethods = [\"session\", \"session\"]"), ConfigError::Methods));
        assert!(matches!(refused("\"/var/lib/homeward-agent\"", "\"agent\""), ConfigError::RelativePath(_)));
        for path in ["homeward", "/homeward", "/../", "/a b/", "//"] {
            assert!(matches!(refused("[portal]", &format!("[portal]\npath = \"{path}\"")), ConfigError::PortalPath));
        }
        let inside = "\"/var/lib/homeward-agent/x\"\nowner = \"root\"";
        assert!(matches!(refused("\"/var/lib/homeward-credentials\"", inside), ConfigError::CredentialsInDataDir));
        let stranger = "\"/srv/x\"\nowner = \"no-such-user-here\"";
        assert!(matches!(refused("\"/var/lib/homeward-credentials\"", stranger), ConfigError::Owner(_)));
    }

    #[test]
    fn a_way_is_one_of_the_recipes_and_has_what_it_needs() {
        let with = |lines: &str| parse(&GOOD.replace("credentials_dir = \"/var/lib/homeward-credentials\"", lines));
        assert!(matches!(with(""), Err(ConfigError::NoCredentialsDir)));
        let error = with("way = \"nonsense\"").unwrap_err();
        assert!(matches!(error, ConfigError::UnknownWay { .. }) && error.to_string().contains("database"), "{error}");
        let config = with("way = \"database\"").unwrap().relying_party.unwrap();
        assert_eq!((config.way.as_deref(), config.credentials_dir), (Some("database"), None));
    }

    #[test]
    fn a_gate_needs_no_folder_and_its_clients_are_checked() {
        let with = |recipe: &str, gate: &str| {
            parse(&format!(
                "public_url = 'https://beta.example'\ndata_dir = '/var/lib/agent'\nrecipe = '{recipe}'\n\
                 [app]\nurl = 'http://127.0.0.1:1'\n[relying_party]\n{gate}"
            ))
        };
        let config = with("nginx-auth-request", "").unwrap();
        assert_eq!(config.gate.as_ref().unwrap().speaks, crate::recipe::relying_party::Gate::AuthRequest);
        assert_eq!(config.gate_callback_url(), "https://beta.example/homeward/gate/callback");
        let client = |rest: &str| format!("{{ public_key = 'p1', private_key_file = '/k', redirect = '{rest}' }}");
        let good = client("https://app.example/client/");
        let sso = |clients: &str| with("django-simple-sso", &format!("[gate]\nclients = [{clients}]"));
        assert_eq!(sso(&good).unwrap().gate.unwrap().clients.len(), 1);
        for bad in [
            String::new(),
            format!("{good}, {good}"),
            client("https://app.example/client"),
            client("ftp://app.example/"),
            good.replace("/k", "k"),
            good.replace("p1", "p 1"),
        ] {
            assert!(matches!(sso(&bad), Err(ConfigError::Gate(_))), "{bad}");
        }
        let stray = with("nginx-auth-request", &format!("[gate]\nclients = [{good}]"));
        assert!(matches!(stray, Err(ConfigError::Gate(_))));
        let none = with("django-allauth", "credentials_dir = '/srv/c'\n[gate]");
        assert!(matches!(none, Err(ConfigError::Gate(_))));
        assert!(matches!(with("django-allauth", ""), Err(ConfigError::NoCredentialsDir)));
    }

    #[test]
    fn an_instance_without_a_role_has_nothing_to_do() {
        let text = GOOD.replace("[home]", "").replace("[relying_party]", "").replace("credentials_dir", "# ");
        assert!(matches!(parse(&text), Err(ConfigError::NoRole)));
    }
}
