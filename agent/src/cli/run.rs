//! `homeward-agent run`: the daemon. When it can be used it says so in one JSON line on standard output.
//!
//! SIGHUP has it read its configuration and its recipe again: whatever was changed, the agent begins anew with it in the
//! same process, and browsers that come meanwhile wait on the same socket. A configuration that cannot be used changes
//! nothing.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener as Bound};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{Failure, load, print};
use crate::config::Config;
use crate::{Listeners, RunError};

/// How long an agent that is told to end waits for what is being applied. systemd waits a little longer.
const ENDING: Duration = Duration::from_secs(90);

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen on {address} ([portal] listen): {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot listen on {address} ([telemetry] metrics): {source}")]
    Watch { address: SocketAddr, source: std::io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

pub(super) async fn carry_out(path: &Path) -> Result<(), Failure> {
    let mut signals = Signals::wait().map_err(StartError::Signals).map_err(Failure::refused)?;
    let config = load(path)?;
    let mut own = Own::bind(config, None).await.map_err(Failure::refused)?;
    // What it ran with before, until it is usable with what it has now.
    let before = Cell::new(None);
    loop {
        let proved = Cell::new(false);
        let usable = || {
            proved.set(true);
            before.set(None);
        };
        // Boxed: in it are two configurations.
        match Box::pin(own.run(path, &mut signals, usable)).await {
            Ok(None) => return Ok(()),
            Ok(Some(next)) => {
                let last = std::mem::replace(&mut own, next);
                // Who was never usable is no way back; who was usable before him still is.
                if proved.get() {
                    before.set(Some(last));
                }
            }
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
    metrics: Option<Bound>,
}

impl Own {
    /// Binds what the configuration names; what the life before has at the same address is taken over.
    async fn bind(config: Config, before: Option<&Self>) -> Result<Self, StartError> {
        let address = config.portal.listen;
        let same = before.filter(|before| before.config.portal.listen == address);
        let portal = listen(address, same.map(|before| &before.portal)).await;
        let portal = portal.map_err(|source| StartError::Listen { address, source })?;
        let metrics = match config.telemetry.metrics {
            None => None,
            Some(address) => {
                let same = before.filter(|before| before.config.telemetry.metrics == Some(address));
                let metrics = listen(address, same.and_then(|before| before.metrics.as_ref())).await;
                Some(metrics.map_err(|source| StartError::Watch { address, source })?)
            }
        };
        Ok(Self { config, portal, metrics })
    }

    /// Runs until a signal comes; what comes next, if something does.
    async fn run(&self, path: &Path, signals: &mut Signals, usable: impl Fn()) -> Result<Option<Self>, RunError> {
        let listeners = self.listeners().map_err(RunError::Portal)?;
        let announcement = announcement(&listeners).map_err(RunError::Portal)?;
        let (end, ended) = oneshot::channel::<()>();
        // Nothing is ever sent: it ends with its other half.
        let shutdown = async move { drop(ended.await) };
        let announce = || {
            usable();
            print(announcement);
        };
        let mut running = Box::pin(crate::run(&self.config, listeners, shutdown, announce));
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
        let Some(next) = next else {
            return outlived(running, std::future::ready(()), ENDING).await.unwrap_or(Ok(())).map(|()| None);
        };
        // Another SIGHUP is heard by the next life.
        match outlived(running, signals.end(), ENDING).await {
            Some(ended) => ended.map(|()| Some(next)),
            None => Ok(None),
        }
    }

    fn listeners(&self) -> std::io::Result<Listeners> {
        let again = |bound: &Bound| bound.try_clone().and_then(TcpListener::from_std);
        Ok(Listeners { portal: again(&self.portal)?, metrics: self.metrics.as_ref().map(again).transpose()? })
    }

    /// What the file says now, if that can be used.
    async fn reloaded(&self, path: &Path) -> Option<Self> {
        let next = match load(path) {
            Ok(config) => Self::bind(config, Some(self)).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match next {
            Ok(next) => {
                info!(file = %path.display(), "reloading: the agent begins anew with its configuration and its recipe");
                let (now, then) = (&self.config.telemetry, &next.config.telemetry);
                if (&now.otlp, now.log) != (&then.otlp, then.log) {
                    warn!("[telemetry] otlp and log take effect when the agent is started again");
                }
                Some(next)
            }
            Err(error) => {
                error!(error, "the configuration was changed to what cannot be used: nothing is reloaded");
                None
            }
        }
    }
}

/// What comes of a life that was told to end: it may take as long as it needs, and so long when the process is to end, too.
async fn outlived<T>(
    running: impl Future<Output = T>,
    terminated: impl Future<Output = ()>,
    ending: Duration,
) -> Option<T> {
    let given_up = async {
        terminated.await;
        tokio::time::sleep(ending).await;
    };
    tokio::select! {
        ended = running => Some(ended),
        () = given_up => None,
    }
}

async fn listen(address: SocketAddr, same: Option<&Bound>) -> std::io::Result<Bound> {
    match same {
        Some(bound) => bound.try_clone(),
        None => TcpListener::bind(address).await.and_then(TcpListener::into_std),
    }
}

fn announcement(listeners: &Listeners) -> std::io::Result<Value> {
    let mut announcement = json!({"event": "listening", "portal": listeners.portal.local_addr()?.to_string()});
    if let Some(metrics) = &listeners.metrics {
        announcement["metrics"] = json!(metrics.local_addr()?.to_string());
    }
    Ok(announcement)
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

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(200);

    /// What comes of a life that needs so long to end, if the process is told to end then, if ever.
    async fn ends(needs: Duration, told: Option<Duration>) -> bool {
        let told = async move {
            match told {
                Some(after) => tokio::time::sleep(after).await,
                None => pending().await,
            }
        };
        outlived(tokio::time::sleep(needs), told, MOMENT).await.is_some()
    }

    #[tokio::test]
    async fn a_reload_waits_for_what_is_being_applied_and_the_end_not_for_ever() {
        let long = MOMENT * 10;
        assert!(ends(long, None).await, "the next life would begin beside it");
        assert!(!ends(long, Some(Duration::ZERO)).await, "it keeps the process");
        assert!(!ends(long, Some(MOMENT)).await, "SIGTERM is not heard while the reload waits");
        assert!(ends(MOMENT / 20, Some(Duration::ZERO)).await, "it is cut");
        assert_eq!(outlived(ready(1), pending(), MOMENT).await, Some(1));
    }
}
