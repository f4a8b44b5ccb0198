//! The proof that the application authenticates at the broker with the credential it should: it is brought to do so.
//!
//! The broker makes a probe code. The agent starts a login at its own application, as a browser would, reads `state` from
//! the redirect to the broker, and comes back to the application's callback with the probe code instead of a login's. The
//! application presents it at the token endpoint, where the broker notes by which credential it authenticated, and
//! refuses the code: nobody is logged in. An application that cannot be brought to do so by its recipe is spoken for by
//! the agent, as far as the agent can reach the token endpoint; that shows at least that broker and files agree.

mod presenting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use homeward_proto::v1::sync_service_client::SyncServiceClient;
use homeward_proto::v1::{CreateProbeRequest, GetProbeRequest, GetProbeResponse, ProbeOutcome};
use thiserror::Error;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub(crate) use self::presenting::NotPresented;
use self::presenting::Presenter;
use super::render::Credentials;
use crate::application::Application;
use crate::config::PublicUrl;
use crate::connection::Broker;
use crate::provider::Provider;
use crate::recipe::relying_party::RelyingParty;

/// For one call to the broker.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an application may take to present a code, once it has it.
const UNTIL_PRESENTED: Duration = Duration::from_secs(3);
/// Between two questions, and between two probes.
const PAUSE: Duration = Duration::from_millis(200);
/// How many right probes in a row count: for a moment after a reload, old workers still answer some requests.
const RIGHT_PROBES: u32 = 2;

/// Probes one application.
#[derive(Debug)]
pub(crate) struct Prober {
    broker: Arc<Broker>,
    public_url: PublicUrl,
    /// Whether the log says already that nothing is probed here.
    told: AtomicBool,
}

/// Why a probe did not show what it should.
#[derive(Debug, Error)]
pub(crate) enum ProbeError {
    /// The application authenticates by another version.
    #[error(
        "the application was reloaded and still presents the old secret at the broker; check that it reads the agent's files and that the reload command makes all its processes read them again"
    )]
    OldSecret,
    /// The broker refuses what it presents.
    #[error(
        "the broker refuses the secret that the application presents; check that no other setting of the application stands before the agent's files, and that nobody else's copy of them is read"
    )]
    Refused,
    /// Nothing came.
    #[error(transparent)]
    NotPresented(#[from] NotPresented),
    /// Codes that were given to the application wait at the broker, which makes no more until they have expired.
    #[error("the application was given several codes and has presented none of them yet")]
    Crowded,
    /// The broker cannot be asked.
    #[error("the broker cannot say which secret the application presents: {0}")]
    BrokerAway(String),
}

impl ProbeError {
    /// What the broker counts and filters by.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::OldSecret => "OLD_SECRET_PRESENTED",
            Self::Refused => "SECRET_REFUSED",
            Self::NotPresented(_) | Self::Crowded => "PROBE_NOT_PRESENTED",
            Self::BrokerAway(_) => "BROKER_AWAY",
        }
    }

    /// Whether nobody knows yet how the application authenticates.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::BrokerAway(_) | Self::Crowded)
    }
}

impl Prober {
    /// Of the application that browsers know by this address.
    pub(super) fn new(broker: Arc<Broker>, public_url: PublicUrl) -> Self {
        Self { broker, public_url, told: AtomicBool::new(false) }
    }

    /// Probes until it comes out right, or patience ends. Where nothing can be probed, that is said once in the log.
    pub(super) async fn probe(
        &self,
        application: &Application,
        recipe: &RelyingParty,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<(), ProbeError> {
        let Some(presenter) = Presenter::of(recipe, application, credentials, &self.public_url) else {
            self.tell("the recipe has no relying_party.probe, and the agent cannot reach the token endpoint itself");
            return Ok(());
        };
        self.until_right(&presenter, credentials.secret_version, patience).await
    }

    /// Probes the agent itself, where that is the relying party, with credentials that it does not use yet.
    pub(super) async fn probe_gate(
        &self,
        candidate: &Provider,
        secret_version: u64,
        patience: Duration,
    ) -> Result<(), ProbeError> {
        self.until_right(&Presenter::Gate(candidate), secret_version, patience).await
    }

    async fn until_right(
        &self,
        presenter: &Presenter<'_>,
        secret_version: u64,
        patience: Duration,
    ) -> Result<(), ProbeError> {
        let (mut right, mut last, mut unused) = (0, None, None);
        let probed = tokio::time::timeout(patience, async {
            while right < RIGHT_PROBES {
                match self.probe_once(presenter, secret_version, &mut unused).await {
                    Ok(Shown::Right) => right += 1,
                    Ok(Shown::Unsupported) => return Ok(()),
                    Err(error @ ProbeError::BrokerAway(_)) => return Err(error),
                    // What went wrong with those that wait is the better answer.
                    Err(ProbeError::Crowded) if last.is_some() => right = 0,
                    Err(error) => (right, last) = (0, Some(error)),
                }
                if right < RIGHT_PROBES {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Ok(())
        });
        probed.await.unwrap_or_else(|_| Err(last.unwrap_or(NotPresented::Late.into())))
    }

    /// `unused` is a code that nobody was given: the next try takes it, since the broker lets only a few wait.
    async fn probe_once(
        &self,
        presenter: &Presenter<'_>,
        wanted: u64,
        unused: &mut Option<String>,
    ) -> Result<Shown, ProbeError> {
        let mut client = self.client()?;
        let code = match unused.take() {
            Some(code) => code,
            None => match in_time(client.create_probe(CreateProbeRequest {})).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    self.tell("the broker knows no probes");
                    return Ok(Shown::Unsupported);
                }
                Err(status) if status.code() == Code::ResourceExhausted => return Err(ProbeError::Crowded),
                created => created.map_err(away)?.code,
            },
        };
        if let Err(error) = presenter.present(&code).await {
            *unused = Some(code);
            return Err(error.into());
        }
        let outcome = self.outcome(client, code).await?;
        match outcome.outcome() {
            ProbeOutcome::Authenticated if outcome.secret_version == wanted => Ok(Shown::Right),
            ProbeOutcome::Authenticated => Err(ProbeError::OldSecret),
            ProbeOutcome::WrongSecret => Err(ProbeError::Refused),
            ProbeOutcome::Waiting | ProbeOutcome::Unspecified => Err(presenter.silence().into()),
        }
    }

    /// Most applications have presented the code by now; some do it when they have answered.
    async fn outcome(
        &self,
        mut client: SyncServiceClient<Channel>,
        code: String,
    ) -> Result<GetProbeResponse, ProbeError> {
        let begun = tokio::time::Instant::now();
        loop {
            let answer = in_time(client.get_probe(GetProbeRequest { code: code.clone() })).await.map_err(away)?;
            let open = matches!(answer.outcome(), ProbeOutcome::Waiting | ProbeOutcome::Unspecified);
            if !open || begun.elapsed() >= UNTIL_PRESENTED {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn client(&self) -> Result<SyncServiceClient<Channel>, ProbeError> {
        let channel = self.broker.shared().map_err(|error| ProbeError::BrokerAway(error.to_string()))?;
        Ok(SyncServiceClient::new(channel))
    }

    fn tell(&self, why: &'static str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "the client secret is acknowledged without a probe: nobody has seen the application use it"
            );
        }
    }
}

/// What a probe showed.
enum Shown {
    /// The application uses the credential.
    Right,
    /// The broker is too old to see it.
    Unsupported,
}

async fn in_time<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
}

/// The application is not to blame.
#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn away(status: Status) -> ProbeError {
    ProbeError::BrokerAway(format!("{:?}: {}", status.code(), status.message()))
}
