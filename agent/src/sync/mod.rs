//! The Sync loop: one stream to the broker for as long as both live. The agent says what it has; the broker sends what it
//! should have; what was applied (by [`crate::apply::worker`], which knows no stream) is acknowledged.
//!
//! When the stream breaks: the first reconnect is spread as wide as the broker asked for, because all agents lost it at
//! the same moment; after that full jitter from 1 s to 5 min, forgotten once a stream has lived for a minute. What was
//! applied stays in effect all the while.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::TrustBundle;
use homeward_proto::v1::sync_service_client::SyncServiceClient;
use homeward_proto::v1::{
    Ack, Heartbeat, Hello, Nack, Snapshot, SyncRequest, SyncResponse, sync_request, sync_response,
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::apply::worker::Outcome;
use crate::backoff::{self, Backoff};
use crate::connection::{Broker, DialError};
use crate::health::Health;
use crate::identity::Identity;
use crate::refusal::Dismissal;
use crate::{clock, random};

/// How often the agent says that it is there, and the share by which that varies.
const HEARTBEAT: (Duration, f64) = (Duration::from_secs(30), 0.2);
/// A stream that lived this long was good.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The widest spread of the first reconnect that a broker may ask for.
const WIDEST_SPREAD: Duration = Duration::from_secs(30);
/// For the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest detail of a refusal that the contract allows, in characters.
const LONGEST_DETAIL: usize = 512;

/// One agent's side of Sync.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Who we are.
    pub(crate) identity: Arc<Identity>,
    /// Whom to talk to.
    pub(crate) broker: Arc<Broker>,
    /// How the instance is.
    pub(crate) health: Health,
    /// Where snapshots go.
    pub(crate) wanted: watch::Sender<Option<Snapshot>>,
    /// How they went.
    pub(crate) outcome: watch::Receiver<Outcome>,
    /// How wide the broker wants the first reconnect to be spread.
    pub(crate) spread: Duration,
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
            // A refusal of the certificate before the one in use now dismisses nobody.
            if let End::Refused(status) = &end
                && let Some(dismissal) = Dismissal::of(status)
                && generation == self.identity.certificate_generation()
            {
                return dismissal;
            }
            // Judged only when the broker has not let us in. If its certificate is not valid by our clock either, it is our
            // clock that is wrong, and may be set any moment.
            let doubtful = matches!(end, End::Renewed | End::Dial(DialError::Clock { .. }));
            if self.identity.expires_at() <= clock::now() && !doubtful {
                return Dismissal::Expired;
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
        let (requests, mut responses) = self.open().await?;
        *was_open = true;
        tracing::info!(broker = self.identity.agent_url(), "connected to the broker");
        let mut heartbeat = Box::pin(tokio::time::sleep(next_heartbeat()));
        loop {
            tokio::select! {
                message = responses.message() => {
                    let message = message.map_err(Box::new)?.ok_or(End::Closed)?;
                    self.take(message)?;
                }
                Ok(()) = self.outcome.changed() => {
                    let outcome = self.outcome.borrow_and_update().clone();
                    if let Some(message) = verdict(outcome) {
                        send(&requests, message)?;
                    }
                }
                () = &mut heartbeat => {
                    let state = self.health.state(&self.outcome.borrow()).await;
                    send(&requests, sync_request::Message::Heartbeat(Heartbeat { state: Some(state) }))?;
                    heartbeat.as_mut().reset(Instant::now() + next_heartbeat());
                }
                Ok(()) = generation.changed() => return Err(End::Renewed),
            }
        }
    }

    async fn open(&mut self) -> Result<(mpsc::Sender<SyncRequest>, Streaming<SyncResponse>), End> {
        let channel = self.broker.connect().await?;
        let outcome = self.outcome.borrow_and_update().clone();
        let hello = Hello {
            applied_revision: match &outcome {
                Outcome::Idle(revision) | Outcome::Applied(revision) => *revision,
                // The broker sends the newest snapshot again, and hears the refusal again.
                Outcome::Failed { applied, .. } => *applied,
            },
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            state: Some(self.health.state(&outcome).await),
            ..Hello::default()
        };
        let (requests, received) = mpsc::channel(8);
        send(&requests, sync_request::Message::Hello(hello))?;
        if let Outcome::Failed { .. } = &outcome
            && let Some(message) = verdict(outcome)
        {
            send(&requests, message)?;
        }
        let open = async { SyncServiceClient::new(channel).sync(ReceiverStream::new(received)).await };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, open).await.map_err(|_| End::TimedOut)?;
        Ok((requests, opened.map_err(Box::new)?.into_inner()))
    }

    fn take(&mut self, message: SyncResponse) -> Result<(), End> {
        match message.message {
            Some(sync_response::Message::Snapshot(snapshot)) => self.take_snapshot(snapshot),
            Some(sync_response::Message::Drain(drain)) => {
                let after = drain.retry_after_duration.and_then(|after| after.try_into().ok());
                return Err(End::Drained(after.unwrap_or_default()));
            }
            // A newer broker may say what this agent does not know.
            Some(sync_response::Message::Delta(_)) | None => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, snapshot: Snapshot) {
        tracing::info!(revision = snapshot.revision, "the broker sent a revision");
        let spread = snapshot.retry_spread_duration.and_then(|spread| Duration::try_from(spread).ok());
        self.spread = spread.unwrap_or(self.spread).min(WIDEST_SPREAD);
        if let Some(bundle) = &snapshot.trust_bundle {
            let trusted = TrustBundle::new(bundle.version, bundle.certificates.clone())
                .map_err(crate::identity::IdentityError::from)
                .and_then(|bundle| self.identity.trust(bundle));
            if let Err(error) = trusted {
                tracing::error!(%error, version = bundle.version, "the trust bundle was not taken; the old one stays");
            }
        }
        self.wanted.send_replace(Some(snapshot));
    }
}

