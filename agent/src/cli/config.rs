//! `homeward-agent config check`: what is wrong with a configuration file, before it is used.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Report, load};

/// The configuration file.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Reads it and says what it comes to, or what is wrong with it.
    Check,
}

impl ConfigVerb {
    pub(super) fn carry_out(self, path: &Path, report: Report) -> Result<(), Failure> {
        let Self::Check = self;
        let config = load(path)?;
        let credentials = config.relying_party.as_ref().and_then(|role| role.credentials_dir.as_ref());
        let credentials = credentials.map(|folder| folder.display().to_string());
        let portal = config.home.as_ref().map(|_| config.portal_url());
        report.one(&[
            ("public_url", json!(config.public_url.origin())),
            ("recipe", json!(config.recipe.name)),
            ("application", json!(config.app_url.as_str())),
            ("relying_party_credentials", json!(credentials)),
            ("home_portal", json!(portal)),
            ("portal_listens_on", json!(config.portal.listen.to_string())),
            ("operator_page_listens_on", json!(config.page_address().map(|address| address.to_string()))),
        ]);
        Ok(())
    }
}
