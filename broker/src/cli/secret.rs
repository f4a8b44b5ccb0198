//! `homeward-broker secret`.

use clap::{Args, Subcommand};
use homeward_proto::v1;

use crate::cli::admin::connect;
use crate::cli::output::Output;
use crate::cli::rotation;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Turn client credentials now: a second one is good until the application has presented it, then the old one closes.
    Rotate {
        #[command(flatten)]
        whose: Whose,
        /// Somebody else has the secret: close it at once. Logins fail until the agent has brought in the new one.
        #[arg(long)]
        compromised: bool,
    },
    /// Take the turn of an instance's credential back: the new one is good no longer.
    Rollback {
        /// Name of the instance.
        #[arg(long)]
        instance: String,
    },
}

/// Whose credential.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// Of this instance.
    #[arg(long)]
    instance: Option<String>,
    /// Of all relying parties.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Rotate { whose, compromised } => {
            let subject = whose.instance.map_or_else(|| "secrets".to_owned(), |name| format!("secret/{name}"));
            rotation::begin(&mut admin, v1::BeginRotationRequest { subject, compromised }, output).await
        }
        Command::Rollback { instance } => rotation::roll_back(&mut admin, format!("secret/{instance}"), output).await,
    }
}
