//! The gate: who may call what.
//!
//! One table names every method and its role; what is not in it is answered `UNIMPLEMENTED` before any service sees
//! it. An agent is who its verified certificate says, and the registry is asked on every call whether that certificate
//! still counts: nothing in a request can say otherwise.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use homeward_certs::authority::Serial;
use homeward_certs::identity::{InstanceName, PeerIdentity};
use http::{Request, Response};
use rustix::process::geteuid;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::warn;

use crate::audit::{Audit, Event, Kind, Origin};
use crate::clock::Clock;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::grpc::Services;
use crate::grpc::status::{self, Reason};
use crate::registry::Instance;
use crate::telemetry::Telemetry;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Whoever reaches the port.
    Anyone,
    /// An instance's agent, by its certificate.
    Agent,
    /// Root or the broker's own user, over the Unix socket; whoever is signed in to the web console, within the broker.
    Ops,
}

/// Every method there is.
const ROLES: [(&str, Role); 62] = [
    ("/homeward.v1.EnrolmentService/Enrol", Role::Anyone),
    ("/homeward.v1.EnrolmentService/Renew", Role::Agent),
    ("/homeward.v1.EnrolmentService/Confirm", Role::Agent),
    // Proved by the recovery key, because the certificate has expired.
    ("/homeward.v1.EnrolmentService/BeginRecovery", Role::Anyone),
    ("/homeward.v1.EnrolmentService/Recover", Role::Anyone),
    // Public keys with signatures over them.
    ("/homeward.v1.EnrolmentService/ListTrustBundles", Role::Anyone),
    ("/homeward.v1.SyncService/Sync", Role::Agent),
    ("/homeward.v1.SyncService/CreateProbe", Role::Agent),
    ("/homeward.v1.SyncService/GetProbe", Role::Agent),
    ("/homeward.v1.SyncService/RegisterClientKey", Role::Agent),
    ("/homeward.v1.LoginService/OpenTicket", Role::Agent),
    ("/homeward.v1.LoginService/CompleteTicket", Role::Agent),
    ("/homeward.v1.LoginService/ReportUser", Role::Agent),
    ("/homeward.v1.AdminService/CreateJoinToken", Role::Ops),
    ("/homeward.v1.AdminService/ListJoinTokens", Role::Ops),
    ("/homeward.v1.AdminService/RevokeJoinToken", Role::Ops),
    ("/homeward.v1.AdminService/ListInstances", Role::Ops),
    ("/homeward.v1.AdminService/GetInstance", Role::Ops),
    ("/homeward.v1.AdminService/AllowTrust", Role::Ops),
    ("/homeward.v1.AdminService/DenyTrust", Role::Ops),
    ("/homeward.v1.AdminService/ExplainTrust", Role::Ops),
    ("/homeward.v1.AdminService/PutUpstream", Role::Ops),
    ("/homeward.v1.AdminService/ListUpstreams", Role::Ops),
    ("/homeward.v1.AdminService/RemoveUpstream", Role::Ops),
    ("/homeward.v1.AdminService/ListTrustEdges", Role::Ops),
    ("/homeward.v1.AdminService/QuarantineInstance", Role::Ops),
    ("/homeward.v1.AdminService/ReleaseInstance", Role::Ops),
    ("/homeward.v1.AdminService/EvictInstance", Role::Ops),
    ("/homeward.v1.AdminService/SetInstancePolicy", Role::Ops),
    ("/homeward.v1.AdminService/ListSigningKeys", Role::Ops),
    ("/homeward.v1.AdminService/GetAuthority", Role::Ops),
    ("/homeward.v1.AdminService/BeginRotation", Role::Ops),
    ("/homeward.v1.AdminService/RollBackRotation", Role::Ops),
    ("/homeward.v1.AdminService/ResumeRotation", Role::Ops),
    ("/homeward.v1.AdminService/GetRotationStatus", Role::Ops),
    ("/homeward.v1.AdminService/GetRotationPlan", Role::Ops),
    ("/homeward.v1.AdminService/RotateKeyEncryptionKey", Role::Ops),
    ("/homeward.v1.AdminService/GetKeyEncryptionKey", Role::Ops),
    ("/homeward.v1.AdminService/ListSessions", Role::Ops),
    ("/homeward.v1.AdminService/EndSessions", Role::Ops),
    ("/homeward.v1.AdminService/ListLogouts", Role::Ops),
    ("/homeward.v1.AdminService/RetryLogout", Role::Ops),
    ("/homeward.v1.AdminService/ListLinks", Role::Ops),
    ("/homeward.v1.AdminService/EndLink", Role::Ops),
    ("/homeward.v1.AdminService/GetLoginCounts", Role::Ops),
    ("/homeward.v1.AdminService/OpenRegistration", Role::Ops),
    ("/homeward.v1.AdminService/ListRegistrations", Role::Ops),
    ("/homeward.v1.AdminService/CloseRegistration", Role::Ops),
    ("/homeward.v1.AdminService/ListClients", Role::Ops),
    ("/homeward.v1.AdminService/SetClientPolicy", Role::Ops),
    ("/homeward.v1.AdminService/ListBrokers", Role::Ops),
    ("/homeward.v1.AdminService/ListSettings", Role::Ops),
    ("/homeward.v1.AdminService/GetPublicCertificate", Role::Ops),
    ("/homeward.v1.AdminService/RenewPublicCertificate", Role::Ops),
    ("/homeward.v1.AdminService/BackUp", Role::Ops),
    ("/homeward.v1.AdminService/ReadAudit", Role::Ops),
    ("/homeward.v1.AdminService/VerifyAudit", Role::Ops),
    ("/homeward.v1.AdminService/CreateConsoleCode", Role::Ops),
    ("/homeward.v1.AdminService/ListConsoleSessions", Role::Ops),
    ("/homeward.v1.AdminService/EndConsoleSession", Role::Ops),
    ("/grpc.health.v1.Health/Check", Role::Anyone),
    ("/grpc.health.v1.Health/Watch", Role::Anyone),
];

