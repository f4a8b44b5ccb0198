//! The fleet: what each agent should have, has, and said.
//!
//! What an agent should have consists of resources, each with an opaque version: some are the same for all and made once
//! per revision ([`SharedState`]), some are its own and follow from the registry (`own`). An agent holds one stream.
//! [`Fleet::connect`] opens it with the agent's Hello, which names the versions that the instance uses;
//! [`Connection::next`] wakes when there may be something to send, or the stream has to end; [`Connection::update`] is
//! what to send: all of it, or what differs. What the agent says back goes to [`Connection::heard`] and stands in
//! [`Liveness`] for ops, the home picker and the gates of rotations. What ops want to know of an agent is asked with
//! [`Fleet::ask`], also if its stream is at another broker.
//!
//! Invariants: a quarantined instance's stream ends with the registry change that quarantines it; of one agent's streams
//! only the newest lives; nothing is queued for a slow agent, because what is to be sent is found out when it can be
//! sent; a change of the registry wakes only those whom it concerns.

mod connection;
mod elsewhere;
mod own;
mod questions;
mod shared;
#[cfg(test)]
mod tests;
mod versions;
mod word;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::brokers::Brokers;
use crate::clock::Clock;
use crate::config::Issuer;
use crate::registry::{Instance, Liveness, Registry, Touched};
use crate::secret::SealingKeys;
use crate::storage::Store;

pub use connection::{Connection, Contents, EndReason, Next, Update};
pub use elsewhere::StoredQuestion;
pub use own::{CredentialSecret, Credentials, HomeEntry};
pub use questions::{AccountMatch, AccountPreview, AgentQuestions, Inquiry, NoReply, Question, QuestionError, Reply};
pub use shared::{Pace, RenewalOrder, SharedState};
pub use word::{Acknowledgement, Hello, KnownKeys, Nack, Report, Word};

use elsewhere::Elsewhere;
use questions::Questions;
use shared::Shared;

/// An agent that says nothing for so long is gone: three heartbeats.
pub const SILENCE: Duration = Duration::from_secs(110);

/// How long a broker that stops asks its agents to stay away, at the least: it takes that long to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Over how long agents spread their reconnects, at the least.
const MIN_SPREAD: Duration = Duration::from_secs(1);

/// Reconnects a second that a broker takes without strain.
const RECONNECTS_PER_SECOND: u64 = 500;

/// All agents.
#[derive(Debug)]
pub struct Fleet {
    registry: Registry,
    liveness: Liveness,
    terms: Terms,
    shared: watch::Sender<Arc<Shared>>,
    seats: Mutex<HashMap<InstanceName, watch::Sender<Seat>>>,
    next_stream: AtomicU64,
    questions: Questions,
    elsewhere: Arc<Elsewhere>,
    clock: Clock,
}

/// What never changes.
#[derive(Clone, Debug)]
pub struct Terms {
    /// For the application's configuration.
    pub issuer: Issuer,
    /// Opens client secrets for their owners, and seals what agents of other brokers are asked.
    pub sealing: Arc<SealingKeys>,
    /// The other brokers.
    pub brokers: Brokers,
    /// The way to them.
    pub store: Arc<dyn Store>,
}

/// The place of an agent that is connected.
#[derive(Clone, Copy, Debug)]
struct Seat {
    /// The newest of its streams.
    stream: u64,
    /// Counts the changes of the registry that concern it.
    touched: u64,
}

