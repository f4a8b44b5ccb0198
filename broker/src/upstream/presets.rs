//! Providers that are known by name: what is particular to each, and what to paste where. One data file each.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use crate::registry::{OauthDialect, UpstreamProtocol};

/// Names and files, in the order in which they are shown.
const FILES: [(&str, &str); 8] = [
    ("casdoor", include_str!("presets/casdoor.toml")),
    ("authentik", include_str!("presets/authentik.toml")),
    ("keycloak", include_str!("presets/keycloak.toml")),
    ("google", include_str!("presets/google.toml")),
    ("microsoft", include_str!("presets/microsoft.toml")),
    ("github", include_str!("presets/github.toml")),
    ("dingtalk", include_str!("presets/dingtalk.toml")),
    ("oidc", include_str!("presets/oidc.toml")),
];

/// The preset of a provider that has none of its own.
pub const ANY: &str = "oidc";

/// What is known of a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name people read.
    pub title: String,
    /// Its issuer, if all have the same.
    issuer: Option<String>,
    /// Where its discovery document is, if not below the issuer.
    discovery_url: Option<String>,
    /// What its issuers look like.
    pub issuer_form: Option<String>,
    /// Which one it is.
    pub issuer_advice: Option<String>,
    /// What it speaks, if not OpenID Connect.
    oauth: Option<Endpoints>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where what is known of a user stands, if not in the standard claims.
    pub fields: BTreeMap<String, String>,
    /// What to paste where.
    pub setup: Setup,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoints {
    authorization_url: String,
    token_url: String,
    user_url: String,
    dialect: OauthDialect,
}

/// What to paste where. `{callback}` and `{name}` stand for those of the home.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// One sentence each.
    pub steps: Vec<String>,
    /// What the broker is told afterwards.
    pub command: String,
}

/// Why a preset and an issuer are no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// It is somebody's own.
    #[error("this provider needs --issuer")]
    IssuerMissing,
    /// Not an address.
    #[error("--issuer must be the address of the server, such as https://git.example.org")]
    IssuerNotAnAddress,
}

impl Preset {
    /// All names, in the order in which they are shown.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.into_iter().map(|(name, _)| name)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = FILES.into_iter().find(|(known, _)| *known == name)?;
        // A test reads them all.
        toml::from_str(text).ok()
    }

    /// What the provider speaks, at this issuer if it is somebody's own. Of a server that only speaks OAuth it is the
    /// origin: its paths are the same.
    ///
    /// # Errors
    /// When the issuer is missing, or no address.
    pub fn protocol(&self, issuer: Option<String>) -> Result<UpstreamProtocol, PresetError> {
        match (&self.oauth, issuer, &self.issuer) {
            (Some(oauth), issuer, _) => {
                let at = |address: &str| moved(address, issuer.as_deref());
                Ok(UpstreamProtocol::Oauth {
                    authorization_url: at(&oauth.authorization_url)?,
                    token_url: at(&oauth.token_url)?,
                    user_url: at(&oauth.user_url)?,
                    dialect: oauth.dialect,
                })
            }
            // One that is somebody's own has its document below itself.
            (None, Some(issuer), _) => Ok(UpstreamProtocol::OpenId { issuer, discovery_url: None }),
            (None, None, Some(issuer)) => {
                Ok(UpstreamProtocol::OpenId { issuer: issuer.clone(), discovery_url: self.discovery_url.clone() })
            }
            (None, None, None) => Err(PresetError::IssuerMissing),
        }
    }
}

/// An address at another origin.
fn moved(address: &str, origin: Option<&str>) -> Result<String, PresetError> {
    let Some(origin) = origin else { return Ok(address.to_owned()) };
    let read = |text: &str| Url::parse(text).map_err(|_| PresetError::IssuerNotAnAddress);
    let origin = read(origin)?.origin();
    if !origin.is_tuple() {
        return Err(PresetError::IssuerNotAnAddress);
    }
    Ok(format!("{}{}", origin.ascii_serialization(), read(address)?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Issuer;
    use crate::registry::{InstanceId, Upstream, UpstreamSecret};
    use crate::secret::SealingKeys;

    #[test]
    fn each_preset_keeps_the_rules_of_a_home() {
        let (sealing, broker) = (SealingKeys::new_for_test(), Issuer::parse("https://login.example").unwrap());
        for (name, text) in FILES {
            let preset: Preset = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let issuer = preset.issuer_form.clone().filter(|_| preset.issuer.is_none());
            let upstream = Upstream {
                name: name.parse().unwrap(),
                id: InstanceId::generate(),
                display_name: preset.title.clone(),
                protocol: preset.protocol(issuer).unwrap(),
                client_id: "id".into(),
                client_secret: UpstreamSecret::seal(&sealing, "s3cret").unwrap(),
                scopes: preset.scopes.clone(),
                fields: preset.fields.clone(),
                required: BTreeMap::new(),
                updated_at: crate::clock::Timestamp::from_secs(0),
            };
            upstream.check(&broker).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(preset.setup.steps.iter().any(|step| step.contains("{callback}")), "{name}");
            assert!(preset.setup.command.contains(&format!("upstream add {{name}} --preset {name} ")), "{name}");
        }
    }

    #[test]
    fn an_issuer_is_given_where_there_is_more_than_one() {
        assert_eq!(Preset::named("casdoor").unwrap().protocol(None).err(), Some(PresetError::IssuerMissing));
        let github = Preset::named("github").unwrap();
        let own = github.protocol(Some("https://git.example:8443/".into())).unwrap();
        let UpstreamProtocol::Oauth { token_url, user_url, .. } = own else { panic!() };
        assert_eq!(token_url, "https://git.example:8443/login/oauth/access_token");
        assert_eq!(user_url, "https://git.example:8443/user");
        assert_eq!(github.protocol(Some("git".into())).err(), Some(PresetError::IssuerNotAnAddress));
        let microsoft = Preset::named("microsoft").unwrap();
        let UpstreamProtocol::OpenId { discovery_url, .. } = microsoft.protocol(None).unwrap() else { panic!() };
        assert!(discovery_url.unwrap().contains("/organizations/"));
        let one_tenant = microsoft.protocol(Some("https://login.microsoftonline.com/t/v2.0".into())).unwrap();
        assert!(matches!(one_tenant, UpstreamProtocol::OpenId { discovery_url: None, .. }));
        assert!(Preset::named("../secret").is_none());
    }
}
