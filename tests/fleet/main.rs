//! `cargo fleet`: how a broker bears many agents, measured.
//!
//! One real broker (the shipped program, started as an operator would), and in this process as many agents as asked for,
//! each with keys and a certificate of its own, one TLS connection, one Sync stream. What stands behind an agent (files,
//! an application) is left out: an agent here proves at once. [`phases`] is the story; the figures are a table on standard
//! output, and with `--json` one JSON object on its last line.

mod agent;
mod backoff;
mod board;
mod enrolment;
mod identity;
mod open_files;
mod phases;
mod report;
mod resources;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use report::Figures;

/// A broker and many simulated agents: what it costs, and how fast a change reaches everybody.
#[derive(Debug, Parser)]
#[command(name = "cargo fleet")]
struct Arguments {
    /// How many agents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    agents: u32,

    /// So many of them end once they are connected, before anything turns; the figures are of the others.
    #[arg(long, default_value_t = 0)]
    dead: u32,

    /// Print the figures as one JSON object, too, on the last line.
    #[arg(long)]
    json: bool,

    /// Only these, after the agents are enrolled and connected; all if not given.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PHASES")]
    only: Vec<Phase>,
}

/// What is measured once all agents are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// A signing key turns.
    Keys,
    /// The CA turns, and every agent renews its certificate.
    Ca,
    /// The broker is killed and started again.
    Restart,
}

impl Arguments {
    fn wants(&self, phase: Phase) -> bool {
        self.only.is_empty() || self.only.contains(&phase)
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's figures and its one sentence")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut figures = Figures::of(arguments.agents, arguments.dead);
    let result = phases::run(&arguments, &mut figures).await;
    figures.failed = result.as_ref().err().map(|error| format!("{error:#}"));
    if !figures.phases.is_empty() {
        println!("{}", figures.table());
    }
    if arguments.json {
        println!("{}", figures.json());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::from(1)
        }
    }
}
