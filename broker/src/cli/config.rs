//! `homeward-broker config`.

use clap::Subcommand;
use serde_json::json;

use crate::cli::output::Output;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether the configuration file can be used, and what is wrong if not.
    Check,
}

/// The file was read already: what is wrong has been said.
pub(super) fn check(config: &Config, output: Output) -> anyhow::Result<()> {
    let public_url = config.federation.as_ref().map(|federation| &federation.issuer);
    output.say("The configuration can be used.", &json!({"ok": true, "public_url": public_url}));
    Ok(())
}
