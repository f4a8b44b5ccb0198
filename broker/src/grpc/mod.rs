//! The gRPC attack surface: one file, or folder, a service, and one gate before all of them.
//!
//! Agents come over mTLS ([`serve_agents`]), ops over a Unix socket ([`serve_admin`]). Both pass
//! `authorization`, where every method has a role in one table and what is not in it does not exist. What is not gRPC on
//! the agents' port is for `applications`, and never gets here.

mod admin;
mod applications;
mod authorization;
mod connections;
mod desk;
mod enrolment;
mod login;
mod status;
mod sync;
mod transport;
mod users;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::TrustBundle;
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use homeward_proto::v1::admin_service_server::AdminServiceServer;
use homeward_proto::v1::enrolment_service_server::EnrolmentServiceServer;
use homeward_proto::v1::login_service_server::LoginServiceServer;
use homeward_proto::v1::sync_service_server::SyncServiceServer;
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::Server;
use tonic_health::server::health_reporter;
use tower::{Layer as _, Service};
use tracing::warn;

use crate::audit::Audit;
use crate::authority::Authority;
use crate::brokers::Brokers;
use crate::clock::{Clock, Timestamp};
use crate::config::{InForce, Issuer};
use crate::console::Console;
use crate::enrolment::Enrolment;
use crate::fleet::Fleet;
use crate::grants::{Grants, Probes};
use crate::login::Login;
use crate::registry::{Registry, SubjectKey};
use crate::rotation::Rotations;
use crate::secret::KeyTurn;
use crate::sessions::Sessions;
use crate::storage::Store;
use crate::telemetry::Telemetry;
use crate::tls::PublicTls;
use crate::upstream::Upstreams;

pub use desk::{Desk, Seat};

use applications::ApplicationsLayer;
use authorization::{AuthorizationLayer, Gate};
use connections::Bounds;

/// Longest message that an agent may send, in bytes: a certificate request with its profile is a tenth of it.
const MAX_MESSAGE: usize = 64 * 1024;

/// Calls that one connection may have open at once. An agent needs its stream and one login per user who waits.
const MAX_STREAMS: u32 = 128;

/// A call that is not answered in this time is ended. A stream counts until it has begun.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(20));

/// What the services stand on.
#[derive(Clone)]
pub struct Services {
    /// Everything, for backups.
    pub store: Arc<dyn Store>,
    /// Join tokens and certificates.
    pub enrolment: Arc<Enrolment>,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Agents' streams.
    pub fleet: Arc<Fleet>,
    /// Tickets.
    pub login: Login,
    /// How applications authenticate.
    pub probes: Probes,
    /// Instances and trust.
    pub registry: Registry,
    /// Keys, secrets and the CA on the move.
    pub rotations: Arc<Rotations>,
    /// The keys that seal, on the move.
    pub key_turn: KeyTurn,
    /// Who is signed in, and the logouts on their way.
    pub sessions: Sessions,
    /// What relying parties hold.
    pub grants: Grants,
    /// Homes without agent.
    pub upstreams: Upstreams,
    /// How the broker knows users.
    pub subjects: SubjectKey,
    /// This one and the others.
    pub brokers: Brokers,
    /// What the brokers agree on.
    pub settings: InForce,
    /// The certificate of the public address.
    pub tls: PublicTls,
    /// Where decisions are noted.
    pub audit: Audit,
    /// Who is signed in to the web console.
    pub console: Console,
    /// Where it is counted who calls what.
    pub telemetry: Telemetry,
    /// What the agents' applications are told.
    pub issuer: Issuer,
    /// The time.
    pub clock: Clock,
}

/// Serves agents until `shutdown`, then ends their streams and waits for the calls in flight. Applications get the
/// `endpoints` on the same port, over HTTP/1.1 or HTTP/2.
///
/// # Errors
/// When the transport fails as a whole; a connection that fails does not.
pub async fn serve_agents<A, B>(
    listener: TcpListener,
    tls: ServerConfig,
    endpoints: A,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    A: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    A::Future: Send,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let enrolled = services.registry.snapshot().size() as u64;
    if let Some(most) = transport::most_agents().filter(|most| *most < enrolled) {
        warn!(
            most,
            enrolled, "more agents are enrolled than open files are allowed: raise the hard limit (LimitNOFILE)"
        );
    }
    let gate = Gate::agents(&services);
    let (reporter, health) = health_reporter();
    reporter.set_serving::<SyncServiceServer<sync::Service>>().await;
    let enrolment = enrolment::Service::new(&services);
    let login = login::Service::new(&services);
    let sync = sync::Service::new(&services, shutdown.clone());
    let bounds = Bounds::new(services.enrolment.trust_domain().clone(), services.telemetry.limits().clone());
    let incoming = transport::incoming(listener, tls, bounds, shutdown.clone());
    builder()
        .accept_http1(true)
        .layer(ApplicationsLayer::new(endpoints, services.enrolment.clone(), services.clock.clone()))
        .layer(AuthorizationLayer::new(gate))
        .add_service(EnrolmentServiceServer::new(enrolment).max_decoding_message_size(MAX_MESSAGE))
        .add_service(LoginServiceServer::new(login).max_decoding_message_size(MAX_MESSAGE))
        .add_service(SyncServiceServer::new(sync).max_decoding_message_size(MAX_MESSAGE))
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
}

/// Serves ops until `shutdown`.
///
/// # Errors
/// When the socket fails as a whole.
pub async fn serve_admin(
    listener: UnixListener,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = health_reporter();
    reporter.set_serving::<AdminServiceServer<admin::Service>>().await;
    builder()
        .layer(AuthorizationLayer::new(Gate::ops(&services)))
        .add_service(AdminServiceServer::new(admin::Service::new(&services)).max_decoding_message_size(MAX_MESSAGE))
        .add_service(health)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled_owned())
        .await
}

/// The Admin service for the web console, in the same process: behind the same gate, and with the same methods.
fn console_client(services: &Services) -> desk::Client {
    let service = AdminServiceServer::new(admin::Service::new(services));
    AdminServiceClient::new(AuthorizationLayer::new(Gate::console(services)).layer(service))
        .max_decoding_message_size(usize::MAX)
}

/// A moment as the contract writes it.
fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_secs(), nanos: 0 }
}

/// A trust bundle as the contract writes it.
fn wire_bundle(bundle: &TrustBundle) -> v1::TrustBundle {
    v1::TrustBundle { version: bundle.version, certificates: bundle.certificates().map(<[u8]>::to_vec).collect() }
}

fn builder() -> Server {
    Server::builder()
        .timeout(TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        // An agent's stream carries a few kilobytes in a day: small windows keep ten thousand of them small.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(128 * 1024)
        .http2_max_header_list_size(16 * 1024)
}
