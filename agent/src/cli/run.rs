//! `homeward-agent run`: the daemon. When it can be used it says so in one JSON line on standard output.

use std::path::Path;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, load, print};

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {address} ([portal] listen): {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

pub(super) async fn carry_out(config: &Path) -> Result<(), Failure> {
    let config = load(config)?;
    let address = config.portal.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Failure::refused(StartError::Listen { address, source }))?;
    let address = listener.local_addr().map_err(|source| Failure::refused(StartError::Listen { address, source }))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals).map_err(Failure::refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals).map_err(Failure::refused)?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let usable = || print(json!({"event": "listening", "portal": address.to_string()}));
    Ok(crate::run(&config, listener, shutdown, usable).await?)
}
