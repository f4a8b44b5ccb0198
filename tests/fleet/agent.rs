//! One simulated agent: a connection, a stream on it that acknowledges what comes, a renewal when the broker orders one,
//! and another connection when this one ends. It waits and spreads as the real agent does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use homeward_certs::identity::TrustDomain;
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::{LiveBundle, instance_config};
use homeward_proto::v1;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Answer;
use homeward_proto::v1::sync_service_client::SyncServiceClient;
use rustls::time_provider::DefaultTimeProvider;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use world::applicant;

use crate::backoff::{Backoff, fraction};
use crate::board::{News, Reporter};
use crate::identity::{Identity, Renewal};
use crate::resources::{InUse, Seen, state};

/// For TCP, TLS and HTTP/2 together, and for each call.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often an agent says that it is there; a fifth more or less.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A stream that lived this long was good.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The widest spread that a broker may ask for.
const WIDEST_SPREAD: Duration = Duration::from_secs(30);

/// Refusals after which an agent does not come back.
const DISMISSALS: [&str; 3] = ["INSTANCE_QUARANTINED", "AGENT_UNKNOWN", "CERTIFICATE_REPLACED"];

/// All that an agent can be told to have.
const EVERYTHING: [v1::Resource; 5] = [
    v1::Resource::ClientCredentials,
    v1::Resource::KeySet,
    v1::Resource::TrustBundle,
    v1::Resource::Homes,
    v1::Resource::RenewalOrder,
];

/// What all agents have in common.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Where the broker takes their calls.
    pub(crate) agent_url: String,
    /// The federation.
    pub(crate) trust_domain: TrustDomain,
    /// What the broker sent last.
    pub(crate) seen: Seen,
    /// How many may connect for the first time at once.
    pub(crate) first_connections: Semaphore,
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    identity: Identity,
    in_use: InUse,
    spread: Duration,
    order: Option<Order>,
    renewal: Option<Renewal>,
    surroundings: Arc<Surroundings>,
    reporter: Reporter,
}

/// The broker wants the certificate to be of this CA.
#[derive(Debug)]
struct Order {
    authority: SpkiPin,
    within: Duration,
    moment: Instant,
}

/// An open stream and the connection it is on.
struct Stream {
    channel: Channel,
    requests: mpsc::Sender<v1::SyncRequest>,
    responses: Streaming<v1::SyncResponse>,
}

