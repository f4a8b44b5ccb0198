//! Applications on the agents' port: the certificate that lets an agent in also says which client speaks (RFC 8705).
//!
//! What is gRPC goes to the gate, as if there were nothing else. All other requests go to the endpoints that clients may
//! call here, and to nothing else: no HTTP/1.1, and nothing without the media type of gRPC, ever reaches a service. Of
//! the certificate a client is told apart by, the registry is asked at every request, as for agents: one that was
//! replaced, or whose instance is cut off, counts as none.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::grpc::authorization::instance;
use crate::grpc::connections::Connection;
use crate::oidc::PeerCertificate;
use crate::web;

/// An answer takes no longer. Shorter than what ends a gRPC call, which would be answered in the words of gRPC.
const TIMEOUT: Duration = Duration::from_secs(25);

/// Puts the endpoints beside all services, before the gate.
#[derive(Clone, Debug)]
pub(super) struct ApplicationsLayer<A> {
    endpoints: A,
    certificates: Certificates,
}

/// Tells which certificates count.
#[derive(Clone, Debug)]
struct Certificates {
    enrolment: Arc<Enrolment>,
    clock: Clock,
}

impl<A> ApplicationsLayer<A> {
    /// With these endpoints.
    pub(super) fn new(endpoints: A, enrolment: Arc<Enrolment>, clock: Clock) -> Self {
        Self { endpoints, certificates: Certificates { enrolment, clock } }
    }
}

impl<S, A: Clone> Layer<S> for ApplicationsLayer<A> {
    type Service = Applications<S, A>;

    fn layer(&self, services: S) -> Applications<S, A> {
        Applications { services, endpoints: self.endpoints.clone(), certificates: self.certificates.clone() }
    }
}

/// The endpoints beside the services of gRPC.
#[derive(Clone, Debug)]
pub(super) struct Applications<S, A> {
    services: S,
    endpoints: A,
    certificates: Certificates,
}

impl<S, A, B> Service<Request<Body>> for Applications<S, A>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    A: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    A::Future: Send,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Until it is answered. What an answer goes on with, a stream, keeps nobody here who has no certificate.
        let running = Connection::of(&request).map(|connection| connection.requests.begin());
        if is_grpc(&request) {
            let call = self.services.call(request);
            return Box::pin(async move {
                let _running = running;
                call.await
            });
        }
        let (endpoints, certificates) = (self.endpoints.clone(), self.certificates.clone());
        Box::pin(async move {
            let _running = running;
            let answer = async {
                let request = certificates.judge(request).await?;
                let Ok(response) = endpoints.oneshot(request).await;
                Ok::<_, StatusCode>(response.map(Body::new))
            };
            let answered = tokio::time::timeout(TIMEOUT, answer).await.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE));
            Ok(answered.unwrap_or_else(|status| {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }))
        })
    }
}

impl Certificates {
    /// Puts into the extensions of a request where it comes from, and whose certificate was shown, if that counts.
    async fn judge(&self, mut request: Request<Body>) -> Result<Request<Body>, StatusCode> {
        let Some(Connection { peer, leaf, .. }) = Connection::of(&request).cloned() else { return Ok(request) };
        web::note_peer(&mut request, peer);
        let Some(leaf) = leaf else { return Ok(request) };
        match instance(&self.enrolment, &leaf, &self.clock).await {
            Ok(instance) => {
                request.extensions_mut().insert(PeerCertificate::new(instance.name.clone(), &leaf));
                Ok(request)
            }
            Err(EnrolmentError::Store(error)) => {
                warn!(%error, "a certificate cannot be judged");
                Err(StatusCode::SERVICE_UNAVAILABLE)
            }
            Err(error) => {
                info!(%error, "an application showed a certificate that does not count");
                Ok(request)
            }
        }
    }
}

/// Whether a request is a call of gRPC. Over anything but HTTP/2 there is none.
fn is_grpc(request: &Request<Body>) -> bool {
    let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && media_type.is_some_and(|text| text.starts_with(b"application/grpc"))
}
