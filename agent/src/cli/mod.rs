//! The command line: one file a noun. Results go to standard output as a table or as JSON, progress and the one sentence
//! of a failure to standard error. Exit 0 is done, 1 refused, 2 wrong usage, 78 (EX_CONFIG) dismissed by the broker:
//! starting again helps nothing until somebody acts.

#![expect(clippy::print_stderr, reason = "this is what a command line is for")]

mod config;
mod doctor;
mod enrol;
mod layout;
mod password;
mod rebootstrap;
mod recipe;
mod report;
mod run;
mod shell;
mod status;
mod user;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use homeward_telemetry::logs;
use homeward_telemetry::settings::Settings;
use homeward_telemetry::traces::Traces;
use serde_json::Value;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::RunError;
use crate::config::Config;

/// Homeward's agent: lets the users of one application log in elsewhere, and those of others log in here.
#[derive(Debug, Parser)]
#[command(name = "homeward-agent", version, propagate_version = true)]
pub struct Command {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/homeward-agent/agent.toml")]
    config: PathBuf,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Enrols this instance with a join token from ops.
    #[command(alias = "enroll")]
    Enrol(enrol::Enrol),
    /// Runs the agent until SIGTERM or Ctrl-C. SIGHUP has it take up its configuration and its recipe anew.
    Run,
    /// Shows who this instance is and what it uses; exits 1 if its identity is dead.
    Status,
    /// Looks for what would go wrong, and says what mends it; exits 1 if it finds an error. Changes nothing; with --canary it
    /// also rehearses a whole login.
    Doctor(doctor::Doctor),
    /// Trusts another CA of the broker, by its pin.
    Rebootstrap(rebootstrap::Rebootstrap),
    /// Tells the broker that one of this home's users logged out, was disabled or removed.
    Report(report::Report),
    /// Users of a home that has a file of them.
    #[command(subcommand)]
    User(user::User),
    /// Recipes: what the agent knows of applications.
    #[command(subcommand)]
    Recipe(recipe::Recipe),
    /// The configuration file.
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Prints what a shell completes this command line by, to be put where it looks for that.
    Completion {
        /// Which one.
        shell: Shell,
    },
    /// Writes the manual, one page a command.
    Man {
        /// Into this folder, which is there.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

/// The end of a command that failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// One clear sentence.
    #[error("{0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// Starting again helps nothing.
    #[error("{0}")]
    Dismissed(crate::refusal::Dismissal),
}

/// Does what was asked; the answer is the exit code.
pub fn run(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, ExitCode::FAILURE),
    };
    let settings = match command.verb {
        Verb::Run => Config::telemetry(&command.config),
        _ => Settings::default(),
    };
    let traces = {
        let _within = runtime.enter();
        start_log(&settings)
    };
    let done = runtime.block_on(command.carry_out());
    if let Some(traces) = traces {
        runtime.block_on(traces.end());
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Refused(_)) => complain(&failure, ExitCode::FAILURE),
        Err(failure @ Failure::Dismissed(_)) => complain(&failure, ExitCode::from(78)),
    }
}

impl Command {
    async fn carry_out(self) -> Result<(), Failure> {
        let report = Report(self.output);
        match self.verb {
            Verb::Enrol(enrol) => Box::pin(enrol.carry_out(&self.config, report)).await,
            Verb::Run => Box::pin(run::carry_out(&self.config)).await,
            Verb::Status => status::carry_out(&self.config, report),
            Verb::Doctor(doctor) => doctor.carry_out(&self.config, report).await,
            Verb::Rebootstrap(rebootstrap) => rebootstrap.carry_out(&self.config, report).await,
            Verb::Report(verb) => verb.carry_out(&self.config, report).await,
            Verb::User(verb) => verb.carry_out(&self.config, report),
            Verb::Recipe(verb) => verb.carry_out(&self.config, report).await,
            Verb::Config(verb) => verb.carry_out(&self.config, report),
            Verb::Completion { shell } => {
                shell::completion(shell);
                Ok(())
            }
            Verb::Man { to } => shell::manual(&to).map_err(|error| Failure::in_folder(&to, &error)),
        }
    }
}

