//! `homeward-agent run`: the daemon. When it can be used it says so in one JSON line on standard output.
//!
//! SIGHUP has it read its configuration and its recipe again: whatever was changed, the agent begins anew with it in the
//! same process, and browsers that come meanwhile wait on the same socket. A configuration that cannot be used changes
//! nothing.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener as Bound};
use std::path::Path;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Failure, load, print};
use crate::RunError;
use crate::config::Config;

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {address} ([portal] listen): {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

pub(super) async fn carry_out(path: &Path) -> Result<(), Failure> {
    let mut signals = Signals::wait().map_err(StartError::Signals).map_err(Failure::refused)?;
    let config = load(path)?;
    let mut own = Own { portal: listen(&config).await.map_err(Failure::refused)?, config };
    // What it ran with before, until it is usable with what it has now.
    let before = Cell::new(None);
    loop {
        match own.run(path, &mut signals, || drop(before.take())).await {
            Ok(None) => return Ok(()),
            Ok(Some(next)) => before.set(Some(std::mem::replace(&mut own, next))),
            Err(error @ RunError::Dismissed(_)) => return Err(error.into()),
            Err(error) => match before.take() {
                Some(last) => {
                    error!(%error, "the agent cannot run with what it has reloaded: it goes on as before");
                    own = last;
                }
                None => return Err(error.into()),
            },
        }
    }
}

/// What one life of the agent has.
struct Own {
    config: Config,
    portal: Bound,
}

impl Own {
    /// Runs until a signal comes; what comes next, if something does.
    async fn run(&self, path: &Path, signals: &mut Signals, usable: impl Fn()) -> Result<Option<Self>, RunError> {
        let portal = self.portal.try_clone().and_then(TcpListener::from_std).map_err(RunError::Portal)?;
        let address = portal.local_addr().map_err(RunError::Portal)?;
        let (end, ended) = oneshot::channel::<()>();
        // Nothing is ever sent: it ends with its other half.
        let shutdown = async move { drop(ended.await) };
        let announce = || {
            usable();
            print(json!({"event": "listening", "portal": address.to_string()}));
        };
        let mut running = Box::pin(crate::run(&self.config, portal, shutdown, announce));
        let next = loop {
            tokio::select! {
                ended = &mut running => return ended.map(|()| None),
                wanted = signals.next() => match wanted {
                    Wanted::End => break None,
                    Wanted::Reload => if let Some(next) = self.reloaded(path).await {
                        break Some(next);
                    }
                }
            }
        };
        drop(end);
        running.await?;
        Ok(next)
    }

    /// What the file says now, if that can be used.
    async fn reloaded(&self, path: &Path) -> Option<Self> {
        let config = load(path).map_err(|error| error.to_string());
        let next = match config {
            Ok(config) if config.portal.listen == self.config.portal.listen => {
                self.portal.try_clone().map(|portal| Self { config, portal }).map_err(|error| error.to_string())
            }
            Ok(config) => {
                listen(&config).await.map(|portal| Self { config, portal }).map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        match next {
            Ok(next) => {
                info!(file = %path.display(), "reloading: the agent begins anew with its configuration and its recipe");
                Some(next)
            }
            Err(error) => {
                error!(error, "the configuration was changed to what cannot be used: nothing is reloaded");
                None
            }
        }
    }
}

async fn listen(config: &Config) -> Result<Bound, StartError> {
    let address = config.portal.listen;
    let bound = TcpListener::bind(address).await.and_then(TcpListener::into_std);
    bound.map_err(|source| StartError::Listen { address, source })
}

/// What the one who runs the agent wants.
enum Wanted {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn wait() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }
}
