//! For tests: a broker of a [`TestAuthority`] whose answers the test decides.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use homeward_proto::v1::sync_service_server::{SyncService, SyncServiceServer};
use homeward_proto::v1::{
    CreateProbeRequest, CreateProbeResponse, GetProbeRequest, GetProbeResponse, RegisterClientKeyRequest,
    RegisterClientKeyResponse, SyncRequest, SyncResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::test_authority::TestAuthority;

/// What the test decides, and what it hears.
#[derive(Clone, Default)]
pub(crate) struct TestBroker {
    /// What became of each probe, one after the other; without any the broker knows no probes.
    pub(crate) probes: Arc<Mutex<VecDeque<GetProbeResponse>>>,
    /// Why it cannot be asked about probes at the moment.
    pub(crate) away: Arc<Mutex<Option<Status>>>,
    /// Public keys that were registered.
    pub(crate) keys: Arc<Mutex<Vec<RegisterClientKeyRequest>>>,
    streams: Arc<Mutex<Option<mpsc::UnboundedSender<AgentStream>>>>,
}

/// One agent's stream, in the test's hands.
pub(crate) struct AgentStream {
    /// What the agent says.
    pub(crate) said: Streaming<SyncRequest>,
    /// Says something to it.
    pub(crate) say: mpsc::UnboundedSender<Result<SyncResponse, Status>>,
}

impl TestBroker {
    /// Serves until the test ends; its address, and the streams that come.
    pub(crate) async fn serve(&self, authority: &TestAuthority) -> (String, mpsc::UnboundedReceiver<AgentStream>) {
        let (url, incoming) = authority.listen().await;
        let (sender, streams) = mpsc::unbounded_channel();
        *self.streams.lock().unwrap() = Some(sender);
        let server = Server::builder().add_service(SyncServiceServer::new(self.clone()));
        tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        (url, streams)
    }
}

#[tonic::async_trait]
impl SyncService for TestBroker {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let (say, answers) = mpsc::unbounded_channel();
        let stream = AgentStream { said: request.into_inner(), say };
        let streams = self.streams.lock().unwrap().clone();
        streams.unwrap().send(stream).map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn create_probe(&self, _: Request<CreateProbeRequest>) -> Result<Response<CreateProbeResponse>, Status> {
        if let Some(away) = self.away.lock().unwrap().clone() {
            return Err(away);
        }
        if self.probes.lock().unwrap().is_empty() {
            return Err(Status::unimplemented("no probes here"));
        }
        Ok(Response::new(CreateProbeResponse { code: "hwp_code".to_owned(), expire_time: None }))
    }

    async fn get_probe(&self, _: Request<GetProbeRequest>) -> Result<Response<GetProbeResponse>, Status> {
        let mut probes = self.probes.lock().unwrap();
        // The last one is true for ever.
        let outcome = if probes.len() > 1 { probes.pop_front() } else { probes.front().copied() };
        outcome.map(Response::new).ok_or_else(|| Status::not_found("no probe"))
    }

    async fn register_client_key(
        &self,
        request: Request<RegisterClientKeyRequest>,
    ) -> Result<Response<RegisterClientKeyResponse>, Status> {
        self.keys.lock().unwrap().push(request.into_inner());
        Ok(Response::new(RegisterClientKeyResponse {}))
    }
}
