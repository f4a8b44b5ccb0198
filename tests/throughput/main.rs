//! `cargo throughput`: what a login costs the provider, measured.
//!
//! The shipped broker on the first core, this generator on the second, everything durable. Sessions are made before the
//! clock starts, by real logins through a real agent; then so many keep-alive connections do the same thing again and
//! again, each beginning when its last one ended. With `--peer` node-oidc-provider (from npm, everything in memory) is
//! measured beside it in the same run, in turns.
//!
//! In the same run the store is measured alone, with as many commits at a time: a code flow is one of them.
//!
//! Trust CPU time an operation more than the rate: the former bears a busy machine.

mod ceiling;
mod connection;
mod measure;
mod operations;
mod peer;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Load, Row};
use operations::Operation;
use stage::{Signature, Stage};
use world::Etcd;

/// What a login costs the provider: operations a second and CPU time of each.
#[derive(Debug, Parser)]
#[command(name = "cargo throughput")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Measure node-oidc-provider too, in the same run (installs it from npm below tests/.cache).
    #[arg(long)]
    peer: bool,

    /// Keep everything in an etcd of one member, started for this run (built with `--features etcd`), and not in the
    /// embedded store.
    #[arg(long)]
    etcd: bool,

    /// Connections that work at the same time. (All are one user's, who has so many sessions and refresh tokens at most.)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=96))]
    connections: u32,

    /// Seconds for each row, after a fifth of that to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Only these; all if not given.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "OPERATIONS")]
    only: Vec<Operation>,

    /// Print the rows as one JSON object, too, on the last line.
    #[arg(long)]
    json: bool,
}

/// For another load generator.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make a federation in an empty folder, and there a profile for each algorithm: how to start the broker, the client,
    /// and the headers of 64 sessions.
    Prepare {
        /// Its folder.
        folder: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "a command's one sentence")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        None => measure_all(&arguments).await,
        Some(Command::Prepare { folder }) => stage::prepare(folder).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::from(1)
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's figures and its progress")]
async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let load = Load { connections: arguments.connections, seconds: arguments.seconds };
    let wanted = |operation: &Operation| arguments.only.is_empty() || arguments.only.contains(operation);
    let operations: Vec<Operation> = Operation::ALL.into_iter().filter(wanted).collect();
    eprintln!("building the broker and the agent, enrolling, logging in …");
    let folder = tempfile::TempDir::with_prefix("homeward-throughput-")?;
    let mut rows: Vec<Row> = Vec::new();
    let etcd = if arguments.etcd { Some(Etcd::one().await?) } else { None };
    eprintln!("what the store does alone …");
    let ceiling = ceiling::measure(folder.path(), etcd.as_ref(), load).await?;
    let mut stage = Stage::open(folder.path(), etcd.as_ref(), arguments.connections).await?;
    let mut peer = match arguments.peer {
        true => Some(peer::Peer::install()?),
        false => None,
    };
    measure::take_second_core();
    for signature in Signature::ALL {
        let server = stage.serve(signature).await?;
        let beside = match &mut peer {
            Some(peer) => Some(peer.serve(signature).await?),
            None => None,
        };
        for operation in &operations {
            for target in std::iter::once(&server).chain(&beside) {
                eprintln!("{}: {} …", target.name, operation.name());
                rows.push(measure::measure(target, *operation, load).await?);
            }
        }
    }
    println!("{}", measure::table(&rows));
    println!("{}", ceiling.beside(&rows));
    println!("{}", measure::machine()?);
    if arguments.json {
        println!("{}", measure::json(&rows)?);
    }
    Ok(())
}