impl Fleet {
    /// Nobody is there yet. The future wakes agents when something changes, and must be run.
    pub fn open(
        registry: Registry,
        liveness: Liveness,
        terms: Terms,
        shared: watch::Receiver<Arc<SharedState>>,
        clock: Clock,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send) {
        // Listened to before anybody can connect, so that nobody misses a change.
        let touched = registry.touched();
        let fleet = Arc::new(Self {
            registry,
            liveness,
            elsewhere: Arc::new(Elsewhere::new(terms.clone())),
            terms,
            shared: watch::Sender::new(Arc::new(Shared::of(shared.borrow().clone()))),
            seats: Mutex::default(),
            next_stream: AtomicU64::new(1),
            questions: Questions::new(questions::PATIENCE),
            clock,
        });
        let answer = fleet.elsewhere.clone().answer_others(fleet.questions.clone());
        let follow = fleet.clone().follow(touched, shared);
        (fleet, async move {
            tokio::join!(follow, answer);
        })
    }

    async fn follow(
        self: Arc<Self>,
        mut touched: broadcast::Receiver<Arc<Touched>>,
        mut source: watch::Receiver<Arc<SharedState>>,
    ) {
        loop {
            tokio::select! {
                touched = touched.recv() => match touched.as_deref() {
                    Ok(Touched::Agents(names)) => {
                        let seats = self.seats();
                        names.iter().filter_map(|name| seats.get(name)).for_each(wake);
                    }
                    Ok(Touched::Everyone) | Err(RecvError::Lagged(_)) => self.seats().values().for_each(wake),
                    Err(RecvError::Closed) => return,
                },
                // Once nobody can change it any more, it stays as it is.
                Ok(()) = source.changed() => {
                    let state = source.borrow_and_update().clone();
                    self.shared.send_replace(Arc::new(Shared::of(state)));
                }
            }
        }
    }

    /// An agent opened a stream, as this instance, and said what that uses. An older stream of it ends.
    pub fn connect(self: &Arc<Self>, instance: &Instance, hello: Hello) -> Connection {
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let seat = {
            let mut seats = self.seats();
            let seat =
                seats.entry(instance.name.clone()).or_insert_with(|| watch::Sender::new(Seat { stream, touched: 0 }));
            seat.send_modify(|seat| seat.stream = stream);
            seat.subscribe()
        };
        Connection::open(self.clone(), instance, stream, seat, hello)
    }

    /// Over how long an agent should spread its reconnect.
    pub fn retry_spread(&self) -> Duration {
        let agents = self.registry.snapshot().size() as u64;
        MIN_SPREAD.max(Duration::from_secs(agents / RECONNECTS_PER_SECOND))
    }

    /// Whether agents are better off at another broker, because this one does not hear who is cut off.
    pub fn cut_off(&self) -> watch::Receiver<bool> {
        self.terms.brokers.cut_off()
    }

    /// The questions for an agent that has just connected.
    pub fn questions(&self, name: InstanceName) -> AgentQuestions {
        self.questions.open(name)
    }

    /// Asks an agent something.
    ///
    /// # Errors
    /// When it is not connected to any broker, or does not answer within ten seconds.
    pub async fn ask(&self, name: &InstanceName, inquiry: Inquiry) -> Result<Reply, QuestionError> {
        match self.liveness.held_elsewhere(name) {
            Some(broker) => self.elsewhere.ask(broker, name, &inquiry, self.clock.now()).await,
            None => self.questions.ask(name, inquiry).await,
        }
    }

    /// How long an agent should stay away from a broker that stops: not at all if there is another one.
    pub fn retry_after(&self) -> Duration {
        if self.terms.brokers.has_company() { Duration::ZERO } else { RETRY_AFTER }
    }

    /// What is known of every agent.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Gives up the seat of a stream that ended, unless a newer one of the same agent has taken it. The agent is `gone`
    /// before it can take a seat again, so that no newer stream's word is overwritten.
    fn leave(&self, name: &InstanceName, stream: u64, gone: impl FnOnce()) {
        let mut seats = self.seats();
        if seats.get(name).is_some_and(|seat| seat.borrow().stream == stream) {
            seats.remove(name);
            gone();
        }
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<InstanceName, watch::Sender<Seat>>> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(seat: &watch::Sender<Seat>) {
    seat.send_modify(|seat| seat.touched += 1);
}
