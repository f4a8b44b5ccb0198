//! The reload of the application: a program with arguments, no shell, 30 seconds.

use std::time::Duration;

use thiserror::Error;

use super::render::Credentials;
use crate::child::{self, Ended};

const TIMEOUT: Duration = Duration::from_secs(30);

/// How a reload failed.
#[derive(Debug, Error)]
pub(crate) enum ReloadError {
    /// No such program, or not allowed.
    #[error("the reload command {program:?} cannot be run: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Too slow: it was killed, with all that it started.
    #[error("the reload command {program:?} took longer than 30 seconds and was stopped")]
    TimedOut {
        /// The program.
        program: String,
    },
    /// It said no.
    #[error("the reload command {program:?} failed ({status}); the agent's log has what it printed")]
    Failed {
        /// The program.
        program: String,
        /// Its exit.
        status: std::process::ExitStatus,
    },
}

/// Runs it; nothing to run is a success. What it prints goes to the log, without the secret.
pub(crate) async fn run(argv: &[String], credentials: &Credentials) -> Result<(), ReloadError> {
    let Some(program) = argv.first() else { return Ok(()) };
    let program = program.clone();
    let ran = match child::run(TIMEOUT, argv, &[]).await {
        Ok(ran) => ran,
        Err(source) => return Err(ReloadError::NotRun { program, source }),
    };
    for (stream, printed) in [("stdout", ran.stdout), ("stderr", ran.stderr)] {
        let printed = credentials.credential.redact(printed);
        if !printed.trim().is_empty() {
            tracing::info!(program, stream, printed = printed.trim(), "the reload command printed");
        }
    }
    match ran.ended {
        Ended::Success => Ok(()),
        Ended::Failed(status) => Err(ReloadError::Failed { program, status }),
        Ended::TimedOut => Err(ReloadError::TimedOut { program }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::{Addresses, Credential};
    use super::*;

    fn credentials() -> Credentials {
        let credential = Credential::Secret("canary".into());
        let addresses = Addresses::of("");
        Credentials { issuer: String::new(), addresses, client_id: String::new(), secret_version: 1, credential }
    }

    async fn run_it(argv: &[&str]) -> Result<(), ReloadError> {
        let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
        run(&argv, &credentials()).await
    }

    #[tokio::test]
    async fn exit_zero_is_success_and_nothing_to_run_too() {
        run_it(&[]).await.unwrap();
        run_it(&["true"]).await.unwrap();
        assert!(matches!(run_it(&["false"]).await, Err(ReloadError::Failed { .. })));
        assert!(matches!(run_it(&["/no/such/program"]).await, Err(ReloadError::NotRun { .. })));
    }
}
