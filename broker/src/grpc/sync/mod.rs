//! `homeward.v1.SyncService`.

mod wire;

use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_service_server::SyncService;
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::Clock;
use crate::fleet::{AgentQuestions, Connection, Fleet, Next, SILENCE};
use crate::grants::{ProbeCode, ProbeOutcome, Probes};
use crate::grpc::enrolment::caller;
use crate::grpc::status::{self, Reason};
use crate::grpc::{Services, wire_time};
use crate::registry::{ClientKey, PublicJwk, Registry};
use crate::sessions::{AgentOrders, Outbox};
use crate::storage::StoreError;

/// An agent says Hello in this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    fleet: Arc<Fleet>,
    probes: Probes,
    registry: Registry,
    outbox: Outbox,
    clock: Clock,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(services: &Services, shutdown: CancellationToken) -> Self {
        Self {
            fleet: services.fleet.clone(),
            probes: services.probes.clone(),
            registry: services.registry.clone(),
            outbox: services.sessions.outbox().clone(),
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
        if *self.fleet.cut_off().borrow() {
            return Err(status::store(&StoreError::Unavailable("this broker does not reach its store".into())));
        }
        let connection = self.fleet.connect(&caller.1, wire::hello(hello));
        let questions = self.fleet.questions(caller.0.clone());
        let orders = self.outbox.orders(caller.0, self.clock.clone());
        // One message waits for a slow agent at the most.
        let (outbound, stream) = mpsc::channel(1);
        let agent = Agent { connection, orders, questions };
        tokio::spawn(agent.converse((inbound, outbound), self.fleet.clone(), self.shutdown.clone()));
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

/// An agent at the other end of a stream: its resources, what it is to do, and what it is asked.
struct Agent {
    connection: Connection,
    orders: AgentOrders,
    questions: AgentQuestions,
}

impl Agent {
    /// Carries words both ways until one side ends. What an agent is sent is found out when there is room for it: an agent
    /// that does not read holds up nothing, its own end least of all, and is sent the newest when it reads again. Of
    /// orders one waits for room, and the next one for its answer.
    async fn converse(
        mut self,
        (mut inbound, outbound): (Streaming<v1::SyncRequest>, Outbound),
        fleet: Arc<Fleet>,
        shutdown: CancellationToken,
    ) {
        let (silence, mut cut_off) = (tokio::time::sleep(SILENCE), fleet.cut_off());
        tokio::pin!(silence);
        let (mut due, mut order, mut question) = (false, None, None);
        let last = loop {
            tokio::select! {
                next = self.connection.next() => match next {
                    Next::Send => due = true,
                    Next::End(reason) => break Err(wire::ended(reason)),
                },
                next = self.orders.next(), if order.is_none() => order = Some(next),
                next = self.questions.next(), if question.is_none() => question = Some(next),
                room = outbound.reserve(), if due || order.is_some() || question.is_some() => {
                    // Without room for ever, the agent is gone.
                    let Ok(room) = room else { return };
                    let update = if std::mem::take(&mut due) { self.connection.update() } else { None };
                    if let Some(update) = update {
                        room.send(Ok(wire::update(update, fleet.retry_spread())));
                    } else if let Some(order) = order.take() {
                        room.send(Ok(wire::order(order)));
                    } else if let Some(question) = question.take() {
                        room.send(Ok(wire::question(question)));
                    }
                }
                said = inbound.message() => match said {
                    Ok(Some(said)) => {
                        silence.set(tokio::time::sleep(SILENCE));
                        if let Err(end) = self.heard(said.message).await {
                            break Err(end);
                        }
                    }
                    // The agent is gone.
                    Ok(None) | Err(_) => return,
                },
                () = &mut silence => break Err(status::refused(Reason::Silent)),
                () = outbound.closed() => return,
                () = shutdown.cancelled() => break Ok(wire::drain(fleet.retry_after())),
                () = is_true(&mut cut_off) => break Ok(wire::drain(fleet.retry_after())),
            }
        };
        // No room: the agent does not read. Its stream ends without a word, and its next call is told the reason.
        drop(outbound.try_send(last));
    }

    /// A newer agent may say something that this broker does not know.
    async fn heard(&mut self, said: Option<Said>) -> Result<(), Status> {
        match said {
            Some(Said::Hello(_)) => return Err(status::refused(Reason::HelloMissing)),
            Some(Said::SessionsEnded(ended)) => {
                if let Some((id, outcome)) = wire::sessions_ended(ended) {
                    self.orders.answered(&id, outcome).await;
                }
            }
            Some(Said::Answer(answer)) => {
                if let Some((id, reply)) = wire::reply(answer) {
                    self.questions.answered(&id, reply);
                }
            }
            said => said.and_then(wire::word).into_iter().for_each(|word| self.connection.heard(word)),
        }
        Ok(())
    }
}

/// Waits until it is so.
async fn is_true(flag: &mut watch::Receiver<bool>) {
    // Whoever says it lives as long as all streams do.
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}
