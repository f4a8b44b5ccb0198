//! Questions that ops ask of agents: each is put to the agent's newest stream, once, and whoever asks waits some seconds.
//! Nothing is kept: an agent that is not there, or whose stream breaks, has no answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::registry::AssertedIdentity;
use crate::secret::{SecretError, random};
use crate::storage::StoreError;

/// How long an answer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Most questions that wait for one agent, in its stream or for its answer.
const MAX_ASKED: usize = 4;

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inquiry {
    /// Of a home: what it would say of the user with this login name.
    Identity(String),
    /// Of a relying party: what its application would make of these claims, a JSON object.
    Account(Vec<u8>),
}

/// A question on its way to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names it.
    pub id: String,
    /// What is asked.
    pub inquiry: Inquiry,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// What the home would say. Nobody has logged in.
    Identity(Box<AssertedIdentity>),
    /// What the application would make of the user.
    Account(AccountPreview),
    /// Nothing, and why.
    Nothing(NoReply, String),
}

/// Why an agent has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoReply {
    /// Its recipe does not say how to find out.
    NotSupported,
    /// There is no such user.
    UnknownUser,
    /// The application did not answer.
    Failed,
}

/// What an application would make of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountPreview {
    /// What was looked for, and what was found.
    pub matches: Vec<AccountMatch>,
    /// What would happen.
    pub outcome: String,
    /// What would go wrong.
    pub problems: Vec<String>,
}

/// One account that an application might take for the user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountMatch {
    /// By which claim.
    pub claim: String,
    /// Of what value.
    pub value: String,
    /// The account; empty if there is none.
    pub account: String,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// No stream.
    #[error("its agent is not connected")]
    NotConnected,
    /// Somebody else asks a lot.
    #[error("its agent has too many questions to answer already")]
    TooMany,
    /// Too slow, or the stream broke, or an agent of an older release.
    #[error("its agent did not answer in time")]
    NotAnswered,
    /// No randomness.
    #[error("a question could not be made")]
    Internal(#[from] SecretError),
    /// Its agent is another broker's, who is reached through the store.
    #[error("the broker that its agent is connected to cannot be asked")]
    Store(#[from] StoreError),
}

/// The agents that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    agents: Arc<Mutex<HashMap<InstanceName, mpsc::Sender<Posed>>>>,
    patience: Duration,
}

/// The questions for one agent, on one stream.
pub struct AgentQuestions {
    questions: Questions,
    name: InstanceName,
    posed: mpsc::Receiver<Posed>,
    waiting: HashMap<String, oneshot::Sender<Reply>>,
}

#[derive(Debug)]
struct Posed {
    question: Question,
    reply: oneshot::Sender<Reply>,
}

impl Questions {
    /// Nobody is there yet.
    pub(super) fn new(patience: Duration) -> Self {
        Self { agents: Arc::default(), patience }
    }

    /// The questions for an agent that has just connected; an older stream of it gets none any more.
    pub(super) fn open(&self, name: InstanceName) -> AgentQuestions {
        let (sender, posed) = mpsc::channel(MAX_ASKED);
        self.all().insert(name.clone(), sender);
        AgentQuestions { questions: self.clone(), name, posed, waiting: HashMap::new() }
    }

