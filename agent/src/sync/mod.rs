//! The Sync loop: one stream to the broker for as long as both live. The agent says which resources it uses; the broker
//! sends what it should have beyond that. Trust bundle, home directory and renewal order are in effect once they are on
//! disk, which is done here; the key set and the client credentials are brought about by `key_set` and `apply`, which know
//! no stream. Whatever comes into effect, or cannot, is told by itself ([`told`]). Orders to end sessions are carried out by
//! `session_end`, questions answered by `preview`, each on the stream that it came by.
//!
//! When the stream breaks, another broker is tried first, if there are several. The first reconnect is spread as wide as
//! the broker asked for, because all agents lost it at the same moment; after that full jitter from 1 s to 5 min, forgotten
//! once a stream has lived for a minute. What was applied stays in effect all the while. Why it broke may be an identity
//! that no longer holds: [`ailing`] decides what is done about that.

mod ailing;
mod pulse;
mod settling;
mod told;

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::sync_service_client::SyncServiceClient;
use homeward_proto::v1::{
    AgentState, Answer, Delta, Heartbeat, Hello, Resource, SessionsEnded, Snapshot, SyncRequest, SyncResponse,
    sync_request, sync_response,
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(crate) use self::ailing::Ailing;
use self::ailing::Cure;
use self::pulse::Pulse;
pub(crate) use self::settling::Settling;
use self::told::Told;
use crate::backoff::Backoff;
use crate::connection::{Broker, DialError};
use crate::contact::Contact;
use crate::health::Health;
use crate::identity::Identity;
use crate::preview::Questions;
use crate::refusal::Dismissal;
use crate::resources::RESOURCES;
use crate::resources::standing::{Standing, State};
use crate::resources::wanted::Wanted;
use crate::resources::words;
use crate::session_end::Queue;
use crate::{clock, random};

/// A stream that lived this long was good.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The widest spread of the first reconnect that a broker may ask for.
const WIDEST_SPREAD: Duration = Duration::from_secs(30);
/// For the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream takes this many messages without waiting: each resource may be told, refused and told again.
const UNSENT: usize = 32;

/// One agent's side of Sync.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Who we are.
    pub(crate) identity: Arc<Identity>,
    /// Whom to talk to.
    pub(crate) broker: Arc<Broker>,
    /// How the instance is.
    pub(crate) health: Health,
    /// What is in effect.
    pub(crate) standing: Arc<Standing>,
    /// Where it is said what should be.
    pub(crate) wanted: watch::Sender<Wanted>,
    /// What is done at once about what the broker sends.
    pub(crate) settling: Settling,
    /// When the broker was last talked to.
    pub(crate) contact: Contact,
    /// What is done about an identity that no longer holds.
    pub(crate) ailing: Ailing,
    /// Who ends sessions when the broker orders it.
    pub(crate) session_ends: Queue,
    /// Who answers what the broker asks.
    pub(crate) questions: Questions,
    /// How wide the broker wants the first reconnect to be spread.
    pub(crate) spread: Duration,
}

/// The ways back to one stream, for what is done elsewhere.
struct Back {
    ended: mpsc::Sender<SessionsEnded>,
    answers: mpsc::Sender<Answer>,
}

