//! `homeward.v1.SyncService`.

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Answer;
use homeward_proto::v1::sync_service_server::SyncService;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::Clock;
use crate::enrolment::EnrolmentError;
use crate::fleet::{Connection, Desired, EndReason, Fleet, Next, Report, SILENCE, Word};
use crate::grants::{ProbeCode, ProbeOutcome, Probes};
use crate::grpc::enrolment::caller;
use crate::grpc::status::{self, Reason};
use crate::grpc::{Services, wire_bundle, wire_time};
use crate::registry::{ClientKey, PublicJwk, Registry};

/// An agent says Hello in this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    fleet: Arc<Fleet>,
    probes: Probes,
    registry: Registry,
    clock: Clock,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(services: &Services, shutdown: CancellationToken) -> Self {
        Self {
            fleet: services.fleet.clone(),
            probes: services.probes.clone(),
            registry: services.registry.clone(),
            clock: services.clock.clone(),
            shutdown,
        }
    }
}

type Outbound = mpsc::Sender<Result<v1::SyncResponse, Status>>;

#[tonic::async_trait]
impl SyncService for Service {
    type SyncStream = ReceiverStream<Result<v1::SyncResponse, Status>>;

    async fn sync(&self, request: Request<Streaming<v1::SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let caller = caller(&request)?;
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
        let first = first.map_err(|_| status::refused(Reason::HelloMissing))??;
        let Some(Said::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(status::refused(Reason::HelloMissing));
        };
        let version = clean(&hello.agent_version, 64);
        let connection = self.fleet.connect(caller.0, hello.applied_revision, version, report(hello.state));
        // One message waits for a slow agent at the most.
        let (outbound, stream) = mpsc::channel(1);
        tokio::spawn(converse(connection, inbound, outbound, self.fleet.clone(), self.shutdown.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn create_probe(
        &self,
        request: Request<v1::CreateProbeRequest>,
    ) -> Result<Response<v1::CreateProbeResponse>, Status> {
        let name = caller(&request)?.0;
        let snapshot = self.registry.snapshot();
        if snapshot.instance(&name).is_none_or(|instance| instance.relying_party.is_none()) {
            return Err(status::refused(Reason::RelyingPartyMissing));
        }
        let created = self.probes.create(&name, self.clock.now()).await;
        let created = created.map_err(|error| status::probe(&error))?;
        Ok(Response::new(v1::CreateProbeResponse {
            code: created.code.expose_secret().to_owned(),
            expire_time: Some(wire_time(created.expires_at)),
        }))
    }

    async fn get_probe(&self, request: Request<v1::GetProbeRequest>) -> Result<Response<v1::GetProbeResponse>, Status> {
        let name = caller(&request)?.0;
        let code = ProbeCode::of(&request.into_inner().code);
        let code = code.ok_or_else(|| status::refused(Reason::FieldInvalid("code")))?;
        let outcome = self.probes.outcome(&name, &code, self.clock.now()).await;
        let (outcome, secret_version) = match outcome.map_err(|error| status::probe(&error))? {
            ProbeOutcome::Waiting => (v1::ProbeOutcome::Waiting, 0),
            ProbeOutcome::Authenticated { version } => (v1::ProbeOutcome::Authenticated, version),
            ProbeOutcome::WrongSecret => (v1::ProbeOutcome::WrongSecret, 0),
        };
        Ok(Response::new(v1::GetProbeResponse { outcome: outcome.into(), secret_version }))
    }

    async fn register_client_key(
        &self,
        request: Request<v1::RegisterClientKeyRequest>,
    ) -> Result<Response<v1::RegisterClientKeyResponse>, Status> {
        let name = caller(&request)?.0;
        let request = request.into_inner();
        let jwk = PublicJwk::read(&request.jwk).map_err(|error| status::invalid(&error))?;
        let key = ClientKey { jwk, version: request.secret_version };
        let registered = self.registry.register_client_key(&name, key).await;
        registered.map_err(|error| status::client_key(&error))?;
        Ok(Response::new(v1::RegisterClientKeyResponse {}))
    }
}

/// Carries words both ways until one side ends. What is to be sent waits in `newest`, and a newer one takes its place: an
/// agent that does not read holds up nothing, its own end least of all.
async fn converse(
    mut connection: Connection,
    mut inbound: Streaming<v1::SyncRequest>,
    outbound: Outbound,
    fleet: Arc<Fleet>,
    shutdown: CancellationToken,
) {
    let silence = tokio::time::sleep(SILENCE);
    tokio::pin!(silence);
    let mut newest: Option<Arc<Desired>> = None;
    let last = loop {
        tokio::select! {
            next = connection.next() => match next {
                Next::Send(desired) => newest = Some(desired),
                Next::End(reason) => break Err(ended(reason)),
            },
            room = outbound.reserve(), if newest.is_some() => match (room, newest.take()) {
                (Ok(room), Some(desired)) => room.send(Ok(snapshot(&desired, fleet.retry_spread()))),
                // The agent is gone.
                _ => return,
            },
            said = inbound.message() => match said {
                Ok(Some(said)) => {
                    silence.set(tokio::time::sleep(SILENCE));
                    match said.message {
                        Some(Said::Hello(_)) => break Err(status::refused(Reason::HelloMissing)),
                        Some(said) => connection.heard(word(said)),
                        // A newer agent says something that this broker does not know.
                        None => {}
                    }
                }
                // The agent is gone.
                Ok(None) | Err(_) => return,
            },
            () = &mut silence => break Err(status::refused(Reason::Silent)),
            () = outbound.closed() => return,
            () = shutdown.cancelled() => break Ok(drain(fleet.retry_spread())),
        }
    };
    // No room: the agent does not read. Its stream ends without a word, and its next call is told the reason.
    drop(outbound.try_send(last));
}

fn ended(reason: EndReason) -> Status {
    match reason {
        EndReason::Quarantined => status::enrolment(&EnrolmentError::Quarantined),
        EndReason::Unknown => status::enrolment(&EnrolmentError::AgentUnknown),
        EndReason::Superseded => status::refused(Reason::StreamSuperseded),
    }
}

fn word(said: Said) -> Word {
    match said {
        Said::Hello(hello) => Word::Heartbeat(report(hello.state)),
        Said::Ack(ack) => Word::Ack(ack.revision),
        Said::Nack(nack) => Word::Nack {
            revision: nack.revision,
            reason: format!("{}: {}", clean(&nack.reason, 63), clean(&nack.detail, 512)),
        },
        Said::Heartbeat(heartbeat) => Word::Heartbeat(report(heartbeat.state)),
    }
}

fn report(state: Option<v1::AgentState>) -> Report {
    let state = state.unwrap_or_default();
    Report { home_ready: state.home_ready, problem: clean(&state.problem, 256) }
}

/// An agent's text, fit for logs and terminals: no control characters, not longer than it may be.
fn clean(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

fn snapshot(desired: &Desired, retry_spread: Duration) -> v1::SyncResponse {
    let credentials = desired.credentials.as_ref().map(|credentials| v1::ClientCredentials {
        issuer: credentials.issuer.clone(),
        client_id: credentials.client_id.to_string(),
        client_secret: credentials.secret.to_string(),
        secret_version: credentials.version,
        private_key: false,
    });
    let homes = desired.homes.iter();
    answer(Answer::Snapshot(v1::Snapshot {
        revision: desired.revision,
        client_credentials: credentials,
        key_set: desired.key_set.clone().into_bytes().into(),
        trust_bundle: Some(wire_bundle(&desired.bundle)),
        homes: homes
            .map(|home| v1::HomeEntry { name: home.name.clone(), display_name: home.display_name.clone() })
            .collect(),
        retry_spread_duration: prost_types::Duration::try_from(retry_spread).ok(),
        ..v1::Snapshot::default()
    }))
}

fn drain(retry_spread: Duration) -> v1::SyncResponse {
    let retry_after_duration = prost_types::Duration::try_from(retry_spread).ok();
    answer(Answer::Drain(v1::Drain { retry_after_duration }))
}

fn answer(message: Answer) -> v1::SyncResponse {
    v1::SyncResponse { message: Some(message) }
}
