//! The sections `[home.oidc]` and `[home.simple_sso]`: the application as a provider of logins, whose client the agent is.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::PublicUrl;
use super::error::ConfigError;
use super::home::HomeMethod;
use crate::recipe::{AppPath, Recipe};

/// The application as OpenID provider, as far as the recipe does not say it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcClientConfig {
    /// Its issuer, exactly as it spells it; public_url and the recipe's path if unset.
    pub issuer: Option<String>,
    /// The client, if the operator has made it.
    pub client_id: Option<String>,
    /// Where its secret is.
    pub client_secret_file: Option<PathBuf>,
    /// CAs that may vouch for the provider beside those that this machine trusts.
    pub ca_file: Option<PathBuf>,
}

/// The agent as client of a server of django-simple-sso.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleSsoClientConfig {
    /// The Consumer's public key.
    pub public_key: String,
    /// Where its private key is.
    pub private_key_file: PathBuf,
    /// Where the server is mounted, with a slash at the end; as the recipe says if unset.
    pub server_path: Option<AppPath>,
}

impl SimpleSsoClientConfig {
    fn is_usable(&self) -> bool {
        let mounted = self.server_path.as_ref().is_none_or(|path| path.as_str().ends_with('/'));
        self.private_key_file.is_absolute() && !self.public_key.is_empty() && mounted
    }
}

/// Refuses what does not belong together.
pub(super) fn check(
    methods: &[HomeMethod],
    oidc: &OidcClientConfig,
    simple_sso: Option<&SimpleSsoClientConfig>,
    recipe: &Recipe,
) -> Result<(), ConfigError> {
    if methods.contains(&HomeMethod::SimpleSso) != simple_sso.is_some() {
        return Err(ConfigError::MethodSection(HomeMethod::SimpleSso));
    }
    if simple_sso.is_some_and(|client| !client.is_usable()) {
        let problem =
            "needs public_key, private_key_file as an absolute path, and if it has a server_path, a slash at its end";
        return Err(ConfigError::Provider(HomeMethod::SimpleSso, problem));
    }
    let refused = |problem| Err(ConfigError::Provider(HomeMethod::Oidc, problem));
    let uses = methods.contains(&HomeMethod::Oidc);
    let said = oidc.issuer.is_some() || oidc.client_id.is_some() || oidc.client_secret_file.is_some();
    if !uses && (said || oidc.ca_file.is_some()) {
        return Err(ConfigError::MethodSection(HomeMethod::Oidc));
    }
    if oidc.client_id.is_some() != oidc.client_secret_file.is_some() {
        return refused("client_id and client_secret_file belong together");
    }
    if oidc.client_secret_file.iter().chain(&oidc.ca_file).any(|path| path.is_relative()) {
        return refused("client_secret_file and ca_file must be absolute paths");
    }
    if oidc.issuer.as_ref().is_some_and(|issuer| !is_issuer(issuer)) {
        return refused("issuer must be https (http on this machine), without query");
    }
    let of_recipe = recipe.home.as_ref().and_then(|home| home.oidc.as_ref()).filter(|_| uses);
    if of_recipe.is_some_and(|recipe| recipe.issuer_path.is_none() && oidc.issuer.is_none()) {
        return refused("set issuer: the recipe does not know it");
    }
    if of_recipe.is_some_and(|recipe| recipe.client.is_empty() && oidc.client_id.is_none()) {
        return refused("set client_id and client_secret_file: the recipe makes no client there");
    }
    Ok(())
}

/// OpenID Connect Core 2: no query, no fragment.
fn is_issuer(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let mut origin = url.clone();
    origin.set_path("/");
    url.query().is_none() && url.fragment().is_none() && PublicUrl::try_from(origin).is_ok()
}