/// What the broker hears of an outcome.
fn verdict(outcome: Outcome) -> Option<sync_request::Message> {
    match outcome {
        Outcome::Idle(_) => None,
        Outcome::Applied(revision) => Some(sync_request::Message::Ack(Ack { revision, ..Ack::default() })),
        Outcome::Failed { revision, reason, detail, .. } => {
            let detail = detail.chars().take(LONGEST_DETAIL).collect();
            Some(sync_request::Message::Nack(Nack { revision, reason: reason.to_owned(), detail, resource: None }))
        }
    }
}

/// The stream takes a few messages without waiting; one that takes none any more is broken.
fn send(requests: &mpsc::Sender<SyncRequest>, message: sync_request::Message) -> Result<(), End> {
    requests.try_send(SyncRequest { message: Some(message) }).map_err(|_| End::Closed)
}

fn next_heartbeat() -> Duration {
    backoff::spread(HEARTBEAT.0, HEARTBEAT.1, random::fraction())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_tried_is_told() {
        assert!(verdict(Outcome::Idle(3)).is_none());
        assert!(matches!(verdict(Outcome::Applied(3)), Some(sync_request::Message::Ack(Ack { revision: 3, .. }))));
        let failed = Outcome::Failed { revision: 4, applied: 3, reason: "RELOAD_FAILED", detail: "x".repeat(2000) };
        let Some(sync_request::Message::Nack(nack)) = verdict(failed) else { panic!("no refusal") };
        assert_eq!((nack.revision, nack.reason.as_str(), nack.detail.len()), (4, "RELOAD_FAILED", LONGEST_DETAIL));
    }

    #[test]
    fn heartbeats_keep_their_bounds() {
        for _ in 0..1000 {
            let wait = next_heartbeat();
            assert!(wait >= Duration::from_secs(24) && wait <= Duration::from_secs(36), "{wait:?}");
        }
    }
}