/// The agent that calls, and its instance as it was judged: in the extensions of every request that needed one.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) InstanceName, pub(super) Arc<Instance>);

/// Where a call comes from: in the extensions of every request over TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Which of ops calls: in the extensions of every request over the Unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpsUser(pub(super) u32);

/// Who is signed in to the web console and calls: in the extensions of every request from there. Whoever puts it there has
/// found out that it is so; over a socket no extension travels.
#[derive(Clone, Debug)]
pub(super) struct ConsoleUser(pub(super) String);

/// Judges calls on one listener.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    door: Arc<Door>,
    audit: Audit,
    telemetry: Telemetry,
}

#[derive(Debug)]
enum Door {
    Agents { enrolment: Arc<Enrolment>, clock: Clock },
    Ops,
    Console,
}

impl Gate {
    /// For the mTLS listener.
    pub(super) fn agents(services: &Services) -> Self {
        let (enrolment, clock) = (services.enrolment.clone(), services.clock.clone());
        let (audit, telemetry) = (services.audit.clone(), services.telemetry.clone());
        Self { door: Arc::new(Door::Agents { enrolment, clock }), audit, telemetry }
    }

    /// For the Unix socket.
    pub(super) fn ops(services: &Services) -> Self {
        Self { door: Arc::new(Door::Ops), audit: services.audit.clone(), telemetry: services.telemetry.clone() }
    }

    /// For the web console, in the same process.
    pub(super) fn console(services: &Services) -> Self {
        Self { door: Arc::new(Door::Console), audit: services.audit.clone(), telemetry: services.telemetry.clone() }
    }

    /// Says who calls, if he may.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Origin, Status> {
        let path = request.uri().path();
        let role = ROLES.iter().find(|(method, _)| *method == path).map(|(_, role)| *role);
        let role = role.ok_or_else(|| Status::unimplemented("there is no such method"))?;
        match &*self.door {
            Door::Agents { enrolment, clock } => {
                let Connection { peer, leaf } = Connection::of(request);
                let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
                request.extensions_mut().insert(Peer(address));
                match role {
                    Role::Anyone => Ok(Origin::Stranger(address)),
                    Role::Ops => Err(status::refused(Reason::RoleMissing)),
                    Role::Agent => {
                        let leaf = leaf.ok_or_else(|| status::refused(Reason::CertificateMissing))?;
                        let judged = Origin::Stranger(address).of(instance(enrolment, &leaf, clock)).await;
                        let instance = judged.map_err(|error| status::enrolment(&error))?;
                        let origin = Origin::Agent(instance.name.clone(), address);
                        request.extensions_mut().insert(Caller(instance.name.clone(), instance));
                        Ok(origin)
                    }
                }
            }
            Door::Console => {
                let user = request.extensions().get::<ConsoleUser>().filter(|_| role == Role::Ops);
                let ConsoleUser(who) = user.ok_or_else(|| status::refused(Reason::RoleMissing))?;
                let address = match Origin::current() {
                    Origin::Web(address) => address,
                    _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                };
                Ok(Origin::Console(who.clone(), address))
            }
            Door::Ops => {
                let connection = request.extensions().get::<UdsConnectInfo>();
                let uid = connection.and_then(|uds| uds.peer_cred.as_ref().map(|peer| peer.uid()));
                match (role, uid) {
                    (Role::Agent, _) | (_, None) => Err(status::refused(Reason::RoleMissing)),
                    (_, Some(uid)) if uid == 0 || uid == geteuid().as_raw() => {
                        request.extensions_mut().insert(OpsUser(uid));
                        Ok(Origin::Ops(uid))
                    }
                    (_, Some(uid)) => {
                        warn!(uid, path = request.uri().path(), "an admin call by somebody else was refused");
                        Origin::Ops(uid).of(async { self.refused(path, "ROLE_MISSING") }).await;
                        Err(status::refused(Reason::RoleMissing))
                    }
                }
            }
        }
    }
}

