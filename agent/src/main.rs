//! Homeward's agent: see the library for what it does.

use std::process::ExitCode;

use clap::Parser as _;
use homeward_agent::cli::Command;

fn main() -> ExitCode {
    homeward_agent::cli::run(Command::parse())
}