/// How a stream ended.
#[derive(Debug, Error)]
enum End {
    #[error("there is a new certificate")]
    Renewed,
    #[error("the broker asked to come back later")]
    Drained(Duration),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the broker ended the stream ({code:?}: {message})", code = .0.code(), message = .0.message())]
    Refused(#[from] Box<Status>),
    #[error("the broker closed the stream")]
    Closed,
    #[error("the broker did not answer in time")]
    TimedOut,
}

impl Sync {
    /// Keeps a stream open until the broker dismisses the agent.
    pub(crate) async fn run(mut self) -> Dismissal {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        loop {
            let opened = Instant::now();
            let generation = self.identity.certificate_generation();
            let mut was_open = false;
            let Err(end) = self.stream(&mut was_open).await;
            if was_open {
                self.contact.lost(clock::now());
            }
            if !matches!(end, End::Renewed) {
                self.contact.failed(&end);
                self.broker.go_elsewhere();
            }
            match self.ailing.look_at(&end, generation).await {
                Cure::Dismissed(dismissal) => {
                    self.contact.dismissed(dismissal);
                    return dismissal;
                }
                Cure::ConnectAgain => continue,
                Cure::Wait(at_least) => tokio::time::sleep(at_least).await,
            }
            if was_open && opened.elapsed() >= HEALTHY_AFTER {
                backoff.reset();
            }
            let pause = match end {
                End::Renewed => {
                    tracing::info!("connecting again with the new certificate");
                    continue;
                }
                End::Drained(after) => after + self.spread.mul_f64(random::fraction()),
                // All agents lost it at this moment.
                _ if was_open => self.spread.mul_f64(random::fraction()).max(backoff.next(random::fraction())),
                _ => backoff.next(random::fraction()),
            };
            tracing::warn!(error = %end, retry_in = ?pause, "no stream to the broker; what was applied stays in effect");
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream, from Hello to its end.
    async fn stream(&mut self, was_open: &mut bool) -> Result<std::convert::Infallible, End> {
        let mut generation = self.identity.generation();
        generation.mark_unchanged();
        let mut standing = self.standing.watch();
        let state = standing.borrow_and_update().clone();
        let mut told = Told::by_hello(&state);
        let told_state = self.health.state(&state).await;
        let mut pulse = Pulse::after(told_state.clone(), Instant::now());
        let (requests, mut responses) = self.open(&state, told_state).await?;
        *was_open = true;
        self.contact.made(clock::now());
        tracing::info!(broker = self.identity.agent_url(), "connected to the broker");
        // What is still wanted from the last stream is not answered on this one before the broker has said it again.
        let mut heard = false;
        let (ended, mut sessions_ended) = mpsc::channel(UNSENT);
        let (answers, mut answered) = mpsc::channel(UNSENT);
        let back = Back { ended, answers };
        loop {
            tokio::select! {
                message = responses.message() => {
                    let message = message.map_err(Box::new)?.ok_or(End::Closed)?;
                    heard = true;
                    told.awaits_answer(&self.take(message, &back)?);
                }
                Some(ended) = sessions_ended.recv() => send(&requests, sync_request::Message::SessionsEnded(ended))?,
                Some(answer) = answered.recv() => send(&requests, sync_request::Message::Answer(answer))?,
                Ok(()) = standing.changed() => {}
                () = tokio::time::sleep_until(pulse.due()) => {
                    let now = standing.borrow().clone();
                    let state = self.health.state(&now).await;
                    if pulse.tells(&state, Instant::now()) {
                        send(&requests, sync_request::Message::Heartbeat(Heartbeat { state: Some(state) }))?;
                    }
                }
                Ok(()) = generation.changed() => return Err(End::Renewed),
            }
            if heard {
                let state = standing.borrow_and_update().clone();
                let news = told.news(&state, &self.wanted.borrow());
                news.into_iter().try_for_each(|message| send(&requests, message))?;
                self.settling.complete(&self.wanted.borrow());
            }
        }
    }

    async fn open(
        &self,
        standing: &State,
        state: AgentState,
    ) -> Result<(mpsc::Sender<SyncRequest>, Streaming<SyncResponse>), End> {
        let channel = self.broker.connect().await?;
        let hello = Hello {
            applied_revision: standing.applied.revision,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            state: Some(state),
            resources: standing.applied.versions.to_wire(),
            key_set_proof: standing.applied.proved_keys.to_wire(),
        };
        let (requests, received) = mpsc::channel(UNSENT);
        send(&requests, sync_request::Message::Hello(hello))?;
        let open = async { SyncServiceClient::new(channel).sync(ReceiverStream::new(received)).await };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, open).await.map_err(|_| End::TimedOut)?;
        Ok((requests, opened.map_err(Box::new)?.into_inner()))
    }

    /// Which resources came.
    fn take(&mut self, message: SyncResponse, back: &Back) -> Result<Vec<Resource>, End> {
        match message.message {
            Some(sync_response::Message::Snapshot(snapshot)) => Ok(self.take_snapshot(snapshot)),
            Some(sync_response::Message::Delta(delta)) => Ok(self.take_delta(delta)),
            Some(sync_response::Message::Drain(drain)) => {
                let after = drain.retry_after_duration.and_then(|after| after.try_into().ok());
                Err(End::Drained(after.unwrap_or_default()))
            }
            Some(sync_response::Message::EndSessions(order)) => {
                self.session_ends.take(order, &back.ended);
                Ok(Vec::new())
            }
            Some(sync_response::Message::Question(question)) => {
                self.questions.take(question, &back.answers);
                Ok(Vec::new())
            }
            // A newer broker may say what this agent does not know.
            None => Ok(Vec::new()),
        }
    }

    fn take_snapshot(&mut self, snapshot: Snapshot) -> Vec<Resource> {
        tracing::info!(revision = snapshot.revision, "the broker sent everything");
        self.take_spread(&snapshot);
        let wanted = Wanted::of(snapshot);
        let came = RESOURCES.into_iter().filter(|resource| wanted.version(*resource).is_some()).collect();
        self.want(wanted);
        came
    }

    fn take_delta(&mut self, delta: Delta) -> Vec<Resource> {
        if let Some(changes) = &delta.changes {
            self.take_spread(changes);
        }
        let mut wanted = self.wanted.borrow().clone();
        let came = wanted.merge(delta);
        let names: Vec<_> = came.iter().map(|resource| words(resource.as_str_name(), "RESOURCE_")).collect();
        tracing::info!(revision = wanted.revision, came = names.join(", "), "the broker sent a change");
        self.want(wanted);
        came
    }

    fn take_spread(&mut self, message: &Snapshot) {
        let spread = message.retry_spread_duration.and_then(|spread| Duration::try_from(spread).ok());
        self.spread = spread.unwrap_or(self.spread).min(WIDEST_SPREAD);
    }

    fn want(&self, wanted: Wanted) {
        self.settling.settle(&wanted);
        self.wanted.send_replace(wanted);
    }
}

/// The stream takes a few messages without waiting; one that takes none any more is broken.
fn send(requests: &mpsc::Sender<SyncRequest>, message: sync_request::Message) -> Result<(), End> {
    requests.try_send(SyncRequest { message: Some(message) }).map_err(|_| End::Closed)
}

#[cfg(test)]
mod tests;
