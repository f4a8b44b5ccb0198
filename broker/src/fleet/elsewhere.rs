//! Questions to agents of other brokers, through the store: whoever asks writes a record, the broker that has the agent
//! asks it and puts the answer beside the question, and whoever asked takes the record away. What is left of one who died
//! is swept. Question and answer are sealed: they name people.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::brokers::BrokerId;
use crate::clock::Timestamp;
use crate::fleet::questions::{PATIENCE, Questions};
use crate::fleet::{Inquiry, QuestionError, Reply, Terms};
use crate::secret::Purpose;
use crate::storage::table::{Record, Table, decode};
use crate::storage::{Expect, Revision, StoreError, Watch, WatchEvent};

/// Most questions that a broker has under way for other brokers, and from other brokers, each.
const MAX_UNDER_WAY: usize = 32;

/// How long whoever asks waits beyond what the agent may take: two commits, and a watch that was broken for a moment.
const DETOUR: Duration = Duration::from_secs(2);

/// Pause before the store is watched again after it failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A question to an agent of another broker, under the agent's name and an id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredQuestion {
    /// Who has the agent.
    broker: BrokerId,
    /// A sealed [`Inquiry`].
    inquiry: String,
    /// A sealed [`Said`].
    answer: Option<String>,
    expires_at: Timestamp,
}

impl Record for StoredQuestion {
    const TABLE: &'static str = "question";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

/// A record is kept no longer, whoever died.
const KEPT: Duration = Duration::from_secs(60);

/// What came of a question.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Reply(Reply),
    NotConnected,
    TooMany,
    NotAnswered,
}

/// The other brokers' agents.
#[derive(Debug)]
pub(super) struct Elsewhere {
    table: Table<StoredQuestion>,
    terms: Terms,
    asking: Semaphore,
    answering: Arc<Semaphore>,
}

impl Elsewhere {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            table: Table::new(terms.store.clone()),
            terms,
            asking: Semaphore::new(MAX_UNDER_WAY),
            answering: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }
    }

    /// Asks an agent of this other broker.
    ///
    /// # Errors
    /// When it does not answer in time, or the store does not.
    pub(super) async fn ask(
        &self,
        broker: BrokerId,
        name: &InstanceName,
        inquiry: &Inquiry,
        now: Timestamp,
    ) -> Result<Reply, QuestionError> {
        let _turn = self.asking.try_acquire().map_err(|_| QuestionError::TooMany)?;
        let inquiry = self.terms.sealing.seal_value(Purpose::Question, inquiry)?;
        let question = StoredQuestion { broker, inquiry, answer: None, expires_at: now + KEPT };
        let id = format!("{name}.{}", Uuid::new_v4().simple());
        // Begun before it is asked, so that the answer is not missed.
        let mut changes = self.table.watch().await?;
        self.table.commit(vec![self.table.put(&id, &question, Expect::Absent)?]).await?;
        let said = tokio::time::timeout(PATIENCE + DETOUR, self.answer(&id, &mut changes)).await;
        if let Err(error) = self.table.commit(vec![self.table.delete(&id, Expect::Any)]).await {
            debug!(question = id, %error, "a question is left to the sweeper");
        }
        match said.map_err(|_| QuestionError::NotAnswered)?? {
            Said::Reply(reply) => Ok(reply),
            Said::NotConnected => Err(QuestionError::NotConnected),
            Said::TooMany => Err(QuestionError::TooMany),
            Said::NotAnswered => Err(QuestionError::NotAnswered),
        }
    }

    async fn answer(&self, id: &str, changes: &mut Watch) -> Result<Said, QuestionError> {
        while let Some(event) = changes.next().await {
            let record = match event {
                WatchEvent::Changed { key, value: Some(value), .. } if key.id() == id => decode(&value)?,
                WatchEvent::Changed { .. } => continue,
                WatchEvent::Reload => match self.table.get(id).await? {
                    Some(stored) => stored.record,
                    None => return Err(QuestionError::NotAnswered),
                },
            };
            if let StoredQuestion { answer: Some(answer), .. } = record {
                return Ok(self.terms.sealing.open_value(Purpose::Question, &answer)?);
            }
        }
        Err(QuestionError::NotAnswered)
    }

    /// Puts the questions of other brokers to this one's agents, for ever.
    pub(super) async fn answer_others(self: Arc<Self>, questions: Questions) {
        loop {
            let watched = async {
                let mut changes = self.table.watch().await?;
                while let Some(event) = changes.next().await {
                    match event {
                        WatchEvent::Changed { key, value: Some(value), revision } => {
                            self.put(&questions, key.id().to_owned(), decode(&value)?, revision);
                        }
                        WatchEvent::Changed { value: None, .. } => {}
                        // Whoever asks gives up soon, and asks again.
                        WatchEvent::Reload => debug!("questions of other brokers were missed"),
                    }
                }
                Ok::<(), StoreError>(())
            };
            match watched.await {
                Ok(()) => return,
                Err(error) => {
                    warn!(%error, "questions of other brokers cannot be heard; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn put(self: &Arc<Self>, questions: &Questions, id: String, record: StoredQuestion, revision: Revision) {
        if record.answer.is_some() || record.broker != self.terms.brokers.me() {
            return;
        }
        let Ok(turn) = self.answering.clone().try_acquire_owned() else {
            warn!("too many questions of other brokers at once: one is not put");
            return;
        };
        let (elsewhere, questions) = (self.clone(), questions.clone());
        tokio::spawn(async move {
            if let Err(error) = elsewhere.put_one(&questions, &id, record, revision).await {
                debug!(question = id, %error, "a question of another broker stays without an answer");
            }
            drop(turn);
        });
    }

    async fn put_one(
        &self,
        questions: &Questions,
        id: &str,
        record: StoredQuestion,
        revision: Revision,
    ) -> Result<(), QuestionError> {
        let name = id.split_once('.').and_then(|(name, _)| name.parse::<InstanceName>().ok());
        let Some(name) = name else { return Err(QuestionError::NotConnected) };
        let inquiry = self.terms.sealing.open_value(Purpose::Question, &record.inquiry)?;
        let said = match questions.ask(&name, inquiry).await {
            Ok(reply) => Said::Reply(reply),
            Err(QuestionError::NotConnected) => Said::NotConnected,
            Err(QuestionError::TooMany) => Said::TooMany,
            Err(QuestionError::NotAnswered) => Said::NotAnswered,
            Err(error @ (QuestionError::Internal(_) | QuestionError::Store(_))) => return Err(error),
        };
        let answer = Some(self.terms.sealing.seal_value(Purpose::Question, &said)?);
        let answered = StoredQuestion { answer, ..record };
        // Whoever asked may have given up.
        let write = self.table.put(id, &answered, Expect::Version(revision.version()))?;
        Ok(self.table.commit(vec![write]).await.map(drop)?)
    }
}
