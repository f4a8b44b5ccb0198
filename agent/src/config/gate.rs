//! The section `[gate]`: the agent itself is the relying party, because the recipe says so.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::error::ConfigError;
use crate::recipe::relying_party::{Gate, RelyingParty};

/// The agent as relying party in the application's stead.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// What it speaks to the application.
    pub speaks: Gate,
    /// CAs that the broker's public address may be vouched for by, beside those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// With [`Gate::SimpleSso`], whom it speaks to; at least one, none twice.
    pub clients: Vec<SsoClient>,
}

/// A client of django-simple-sso.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsoClient {
    /// What names it.
    pub public_key: String,
    /// Where its secret key is.
    pub private_key_file: PathBuf,
    /// Where its users come back to: what stands before `authenticate/` there.
    pub redirect: Url,
}

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGate {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    clients: Vec<SsoClient>,
}

impl RawGate {
    /// What it comes to, for a relying party that is configured; `None` if its recipe has no gate.
    pub(super) fn check(raw: Option<Self>, recipe: Option<&RelyingParty>) -> Result<Option<GateConfig>, ConfigError> {
        let Some(speaks) = recipe.and_then(|recipe| recipe.gate) else {
            return if raw.is_some() {
                Err(ConfigError::Gate("the recipe has no gate: leave the section out"))
            } else {
                Ok(None)
            };
        };
        let Self { ca_file, clients } = raw.unwrap_or_default();
        if ca_file.iter().chain(clients.iter().map(|client| &client.private_key_file)).any(|path| path.is_relative()) {
            return Err(ConfigError::Gate("ca_file and private_key_file must be absolute paths"));
        }
        if (speaks == Gate::SimpleSso) == clients.is_empty() {
            return Err(ConfigError::Gate(
                "clients are for recipes that speak django-simple-sso, and those need at least one",
            ));
        }
        clients.iter().try_for_each(SsoClient::check)?;
        let twice = |(position, client): (usize, &SsoClient)| {
            clients.iter().take(position).any(|other| other.public_key == client.public_key)
        };
        if clients.iter().enumerate().any(twice) {
            return Err(ConfigError::Gate("clients: each public_key is one client's"));
        }
        Ok(Some(GateConfig { speaks, ca_file, clients }))
    }
}

impl SsoClient {
    fn check(&self) -> Result<(), ConfigError> {
        let key = (1..=64).contains(&self.public_key.len()) && self.public_key.bytes().all(|b| b.is_ascii_graphic());
        if !key {
            return Err(ConfigError::Gate(
                "clients: public_key has 1 to 64 letters and digits, as the client's settings say it",
            ));
        }
        let plain = self.redirect.query().is_none() && self.redirect.fragment().is_none();
        let scheme = matches!(self.redirect.scheme(), "https" | "http") && self.redirect.username().is_empty();
        if !plain || !scheme || !self.redirect.path().ends_with('/') {
            return Err(ConfigError::Gate(
                "clients: redirect is an address that ends with a slash, for example https://app.example.org/client/",
            ));
        }
        Ok(())
    }
}
