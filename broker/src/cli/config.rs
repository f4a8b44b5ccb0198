//! `homeward-broker config`.

mod check;
mod show;

use std::path::Path;

use clap::Subcommand;

use crate::cli::output::Output;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether a broker could start with the configuration: the file itself, and the folders, keys, certificates and
    /// passwords that it names, as whoever runs this may read them. Run it as the broker's user.
    Check,
    /// Show every setting that is in force and where its value comes from. What all brokers agree on is asked of the running
    /// broker.
    Show,
}

pub(super) async fn run(command: Command, config: &Config, file: &Path, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Check => check::run(config, file, output).await,
        Command::Show => show::run(config, file, output).await,
    }
}
