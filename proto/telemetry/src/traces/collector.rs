//! The way to a collector. What it does to us is bounded: spans that it does not take in time are lost, those that wait for
//! it are 2048 at the most (the SDK's queue), one call is under way at a time, and no login waits for any of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use rustls::RootCertStore;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::settings::Settings;
use crate::traces::whole::InPlace;

/// A collector that does not answer in this time misses what it was told.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a connection is tried on which nothing comes: one whose other end is gone without a word is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The collector's CA.
    #[error("telemetry.otlp_ca_file: {path} cannot be read: {source}")]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody could vouch for the collector.
    #[error("this machine trusts no CA: name the collector's in telemetry.otlp_ca_file")]
    NoCa,
    /// Its address, or its CA.
    #[error("the collector cannot be spoken to: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The exporter.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// The way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector that is configured, in the name of this program; nowhere if none is. Nobody waits for it, and what it
    /// does not take is lost. To be called within the runtime.
    ///
    /// # Errors
    /// When the address or the CA is none.
    pub fn begin(settings: &Settings, program: &'static str) -> Result<Option<Self>, TracesError> {
        let Some(collector) = &settings.otlp else { return Ok(None) };
        let endpoint = Endpoint::from(collector.uri().clone());
        let endpoint = match collector.speaks_tls() {
            true => endpoint.tls_config(tls(settings.otlp_ca_file.as_deref())?)?,
            false => endpoint,
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
        let exporter = exporter.with_channel(channel(endpoint)).with_timeout(TIMEOUT).build()?;
        let exporter = Heard { exporter, in_vain: AtomicBool::new(false) };
        let named = [KeyValue::new("service.name", program), KeyValue::new("service.namespace", "homeward")];
        let resource = Resource::builder_empty().with_attributes(named).build();
        let processor = InPlace(BatchSpanProcessor::builder(exporter).build());
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource);
        Ok(Some(Self(provider.build())))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer("homeward")
    }

    /// Tells what is left, for some seconds. To be called within the runtime.
    pub async fn end(self) {
        // It waits for the collector without letting others work.
        let last = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(TIMEOUT));
        if let Ok(Err(error)) = last.await {
            tracing::warn!(%error, "the last traces did not reach the collector");
        }
    }
}

/// Connects when there is something to tell, and not for longer than a call may take: else an address at which nothing
/// answers held up what is told for minutes.
fn channel(endpoint: Endpoint) -> Channel {
    let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(TIMEOUT).connect_lazy()
}

/// By its own CA if one is named, else by those of this machine.
fn tls(ca_file: Option<&Path>) -> Result<ClientTlsConfig, TracesError> {
    let tls = ClientTlsConfig::new().timeout(TIMEOUT);
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|source| TracesError::CaFile { path: path.to_owned(), source })?;
        return Ok(tls.ca_certificate(Certificate::from_pem(pem)));
    }
    let mut machine = RootCertStore::empty();
    machine.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if machine.is_empty() { Err(TracesError::NoCa) } else { Ok(tls.trust_anchors(machine.roots)) }
}

/// Says once that the collector takes nothing, and once that it does again: a collector may be away for days.
#[derive(Debug)]
struct Heard<E> {
    exporter: E,
    in_vain: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Heard<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let told = self.exporter.export(batch).await;
        let was_in_vain = self.in_vain.swap(told.is_err(), Ordering::Relaxed);
        match &told {
            Err(error) if !was_in_vain => {
                tracing::warn!(%error, "the collector takes no traces: until it does, those of logins are lost");
            }
            Ok(()) if was_in_vain => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        told
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