impl Gate {
    /// What ops are told is on the disk, and what they are refused is noted.
    async fn answer<S>(
        &self,
        request: Request<Body>,
        inner: &mut S,
        origin: &Origin,
    ) -> Result<Response<Body>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let path = request.uri().path().to_owned();
        let response = inner.call(request).await?;
        if let Origin::Ops(_) | Origin::Console(..) = origin {
            let said = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
            if let Some(status) = said {
                self.refused(&path, status::reason(&status));
            }
            if !only_looks(&path) {
                self.audit.settled().await;
            }
        }
        Ok(response)
    }

    fn refused(&self, path: &str, reason: impl Into<Cow<'static, str>>) {
        if !only_looks(path) {
            self.audit.note(Event::new(Kind::AdminRefused).refused(reason).object(method(path)));
        }
    }
}

/// Only what the table names comes here.
fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Who only looks changes nothing: there is nothing to note, and nothing that has to be on the disk.
fn only_looks(path: &str) -> bool {
    ["List", "Get", "Explain", "Read", "Verify"].iter().any(|look| method(path).starts_with(look))
}

/// The other end of a connection over TLS.
pub(super) struct Connection {
    /// Its address.
    pub(super) peer: Option<SocketAddr>,
    /// The certificate that it showed, verified in the handshake (DER).
    pub(super) leaf: Option<Vec<u8>>,
}

impl Connection {
    /// That a request came over.
    pub(super) fn of(request: &Request<Body>) -> Self {
        let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        Self {
            peer: connection.and_then(|tls| tls.get_ref().remote_addr()),
            leaf: connection.and_then(|tls| tls.peer_certs()?.first().map(|leaf| leaf.to_vec())),
        }
    }
}

/// The instance that a verified leaf speaks for, if it still may. The trust domain was checked in the handshake.
pub(super) async fn instance(
    enrolment: &Enrolment,
    leaf: &[u8],
    clock: &Clock,
) -> Result<Arc<Instance>, EnrolmentError> {
    let identity = PeerIdentity::of_leaf(leaf, enrolment.trust_domain());
    let (Ok(PeerIdentity::Instance(name)), Some(serial)) = (identity, Serial::of_certificate(leaf)) else {
        return Err(EnrolmentError::AgentUnknown);
    };
    enrolment.authenticate(&name, &serial.to_string(), clock.now()).await
}

/// Puts the gate before all services.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationLayer(Gate);

impl AuthorizationLayer {
    /// With this gate.
    pub(super) fn new(gate: Gate) -> Self {
        Self(gate)
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorization<S>;

    fn layer(&self, inner: S) -> Authorization<S> {
        Authorization { gate: self.0.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Authorization<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Authorization<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone that stays behind takes the next call; the one that was polled ready takes this.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let gate = self.gate.clone();
        Box::pin(async move {
            let began = Instant::now();
            // Of the table: whoever calls cannot make a name.
            let method = ROLES.iter().find(|(method, _)| *method == request.uri().path());
            gate.audit.admit().await;
            let response = match gate.admit(&mut request).await {
                Ok(origin) => origin.clone().of(gate.answer(request, &mut inner, &origin)).await?,
                Err(status) => status.into_http(),
            };
            let method = method.map_or("unknown", |(method, _)| method.trim_start_matches('/'));
            // A call that succeeds says so behind its answer, and a stream at its end.
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            gate.telemetry.grpc(method, &format!("{code:?}"), began.elapsed());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_of_the_contract_has_a_role_and_no_other_has() {
        let files = prost_types::FileDescriptorSet::decode(homeward_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut methods: Vec<String> = Vec::new();
        for file in files.file.iter().filter(|file| file.package() == "homeward.v1") {
            for service in &file.service {
                let path = |method: &prost_types::MethodDescriptorProto| {
                    format!("/homeward.v1.{}/{}", service.name(), method.name())
                };
                methods.extend(service.method.iter().map(path));
            }
        }
        methods.extend(["/grpc.health.v1.Health/Check".into(), "/grpc.health.v1.Health/Watch".into()]);
        let mut listed: Vec<String> = ROLES.iter().map(|(method, _)| (*method).to_owned()).collect();
        methods.sort();
        listed.sort();
        assert_eq!(methods, listed);
    }

    #[test]
    fn strangers_reach_enrolment_and_health_only() {
        let open: Vec<&str> =
            ROLES.iter().filter(|(_, role)| *role == Role::Anyone).map(|(method, _)| *method).collect();
        assert_eq!(
            open,
            [
                "/homeward.v1.EnrolmentService/Enrol",
                "/homeward.v1.EnrolmentService/BeginRecovery",
                "/homeward.v1.EnrolmentService/Recover",
                "/homeward.v1.EnrolmentService/ListTrustBundles",
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch"
            ]
        );
    }
}
