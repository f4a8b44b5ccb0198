//! Orders to agents: what an agent's stream takes from its lane, one at a time, and what the agent answers.
//!
//! The next order goes out when the one before was answered, or nobody answered it in time. A stream that breaks loses
//! nothing: the next one begins with the same order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::sessions::outbox::record::Lane;
use crate::sessions::outbox::{LogoutId, LogoutState, Message, Outbox, OutboxError, Outcome};

/// How long an agent may take for one order: longer than its commands may run.
const ANSWER: Duration = Duration::from_secs(90);

/// Pause before the store is asked again after it failed.
const PAUSE: Duration = Duration::from_secs(5);

/// The agents that are connected, and what wakes each when there is something for it.
#[derive(Debug, Default)]
pub(super) struct Desks(Mutex<HashMap<InstanceName, watch::Sender<()>>>);

/// What one agent's stream takes its orders from.
#[derive(Debug)]
pub struct AgentOrders {
    outbox: Outbox,
    name: InstanceName,
    clock: Clock,
    bell: watch::Receiver<()>,
    /// What the agent works on, and until when.
    sent: Option<(LogoutId, Instant)>,
    /// When the store is to be asked next, if not before the bell rings.
    look_at: Option<Instant>,
}

/// What an agent is to do.
#[derive(Clone, Debug)]
pub struct SessionOrder {
    /// Names it.
    pub id: LogoutId,
    /// Whose sessions are to end.
    pub message: Message,
}

impl Outbox {
    /// The orders of an agent that has just connected.
    pub fn orders(&self, name: InstanceName, clock: Clock) -> AgentOrders {
        let bell = self.desks.open(name.clone());
        AgentOrders { outbox: self.clone(), name, clock, bell, sent: None, look_at: Some(Instant::now()) }
    }

    /// Tells an agent that there may be something for it, if it is connected.
    pub(super) fn ring(&self, name: &InstanceName) {
        if let Some(bell) = self.desks.all().get(name) {
            bell.send_replace(());
        }
    }
}

impl AgentOrders {
    /// Waits until there is something for the agent to do. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> SessionOrder {
        loop {
            if let Some((id, until)) = self.sent.clone() {
                tokio::time::sleep_until(until).await;
                self.settle(&id, Outcome::Failed("its agent did not answer in time".to_owned())).await;
                continue;
            }
            match self.look_at {
                None => self.rung().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.rung() => {}
                },
            }
            match self.look().await {
                Ok(Some(order)) => {
                    self.sent = Some((order.id.clone(), Instant::now() + ANSWER));
                    return order;
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(instance = %self.name, %error, "orders for an agent cannot be read; trying again");
                    self.look_at = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    /// Notes what the agent said of an order. What it says of any other than its own, or twice, is nothing.
    pub async fn answered(&mut self, id: &str, outcome: Outcome) {
        if let Some((sent, _)) = self.sent.clone().filter(|(sent, _)| sent.as_str() == id) {
            self.settle(&sent, outcome).await;
        }
    }

    /// Once the bell has rung, the store is asked, whoever cancels what in between.
    async fn rung(&mut self) {
        if self.bell.changed().await.is_err() {
            // The desk is taken away with the last stream of the agent, not before.
            std::future::pending::<()>().await;
        }
        self.look_at = Some(Instant::now());
    }

    async fn look(&mut self) -> Result<Option<SessionOrder>, OutboxError> {
        let now = self.clock.now();
        let Some(place) = self.outbox.head(&Lane::Agent(self.name.clone())).await? else {
            self.look_at = None;
            return Ok(None);
        };
        if place.at > now {
            self.look_at = Some(Instant::now() + place.at.since(now));
            return Ok(None);
        }
        let found = self.outbox.get(&place.id).await?;
        match found.filter(|logout| logout.state == LogoutState::Pending) {
            Some(logout) if now < logout.give_up_at => Ok(Some(SessionOrder { id: place.id, message: logout.message })),
            Some(_) => {
                self.outbox.settle(&place.id, Outcome::Gone("its agent did not come in time".to_owned()), now).await?;
                Ok(None)
            }
            None => {
                self.outbox.forget(&place).await?;
                Ok(None)
            }
        }
    }

    async fn settle(&mut self, id: &LogoutId, outcome: Outcome) {
        match self.outbox.settle(id, outcome, self.clock.now()).await {
            Ok(()) => self.look_at = Some(Instant::now()),
            Err(error) => {
                // It stands where it stood, and is ordered again.
                warn!(instance = %self.name, logout = %id, %error, "what an agent said of an order cannot be noted");
                self.look_at = Some(Instant::now() + PAUSE);
            }
        }
        self.sent = None;
    }
}

impl Drop for AgentOrders {
    fn drop(&mut self) {
        self.outbox.desks.close(&self.name);
    }
}

impl Desks {
    fn open(&self, name: InstanceName) -> watch::Receiver<()> {
        self.all().entry(name).or_default().subscribe()
    }

    /// Takes the desk away with the last stream that is at it: its receiver still counts.
    fn close(&self, name: &InstanceName) {
        let mut all = self.all();
        if all.get(name).is_some_and(|bell| bell.receiver_count() <= 1) {
            all.remove(name);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<InstanceName, watch::Sender<()>>> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