    pub(super) async fn ask(&self, name: &InstanceName, inquiry: Inquiry) -> Result<Reply, QuestionError> {
        let agent = self.all().get(name).cloned().ok_or(QuestionError::NotConnected)?;
        let question = Question { id: format!("{:016x}", u64::from_be_bytes(random()?)), inquiry };
        let (reply, answer) = oneshot::channel();
        agent.try_send(Posed { question, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => QuestionError::TooMany,
            mpsc::error::TrySendError::Closed(_) => QuestionError::NotConnected,
        })?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(QuestionError::NotAnswered),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<InstanceName, mpsc::Sender<Posed>>> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentQuestions {
    /// Waits for a question. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Question {
        loop {
            self.waiting.retain(|_, asking| !asking.is_closed());
            if self.waiting.len() < MAX_ASKED
                && let Some(Posed { question, reply }) = self.posed.recv().await
            {
                if reply.is_closed() {
                    continue;
                }
                self.waiting.insert(question.id.clone(), reply);
                return question;
            }
            // Nobody gives up waiting earlier than that; or a newer stream gets the questions.
            tokio::time::sleep(self.questions.patience).await;
        }
    }

    /// What the agent says to a question. To one that was not asked, or is answered, it can say nothing.
    pub fn answered(&mut self, id: &str, reply: Reply) {
        if let Some(asking) = self.waiting.remove(id) {
            // Whoever asked may have given up.
            drop(asking.send(reply));
        }
    }
}

impl Drop for AgentQuestions {
    fn drop(&mut self) {
        self.posed.close();
        let mut all = self.questions.all();
        // A newer stream's is open.
        if all.get(&self.name).is_some_and(mpsc::Sender::is_closed) {
            all.remove(&self.name);
        }
    }
}

impl fmt::Debug for AgentQuestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentQuestions").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> InstanceName {
        "beta".parse().unwrap()
    }

    fn inquiry() -> Inquiry {
        Inquiry::Identity("alice".into())
    }

    fn nothing() -> Reply {
        Reply::Nothing(NoReply::UnknownUser, String::new())
    }

    #[tokio::test]
    async fn an_agent_answers_the_question_that_it_was_asked() {
        let questions = Questions::new(Duration::from_millis(200));
        assert!(matches!(questions.ask(&name(), inquiry()).await, Err(QuestionError::NotConnected)));
        let mut agent = questions.open(name());
        let answers = async {
            let question = agent.next().await;
            agent.answered("another", Reply::Account(AccountPreview::default()));
            agent.answered(&question.id, nothing());
            agent.answered(&question.id, Reply::Account(AccountPreview::default()));
        };
        let (name, (reply, ())) = (name(), tokio::join!(async { questions.ask(&name(), inquiry()).await }, answers));
        assert_eq!(reply.unwrap(), nothing());
        drop(agent);
        assert!(matches!(questions.ask(&name, inquiry()).await, Err(QuestionError::NotConnected)));
    }

    #[tokio::test]
    async fn the_newest_stream_is_asked_and_outlives_the_end_of_the_older() {
        let questions = Questions::new(Duration::from_millis(200));
        let older = questions.open(name());
        let mut newer = questions.open(name());
        drop(older);
        let answers = async {
            let id = newer.next().await.id;
            newer.answered(&id, nothing());
        };
        let name = name();
        assert_eq!(tokio::join!(questions.ask(&name, inquiry()), answers).0.unwrap(), nothing());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_and_nothing_piles_up() {
        let questions = Questions::new(Duration::from_millis(200));
        let name = name();
        let mut agent = questions.open(name.clone());
        // An agent that does not even read.
        let asked = (0..6).map(|_| questions.ask(&name, inquiry()));
        let refused = futures_util::future::join_all(asked).await;
        let count = |is: fn(&QuestionError) -> bool| refused.iter().filter(|it| it.as_ref().is_err_and(is)).count();
        assert_eq!(count(|error| matches!(error, QuestionError::TooMany)), 2);
        assert_eq!(count(|error| matches!(error, QuestionError::NotAnswered)), 4);
        // What nobody waits for any more is not asked.
        let stale = tokio::time::timeout(Duration::from_millis(20), agent.next()).await;
        assert!(stale.is_err());
        // An agent that reads and breaks off.
        let breaks = async {
            agent.next().await;
            drop(agent);
        };
        let (reply, ()) = tokio::join!(questions.ask(&name, inquiry()), breaks);
        assert!(matches!(reply, Err(QuestionError::NotAnswered)));
    }
}
