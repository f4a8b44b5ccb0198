//! How sessions are ended at this application: by a command, by requests, or not at all.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use crate::application::{Application, ApplicationError};
use crate::child::{self, Ended};
use crate::conversation::Conversation;
use crate::database::{Database, DatabaseError};
use crate::disk::DiskError;
use crate::parameters::{ParameterError, Parameters};
use crate::recipe::content::fill;
use crate::recipe::path::PathTemplate;
use crate::recipe::pointer::Pointer;
use crate::recipe::session_end::SessionEnd;
use crate::recipe::sql::Statements;
use crate::recipe::step::Step;

/// For one order: the next ones wait behind it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How sessions are ended.
#[derive(Debug)]
pub(super) enum Means {
    /// The recipe does not say, the instance is not configured for the role, or a parameter is missing.
    None,
    /// Program and arguments.
    Command(Vec<String>),
    /// Statements for the application's database.
    Rows(Statements),
    /// Requests to the application.
    Steps {
        /// In this order.
        steps: Vec<Step>,
        /// Where the number of sessions is in the last answer.
        sessions: Option<Pointer>,
    },
}

/// Why sessions did not end. The sentences go to the broker: nobody's name is in them.
#[derive(Debug, Error)]
pub(super) enum EndingError {
    /// No such program, or not allowed.
    #[error("the session_end command {program:?} cannot be run: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("the session_end command {program:?} failed ({status}); the agent's log has what it printed")]
    Failed {
        /// The program.
        program: String,
        /// Its exit.
        status: ExitStatus,
    },
    /// Too slow.
    #[error("ending sessions took longer than 30 seconds and was given up; the agent's log may say why")]
    TimedOut,
    /// The application.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// The operator's parameters.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The application's database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The gate's own list.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It took the request and did not do it.
    #[error(
        "the application answered the request to {path} with status {status} and ended no sessions; check the recipe"
    )]
    Refused {
        /// Where it was asked.
        path: PathTemplate,
        /// Its answer.
        status: u16,
    },
}

impl Means {
    /// What the recipe says, with the operator's parameters in it.
    pub(super) fn of(role: &str, recipe: Option<&SessionEnd>, parameters: &Parameters) -> Self {
        let Some(recipe) = recipe else { return Self::None };
        let missing: Vec<&str> = recipe.parameters().filter(|name| !parameters.is_given(name)).collect();
        if !missing.is_empty() {
            tracing::warn!(
                role,
                ?missing,
                "sessions cannot be ended here: [app.parameters] lacks what the recipe needs"
            );
            return Self::None;
        }
        if let Some(rows) = &recipe.rows {
            return Self::Rows(rows.clone());
        }
        if recipe.command.is_empty() {
            return Self::Steps { steps: recipe.steps.clone(), sessions: recipe.sessions.clone() };
        }
        let values: Vec<(&str, &str)> =
            recipe.parameters().filter_map(|name| Some((name, parameters.plain(name)?))).collect();
        Self::Command(recipe.command.iter().map(|argument| fill(argument, &values).to_owned()).collect())
    }

    /// Ends the sessions of whom these values name, the first of them alone; how many, if that was said. `None` if nobody
    /// can.
    pub(super) async fn end(
        &self,
        application: &Application,
        whose: &[(&str, &str)],
    ) -> Result<Option<u32>, EndingError> {
        match self {
            Self::None => Ok(None),
            Self::Command(argv) => command(argv, whose).await.map(Some),
            Self::Rows(rows) => {
                let database = Database::of(application.parameters(), rows.database.name()).await?;
                let arguments: Vec<&str> = whose.first().map(|(_, value)| *value).into_iter().collect();
                let ended = database.execute_all(&rows.execute, &arguments).await?;
                Ok(Some(u32::try_from(ended).unwrap_or(u32::MAX)))
            }
            Self::Steps { steps, sessions } => {
                let asked = tokio::time::timeout(TIMEOUT, requests(application, steps, whose));
                let answer = asked.await.map_err(|_| EndingError::TimedOut)??;
                let found =
                    sessions.as_ref().and_then(|pointer| pointer.select(&answer).first().and_then(|it| it.as_u64()));
                Ok(Some(found.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()))
            }
        }
    }
}

/// Whom to end is in the environment: arguments are for everybody on the machine to read.
async fn command(argv: &[String], whose: &[(&str, &str)]) -> Result<u32, EndingError> {
    let program = || argv.first().cloned().unwrap_or_default();
    let variables: Vec<(String, &str)> =
        whose.iter().map(|(name, value)| (format!("HOMEWARD_{}", name.to_uppercase()), *value)).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let ran = child::run(TIMEOUT, argv, &variables).await;
    let ran = ran.map_err(|source| EndingError::NotRun { program: program(), source })?;
    if !ran.stderr.trim().is_empty() {
        tracing::info!(program = program(), stderr = ran.stderr.trim(), "the session_end command printed");
    }
    match ran.ended {
        Ended::Success => Ok(number(&ran.stdout)),
        Ended::Failed(status) => Err(EndingError::Failed { program: program(), status }),
        Ended::TimedOut => Err(EndingError::TimedOut),
    }
}

/// The last line, if it is a number: programs greet on the lines before it.
fn number(printed: &str) -> u32 {
    let last = printed.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.and_then(|line| line.parse().ok()).unwrap_or_default()
}

/// The last answer.
async fn requests(application: &Application, steps: &[Step], whose: &[(&str, &str)]) -> Result<Value, EndingError> {
    let mut conversation = Conversation::begin(application, None);
    let mut last = None;
    for step in steps {
        last = Some((step, conversation.take(step, whose).await?));
    }
    match last {
        Some((step, answer)) if !(200..300).contains(&answer.status) => {
            Err(EndingError::Refused { path: step.path.clone(), status: answer.status })
        }
        last => Ok(last.map(|(_, answer)| answer.body).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_is_the_number() {
        for (printed, ended) in [
            ("3\n", 3),
            ("12 objects imported automatically\n\n4\n\n", 4),
            ("7\nbye\n", 0),
            ("", 0),
            ("-1", 0),
            ("99999999999", 0),
        ] {
            assert_eq!(number(printed), ended, "{printed:?}");
        }
    }
}
