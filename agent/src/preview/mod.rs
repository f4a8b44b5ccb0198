//! Answers what ops want to know before anybody logs in, of which nothing changes anywhere: what this home would say of a
//! user ([`Directory::look_up`]), and what this application would make of one ([`accounts`]).
//!
//! Questions come over the Sync stream, wait in a short queue, and are answered one at a time in a task of their own, over
//! the stream that they came by: nothing that the stream brings waits for them. Whoever asked waits ten seconds, so what
//! cannot be answered by then is not worth answering.

mod accounts;

use std::sync::Arc;

use homeward_proto::v1::answer::Outcome;
use homeward_proto::v1::question::About;
use homeward_proto::v1::{Answer, NoAnswer, NoAnswerReason, PreviewAccount, PreviewIdentity, Question};
use tokio::sync::mpsc;

use self::accounts::{Accounts, NoPreview};
use crate::application::Application;
use crate::config::Config;
use crate::home::directory::{Directory, DirectoryError};

/// How many questions may wait.
const BACKLOG: usize = 4;
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
        Self { directory, accounts: Accounts::of(config, application) }
    }

    /// Answers what comes until nothing can come any more.
    pub(crate) async fn run(self, mut asked: mpsc::Receiver<Asked>) {
        while let Some(Asked { question, answers }) = asked.recv().await {
            if answers.is_closed() {
                continue;
            }
            let outcome = match question.about {
                Some(About::Identity(PreviewIdentity { username })) => self.identity(&username).await,
                Some(About::Account(PreviewAccount { claims })) => self.account(&claims).await,
                // A newer broker may ask something else.
                None => none(NoAnswerReason::NotSupported, "this agent does not know the question; update it"),
            };
            tracing::info!(question = question.id, "the broker asked about a user");
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

fn none(reason: NoAnswerReason, detail: &str) -> Outcome {
    Outcome::None(NoAnswer { reason: reason.into(), detail: detail.chars().take(LONGEST_DETAIL).collect() })
}

#[cfg(test)]
mod tests;
