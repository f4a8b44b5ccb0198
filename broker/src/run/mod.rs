//! A broker is put together, and runs: the only place that knows all parts.
//!
//! From the inside out, as the rings are: [`Ground`] is opened from the store up, and waits and fails where it has to;
//! [`Flows`] begin on it, and [`Surfaces`] are put around them. What ground and flows do by themselves comes back as a future
//! each; [`run()`] polls them beside everything that is served, and spawns nothing. Who adds a table looks into [`tables`].

mod flows;
mod ground;
mod surfaces;
mod tables;

use std::sync::Arc;

use homeward_telemetry::metrics::MetricError;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::audit::{AuditError, Event, Kind};
use crate::authority::CaError;
use crate::brokers::{self, Brokers};
use crate::clock::Clock;
use crate::config::{Config, SettingsError};
use crate::keys::KeyError;
use crate::outbound::CaFileError;
use crate::registry::SubjectKeyError;
use crate::reload::{Reload, Signals};
use crate::secret::SealingKeyError;
use crate::storage::schema::{self, SchemaError};
use crate::storage::{Store, StoreError, expiry};
use crate::tls::TlsError;
use crate::web::listener::PublicListeners;

pub use tables::SEALED;

use flows::Flows;
use ground::Ground;
use surfaces::Surfaces;
use tables::EXPIRING;

/// The sockets of a broker, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// Browsers and applications.
    pub public: PublicListeners,
    /// Agents.
    pub grpc: TcpListener,
    /// Ops.
    pub admin: UnixListener,
    /// Whoever watches.
    pub metrics: Option<TcpListener>,
}

/// Runs a broker until it is to stop; calls `ready` when it can be used.
///
/// # Errors
/// When it cannot start, or a listener fails as a whole.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    listeners: Listeners,
    clock: Clock,
    ready: impl FnOnce() + Send,
    signals: impl Into<Signals>,
) -> Result<(), RunError> {
    let Signals { shutdown, reload } = signals.into();
    let (ground, keep_ground) = Ground::open(&config, store, &listeners, clock).await?;
    let (flows, go_on) = Flows::begin(&ground);
    let (surfaces, finish_unlinking) = Surfaces::new(&ground, &flows, config.trusted_proxies)?;
    let reloading = Reload {
        store: ground.store.clone(),
        settings: ground.settings.clone(),
        tls: ground.public_tls.clone(),
        audit: ground.audit.clone(),
        host: brokers::host_name(),
    };
    let background = async {
        tokio::join!(
            keep_ground,
            reloading.follow(reload),
            go_on,
            finish_unlinking,
            expiry::run(ground.store.clone(), EXPIRING, ground.clock.clone(), ground.brokers.duty()),
            hand_over(&ground.brokers, &shutdown)
        );
    };
    let federation = &ground.federation;
    info!(issuer = %federation.issuer, trust_domain = %federation.trust_domain, "the broker is running");
    ready();
    let ended = tokio::select! {
        served = surfaces.serve(listeners, shutdown.clone()) => served,
        () = background => Ok(()),
        gone = schema::gone(ground.store.clone()) => {
            error!(reason = %gone, "this broker may not use its store any more: it stops");
            Err(gone.into())
        }
    };
    // The agents were let go in the meantime: the other brokers, or the next one, are to know when they were last seen.
    let saved = ground.liveness.save().await;
    ground.brokers.leave().await;
    ground.audit.note(Event::new(Kind::BrokerStopped));
    ground.audit.close().await;
    ended?;
    Ok(saved?)
}

/// Gives the duty to another broker as soon as this one is to stop, and not only when all in flight is done.
async fn hand_over(brokers: &Brokers, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    brokers.give_up_duty().await;
}

/// Why a broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store is not one that this program may open.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The brokers do not agree on what the federation is.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The keys that seal, or the key-encryption key.
    #[error(transparent)]
    Sealing(#[from] SealingKeyError),
    /// The audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The signing keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The CA.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The subject key.
    #[error(transparent)]
    SubjectKey(#[from] SubjectKeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A gRPC listener.
    #[error("a listener failed")]
    Grpc(#[source] tonic::transport::Error),
    /// The CAs of applications.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// TLS to applications.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// TLS of the public address.
    #[error(transparent)]
    PublicTls(#[from] TlsError),
}
