//! A collector of traces: takes OTLP over gRPC as real ones do, and keeps what it was told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What was told, by whom.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    told: Arc<Mutex<Vec<(String, Span)>>>,
    scheme: &'static str,
    port: u16,
}

impl Collector {
    /// Listens until the test ends.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> anyhow::Result<Self> {
        Self::listen("http", Server::builder()).await
    }

    /// The same behind TLS, with a CA of its own: that is in this folder, under the path that comes with it.
    ///
    /// # Errors
    /// When it cannot listen, or there is no certificate.
    #[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
    pub async fn behind_tls(folder: &Path) -> anyhow::Result<(Self, PathBuf)> {
        let mut of_ca = CertificateParams::default();
        of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
        let path = folder.join("collector-ca.pem");
        std::fs::write(&path, ca.pem())?;
        let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
        Ok((Self::listen("https", server).await?, path))
    }

    async fn listen(scheme: &'static str, mut server: Server) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let collector = Self { told: Arc::default(), scheme, port: listener.local_addr()?.port() };
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(collector)
    }

    /// For `[telemetry] otlp`.
    pub fn address(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// What it was told: programs and their spans.
    pub fn spans(&self) -> Vec<(String, Span)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for of_program in request.into_inner().resource_spans {
            let attributes = of_program.resource.iter().flat_map(|resource| &resource.attributes);
            let name = attributes.filter(|attribute| attribute.key == "service.name").find_map(|name| {
                match name.value.as_ref()?.value.as_ref()? {
                    Value::StringValue(name) => Some(name.clone()),
                    _ => None,
                }
            });
            let spans = of_program.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| (name.clone().unwrap_or_default(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
