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
    output.say("The configuration can be used.", &json!({"ok": true, "public_url": config.issuer}));
    Ok(())
}
