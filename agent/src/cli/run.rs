//! `homeward-agent run`: the daemon. When it can be used it says so in one JSON line on standard output.

use std::path::Path;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, load, print};
use crate::Listeners;

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {address} ([portal] listen): {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot listen on {address} ([telemetry] metrics): {source}")]
    Watch { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

pub(super) async fn carry_out(config: &Path) -> Result<(), Failure> {
    let config = load(config)?;
    let address = config.portal.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Failure::refused(StartError::Listen { address, source }))?;
    let address = listener.local_addr().map_err(|source| Failure::refused(StartError::Listen { address, source }))?;
    let metrics = match config.telemetry.metrics {
        None => None,
        Some(address) => {
            let failed = |source| Failure::refused(StartError::Watch { address, source });
            Some(TcpListener::bind(address).await.map_err(failed)?)
        }
    };
    let watched_at = metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals).map_err(Failure::refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals).map_err(Failure::refused)?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut announcement = json!({"event": "listening", "portal": address.to_string()});
    if let Some(at) = watched_at {
        announcement["metrics"] = json!(at.to_string());
    }
    let listeners = Listeners { portal: listener, metrics };
    Ok(crate::run(&config, listeners, shutdown, || print(announcement)).await?)
}