/// Prints results.
#[derive(Debug, Clone, Copy)]
struct Report(Output);

impl Report {
    /// One thing: its fields in order.
    fn one(self, fields: &[(&str, Value)]) {
        match self.0 {
            Output::Json => print_json(&object(fields.iter().map(|(name, value)| (*name, value.clone())))),
            Output::Table => {
                let rows = fields.iter().map(|(name, value)| [name.replace('_', " "), text(value)]);
                print(Builder::from_iter(rows).build().with(Style::blank()));
            }
        }
    }

    /// Several things with the same fields.
    fn many(self, columns: &[&str], rows: &[Vec<Value>]) {
        match self.0 {
            Output::Json => {
                let objects = rows.iter().map(|row| object(columns.iter().copied().zip(row.iter().cloned())));
                print_json(&objects.collect());
            }
            Output::Table => {
                let heading = columns.iter().map(|column| column.replace('_', " ").to_uppercase()).collect();
                let lines = rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>());
                let lines = std::iter::once(heading).chain(lines);
                print(Builder::from_iter(lines).build().with(Style::blank()));
            }
        }
    }
}

impl Failure {
    fn in_folder(folder: &Path, error: &std::io::Error) -> Self {
        Self::Refused(format!("the manual cannot be written into {}: {error}", folder.display()).into())
    }

    fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Dismissed(dismissal) => Self::Dismissed(dismissal),
            other => Self::refused(other),
        }
    }
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(Failure::refused)
}

fn object<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn print_json(value: &Value) {
    print(format_args!("{value:#}"));
}

/// A line of results, or several. Whoever reads them may stop (`| head`): then nobody misses the rest.
fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Some(error) = written.err().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
        eprintln!("homeward-agent: standard output cannot be written: {error}");
    }
}

fn complain(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    // Whoever closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "homeward-agent: {error}");
    code
}

/// The log goes to standard error. `HOMEWARD_LOG` is its filter.
fn start_log(settings: &Settings) -> Option<Traces> {
    #[expect(clippy::disallowed_methods, reason = "the one variable there is")]
    let wanted = std::env::var("HOMEWARD_LOG").unwrap_or_default();
    logs::start(settings, "homeward-agent", &log_filter(&wanted)).unwrap_or_else(|error| {
        eprintln!("homeward-agent: no log: {error}");
        None
    })
}

/// Libraries that carry users' cookies and passwords stay quiet under a general `trace`: whoever wants to see their
/// frames has to name them.
fn log_filter(wanted: &str) -> String {
    let usual = "info,h2=info,hyper=info,hyper_util=info,reqwest=info,rustls=info,tonic=info";
    format!("{usual},{wanted}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn a_general_trace_does_not_reach_the_libraries_that_carry_secrets() {
        let directives = |wanted: &str| -> Vec<String> {
            let filter = EnvFilter::builder().parse_lossy(log_filter(wanted));
            filter.to_string().split(',').map(str::to_owned).collect()
        };
        assert!(directives("").contains(&"info".to_owned()));
        let trace = directives("trace");
        assert!(trace.contains(&"trace".to_owned()) && trace.contains(&"hyper=info".to_owned()), "{trace:?}");
        assert!(directives("debug,h2=trace").contains(&"h2=trace".to_owned()));
    }

    #[test]
    fn a_join_token_comes_from_one_place_and_is_not_printed() {
        let parse = |arguments: &[&str]| Command::try_parse_from([&["homeward-agent", "enrol"], arguments].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--token", "a", "--token-file", "b"]).is_err());
        let command = parse(&["--token", "hwj1.canary", "--replace", "--output", "json"]).unwrap();
        assert!(!format!("{command:?}").contains("canary"));
    }
}
