//! Answers what ops want to know before anybody logs in, of which nothing changes anywhere: what this home would say of a
//! user ([`Directory::look_up`]), and what this application would make of one ([`accounts`]).
//!
//! Questions come over the Sync stream, wait in a short queue, and are answered one at a time in a task of their own, over
//! the stream that they came by: nothing that the stream brings waits for them. Whoever asked waits ten seconds, so what
//! cannot be answered by then is not worth answering.

mod accounts;

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::answer::Outcome;
use homeward_proto::v1::question::About;
use homeward_proto::v1::{Answer, NoAnswer, NoAnswerReason, PreviewAccount, PreviewIdentity, Question};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::accounts::{Accounts, NoPreview};
use crate::application::Application;
use crate::config::Config;
use crate::home::directory::{Directory, DirectoryError};

/// How many questions may wait.
const BACKLOG: usize = 4;
/// One question after the other, so that nobody lists a home's users by it.
const PACE: Duration = Duration::from_secs(1);
/// Longest name that is worth a line in the log.
const LONGEST_NAME: usize = 255;
/// Longest detail that the contract allows, in characters.
const LONGEST_DETAIL: usize = 256;

/// A question, and who waits for the answer.
#[derive(Debug)]
pub(crate) struct Asked {
    question: Question,
    answers: mpsc::Sender<Answer>,
}

/// The way to the one who answers.
#[derive(Debug, Clone)]
pub(crate) struct Questions(mpsc::Sender<Asked>);

/// Answers questions.
#[derive(Debug)]
pub(crate) struct Preview {
    directory: Option<Arc<Directory>>,
    accounts: Option<Accounts>,
    pace: Duration,
}

/// A queue, and its other end.
pub(crate) fn queue() -> (Questions, mpsc::Receiver<Asked>) {
    let (sender, asked) = mpsc::channel(BACKLOG);
    (Questions(sender), asked)
}

impl Questions {
    /// Takes a question, or says at once that it is not taken.
    pub(crate) fn take(&self, question: Question, answers: &mpsc::Sender<Answer>) {
        let queued = self.0.try_send(Asked { question, answers: answers.clone() });
        if let Err(mpsc::error::TrySendError::Full(refused) | mpsc::error::TrySendError::Closed(refused)) = queued {
            let busy = none(NoAnswerReason::Failed, "too many questions wait for this agent; ask again in a minute");
            // Whoever asked gives up waiting if the stream does not take this either.
            let _ = refused.answers.try_send(Answer { id: refused.question.id, outcome: Some(busy) });
        }
    }
}

impl Preview {
    /// By what the recipe and the configuration say.
    pub(crate) fn new(config: &Config, application: Application, directory: Option<Arc<Directory>>) -> Self {
        Self { directory, accounts: Accounts::of(config, application), pace: PACE }
    }

    #[cfg(test)]
    pub(crate) fn paced(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// Answers what comes until nothing can come any more.
    pub(crate) async fn run(self, mut asked: mpsc::Receiver<Asked>) {
        let mut next = Instant::now();
        while let Some(Asked { question, answers }) = asked.recv().await {
            tokio::time::sleep_until(next).await;
            if answers.is_closed() {
                continue;
            }
            next = Instant::now() + self.pace;
            tracing::info!(question = question.id, about = ?name(question.about.as_ref()), "the broker asks about a user");
            let outcome = match question.about {
                Some(About::Identity(PreviewIdentity { username })) => self.identity(&username).await,
                Some(About::Account(PreviewAccount { claims })) => self.account(&claims).await,
                // A newer broker may ask something else.
                None => none(NoAnswerReason::NotSupported, "this agent does not know the question; update it"),
            };
            let _ = answers.send(Answer { id: question.id, outcome: Some(outcome) }).await;
        }
    }

    async fn identity(&self, username: &str) -> Outcome {
        let Some(directory) = &self.directory else {
            return none(NoAnswerReason::NotSupported, "this instance is no home");
        };
        match directory.look_up(username).await {
            // Nobody has logged in.
            Ok(Some(mut identity)) => {
                (identity.auth_time, identity.amr, identity.acr) = (None, Vec::new(), String::new());
                Outcome::Identity(identity)
            }
            Ok(None) => none(NoAnswerReason::UnknownUser, ""),
            Err(error @ DirectoryError::Unsupported) => none(NoAnswerReason::NotSupported, &error.to_string()),
            Err(error @ DirectoryError::Unavailable(_)) => none(NoAnswerReason::Failed, &error.to_string()),
        }
    }

    async fn account(&self, claims: &[u8]) -> Outcome {
        let Some(accounts) = &self.accounts else {
            return none(NoAnswerReason::NotSupported, "the recipe does not say how the application finds accounts");
        };
        match accounts.preview(claims).await {
            Ok(preview) => Outcome::Account(preview),
            Err(error @ (NoPreview::NoClaims | NoPreview::Ask(_))) => none(NoAnswerReason::Failed, &error.to_string()),
        }
    }
}

/// Who is asked about: it is ops who ask, and the operator of this instance may know about whom.
fn name(about: Option<&About>) -> String {
    let name = match about {
        Some(About::Identity(PreviewIdentity { username })) => username.clone(),
        Some(About::Account(PreviewAccount { claims })) => {
            let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
            let names = ["homeward_name", "preferred_username", "sub"].map(|claim| claims.get(claim));
            names.into_iter().flatten().find_map(Value::as_str).unwrap_or_default().to_owned()
        }
        None => String::new(),
    };
    name.chars().take(LONGEST_NAME).collect()
}

fn none(reason: NoAnswerReason, detail: &str) -> Outcome {
    Outcome::None(NoAnswer { reason: reason.into(), detail: detail.chars().take(LONGEST_DETAIL).collect() })
}

#[cfg(test)]
mod tests;
