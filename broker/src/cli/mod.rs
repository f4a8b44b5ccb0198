//! The commands: one file a noun. `init`, `serve`, `store` and `restore` work on the machine, everything else asks a running broker over its
//! Unix socket.
//!
//! Exit codes: 0 done, 1 refused with one sentence on stderr, 2 the command line itself is wrong.

mod admin;
mod audit;
mod backup;
mod broker;
mod ca;
mod client;
mod config;
mod console;
mod doctor;
mod explanation;
mod healthcheck;
mod init;
mod instance;
mod kek;
mod keys;
mod link;
mod output;
mod place;
mod registration;
mod reloading;
mod restore;
mod rotation;
mod secret;
mod serve;
mod session;
mod shell;
mod store;
mod tls;
mod token;
mod trust;
mod upstream;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Config;
use output::Output;

/// Homeward's broker: OpenID Provider, trust registry and private CA of a federation.
#[derive(Debug, Parser)]
#[command(name = "homeward-broker", version, arg_required_else_help = true)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = "/etc/homeward-broker/broker.toml", value_name = "FILE")]
    config: PathBuf,

    /// For people or for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make data directory, CA and keys of a new federation; refuse to touch an old one.
    Init(init::Options),
    /// Run the broker until SIGTERM or Ctrl-C. SIGHUP has it take up what was changed in its files.
    Serve,
    /// Join tokens: one-time secrets that let an agent enrol.
    #[command(subcommand)]
    Token(token::Command),
    /// Instances and how their agents are.
    #[command(subcommand)]
    Instance(instance::Command),
    /// Who accepts whose users.
    #[command(subcommand)]
    Trust(trust::Command),
    /// Homes without agent: identity providers whose client this broker is.
    #[command(subcommand)]
    Upstream(upstream::Command),
    /// Relying parties without agent: applications that register themselves.
    #[command(subcommand)]
    Registration(registration::Command),
    /// Clients as OAuth knows them, and what they must and may do.
    #[command(subcommand)]
    Client(client::Command),
    /// The CA: who signs, and who is trusted.
    #[command(subcommand)]
    Ca(ca::Command),
    /// The key-encryption key: what seals the secrets in the store.
    #[command(subcommand)]
    Kek(kek::Command),
    /// The brokers that run on one store.
    #[command(subcommand)]
    Broker(broker::Command),
    /// Signing keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Client secrets.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Who is signed in, and logouts on their way to applications.
    #[command(subcommand)]
    Session(session::Command),
    /// Users whose accounts at two homes are one person's.
    #[command(subcommand)]
    Link(link::Command),
    /// What is turning, and what will.
    #[command(subcommand)]
    Rotation(rotation::Command),
    /// Write everything that the broker keeps into a file, while it serves. The key-encryption key is not in there.
    Backup(backup::Options),
    /// Put a backup into an empty store. Nothing that was revoked, cut off or turned since comes back.
    Restore(restore::Options),
    /// The certificate of the public address, where the broker itself speaks TLS.
    #[command(subcommand)]
    Tls(tls::Command),
    /// What was decided and changed, by whom, and whether nobody has changed that.
    #[command(subcommand)]
    Audit(audit::Command),
    /// The web console: the way in, and who is in.
    #[command(subcommand)]
    Console(console::Command),
    /// The store itself.
    #[command(subcommand)]
    Store(store::Command),
    /// Ask whether the broker answers; for service supervisors.
    Healthcheck,
    /// Look for what would go wrong for users and agents, and say what mends it; exit 1 if there is an error. Changes nothing.
    Doctor,
    /// The configuration: whether it can be used, and what is in force.
    #[command(subcommand)]
    Config(config::Command),
    /// Print what a shell completes this command line by, to be put where it looks for that.
    Completion {
        /// Which one.
        shell: Shell,
    },
    /// Write the manual, one page a command.
    Man {
        /// Into this folder, which is there.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

/// The command line, for whoever reads it and does not run it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line of this process.
///
/// # Errors
/// One sentence for whoever typed it.
pub fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = || Config::load(&arguments.config);
    match arguments.command {
        // These may be run where there is no configuration; the first moves what it is about.
        Command::Store(command) => small_runtime()?.block_on(store::run(command, &arguments.config, arguments.output)),
        Command::Completion { shell } => {
            shell::completion(shell);
            Ok(())
        }
        Command::Man { to } => {
            shell::manual(&to).with_context(|| format!("the manual cannot be written into {}", to.display()))
        }
        Command::Serve => serve::run(config()?, &arguments.config),
        command => small_runtime()?.block_on(run(command, &config()?, &arguments.config, arguments.output)),
    }
}

async fn run(command: Command, config: &Config, file: &Path, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Init(options) => init::run(options, config, file, output).await,
        // Not here.
        Command::Serve | Command::Store(_) | Command::Completion { .. } | Command::Man { .. } => Ok(()),
        Command::Backup(options) => backup::run(options, config, output).await,
        Command::Restore(options) => restore::run(options, config, file, output).await,
        Command::Token(command) => token::run(command, config, output).await,
        Command::Instance(command) => instance::run(command, config, output).await,
        Command::Trust(command) => trust::run(command, config, output).await,
        Command::Upstream(command) => upstream::run(command, config, output).await,
        Command::Registration(command) => registration::run(command, config, output).await,
        Command::Client(command) => client::run(command, config, output).await,
        Command::Ca(command) => ca::run(command, config, output).await,
        Command::Kek(command) => kek::run(command, config, output).await,
        Command::Broker(command) => broker::run(command, config, output).await,
        Command::Keys(command) => keys::run(command, config, output).await,
        Command::Secret(command) => secret::run(command, config, output).await,
        Command::Session(command) => session::run(command, config, output).await,
        Command::Link(command) => link::run(command, config, output).await,
        Command::Audit(command) => audit::run(command, config, output).await,
        Command::Console(command) => console::run(command, config, output).await,
        Command::Rotation(command) => rotation::run(command, config, output).await,
        Command::Tls(command) => tls::run(command, config, output).await,
        Command::Doctor => Box::pin(doctor::run(config, output)).await,
        Command::Healthcheck => healthcheck::run(config).await,
        Command::Config(command) => config::run(command, config, file, output).await,
    }
}

fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