/// Why there is no stream any more.
enum End {
    /// There is a new certificate to connect with.
    Renewed,
    /// The broker asked to come back later.
    Drained(Duration),
    /// The broker does not want to see this agent again.
    Dismissed(String),
    /// Anything else.
    Lost(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for End {
    fn from(error: E) -> Self {
        let error = error.into();
        let reason = applicant::reason_of(&error);
        if DISMISSALS.iter().any(|dismissal| reason.ends_with(dismissal)) {
            Self::Dismissed(reason)
        } else {
            Self::Lost(error)
        }
    }
}

impl Agent {
    /// An agent that was enrolled a moment ago.
    pub(crate) fn new(
        identity: Identity,
        bundle: Arc<LiveBundle>,
        surroundings: Arc<Surroundings>,
        reporter: Reporter,
    ) -> Self {
        let in_use = InUse::nothing(bundle);
        Self { identity, in_use, spread: Duration::ZERO, order: None, renewal: None, surroundings, reporter }
    }

    /// Keeps a stream open until the broker dismisses the agent.
    pub(crate) async fn run(mut self) {
        let surroundings = self.surroundings.clone();
        let mut first = surroundings.first_connections.acquire().await.ok();
        let mut backoff = Backoff::default();
        loop {
            let stream = self.open().await;
            drop(first.take());
            let (opened, was_open) = (Instant::now(), stream.is_ok());
            let end = match stream {
                Ok(stream) => self.converse(stream).await,
                Err(end) => end,
            };
            if was_open && opened.elapsed() >= HEALTHY_AFTER {
                backoff.reset();
            }
            let pause = match end {
                End::Renewed => continue,
                End::Drained(after) => after + self.spread.mul_f64(fraction()),
                End::Dismissed(reason) => return self.reporter.tell(News::Dismissed(reason)),
                End::Lost(error) => {
                    self.reporter.tell(News::Lost(format!("{error:#}")));
                    // All agents lost it at the same moment; later ones are alone with their failures.
                    if was_open { self.spread.mul_f64(fraction()) } else { backoff.next(fraction()) }
                }
            };
            sleep(pause).await;
        }
    }

    /// Connects and says Hello. The broker has heard it when it answers.
    async fn open(&mut self) -> Result<Stream, End> {
        let tls = instance_config(
            self.identity.live()?,
            self.in_use.bundle.clone(),
            self.surroundings.trust_domain.clone(),
            Arc::new(DefaultTimeProvider),
        )?;
        let connected = timeout(PATIENCE, applicant::connect(&self.surroundings.agent_url, tls)).await;
        let (channel, _) = connected.context("no connection in time")??;
        let (requests, received) = mpsc::channel(4);
        say(&requests, Said::Hello(self.in_use.hello()))?;
        let mut client = SyncServiceClient::new(channel.clone());
        let answered = timeout(PATIENCE, client.sync(ReceiverStream::new(received))).await;
        let responses = answered.context("no answer to Hello in time")??.into_inner();
        self.reporter.tell(News::Connected(self.identity.authority()?));
        Ok(Stream { channel, requests, responses })
    }

    /// Acknowledges what comes, until something ends the stream.
    async fn converse(&mut self, mut stream: Stream) -> End {
        loop {
            match self.step(&mut stream).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn step(&mut self, stream: &mut Stream) -> Result<(), End> {
        let renewal = async {
            match &self.order {
                Some(order) => sleep_until(order.moment).await,
                None => std::future::pending().await,
            }
        };
        // Drawn anew for each step: an agent to which things happen is heard of anyway.
        let heartbeat = HEARTBEAT.mul_f64(0.8 + 0.4 * fraction());
        tokio::select! {
            message = stream.responses.message() => {
                let message = message?.context("the broker closed the stream")?;
                self.take(message, &stream.requests)
            }
            () = renewal => self.renew(stream.channel.clone()).await,
            () = sleep(heartbeat) => say(&stream.requests, Said::Heartbeat(v1::Heartbeat { state: Some(state()) })),
        }
    }

    fn take(&mut self, message: v1::SyncResponse, requests: &mpsc::Sender<v1::SyncRequest>) -> Result<(), End> {
        let (changes, removed) = match message.message {
            // What is not in there is no longer wanted.
            Some(Answer::Snapshot(snapshot)) => (snapshot, EVERYTHING.map(i32::from).to_vec()),
            Some(Answer::Delta(delta)) => (delta.changes.unwrap_or_default(), delta.removed),
            Some(Answer::Question(_)) => return Ok(()),
            Some(Answer::Drain(drain)) => {
                return Err(End::Drained(duration(drain.retry_after_duration).unwrap_or_default()));
            }
            Some(Answer::EndSessions(_)) | None => return Ok(()),
        };
        self.spread = duration(changes.retry_spread_duration).unwrap_or(self.spread).min(WIDEST_SPREAD);
        if removed.contains(&v1::Resource::RenewalOrder.into()) {
            self.order = None;
        }
        if let Some(order) = &changes.renewal_order {
            self.obey(order)?;
        }
        let taken = self.in_use.take(changes, &removed, &self.surroundings.seen)?;
        say(requests, Said::Ack(taken.ack))?;
        self.reporter.tell(News::Acknowledged { key_set: taken.key_set, bundle_version: taken.bundle_version });
        Ok(())
    }

    /// Draws the moment of the renewal, unless the certificate is of the wanted CA already.
    fn obey(&mut self, order: &v1::RenewalOrder) -> Result<(), End> {
        let pin: [u8; 32] = order.authority_pin.as_slice().try_into().context("the renewal order's pin")?;
        let (authority, within) = (SpkiPin::from_bytes(pin), duration(order.within_duration).unwrap_or_default());
        self.order = None;
        if self.identity.authority()? != authority {
            self.reporter.tell(News::Ordered);
            self.order = Some(Order { authority, within, moment: Instant::now() + within.mul_f64(fraction()) });
        }
        Ok(())
    }

    /// Asks for the next certificate. A refusal is answered by another moment of the next window, not by haste.
    async fn renew(&mut self, channel: Channel) -> Result<(), End> {
        let renewal = match self.renewal.take() {
            Some(renewal) => renewal,
            None => Renewal::begin()?,
        };
        let request = renewal.request(&self.identity)?;
        let answered = timeout(PATIENCE, EnrolmentServiceClient::new(channel).renew(request)).await;
        match answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to the renewal in time"))) {
            Ok(answer) => {
                self.identity.renew(renewal, answer.into_inner());
                let wanted = self.order.take().map(|order| order.authority);
                if wanted.is_some_and(|wanted| self.identity.authority().ok() != Some(wanted)) {
                    self.reporter
                        .tell(News::RenewalRefused("the new certificate is of another CA than ordered".into()));
                }
                Err(End::Renewed)
            }
            Err(status) => {
                self.renewal = Some(renewal);
                self.reporter.tell(News::RenewalRefused(applicant::reason(&status)));
                if let Some(order) = &mut self.order {
                    order.moment = Instant::now() + order.within.mul_f64(fraction());
                }
                Ok(())
            }
        }
    }
}

/// The stream takes a few messages without waiting; one that takes none any more is broken.
fn say(requests: &mpsc::Sender<v1::SyncRequest>, message: Said) -> Result<(), End> {
    let sent = requests.try_send(v1::SyncRequest { message: Some(message) });
    sent.map_err(|_| End::Lost(anyhow!("the stream takes nothing any more")))
}

fn duration(wire: Option<impl TryInto<Duration>>) -> Option<Duration> {
    wire.and_then(|wire| wire.try_into().ok())
}
