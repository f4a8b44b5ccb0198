//! `homeward-broker serve`.

use std::fs::DirBuilder;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use homeward_telemetry::logs;
use homeward_telemetry::settings::Settings;
use homeward_telemetry::traces::Traces;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::reloading;
use crate::clock::Clock;
use crate::config::Config;
use crate::reload::Signals;
use crate::run::{Listeners, run as run_broker};
use crate::storage::Store;
use crate::storage::address::{self, StoreAddress};
use crate::web::listener::PublicListeners;

/// How long an etcd may be away when a broker starts, and the pause between two looks.
const STORE_AWAY: Duration = Duration::from_secs(60);
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Threads that wait for the store's files; more would only hold more memory.
const BLOCKING_THREADS: usize = 16;

pub(super) fn run(config: Config, file: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the runtime cannot be started")?;
    let traces = {
        let _within = runtime.enter();
        start_log(&config.telemetry)?
    };
    raise_file_limit();
    let served = runtime.block_on(serve(config, file));
    if let Some(traces) = traces {
        runtime.block_on(traces.end());
    }
    served
}

/// The log goes to standard error. `HOMEWARD_LOG` is its filter. Libraries that carry cookies, codes and secrets stay quiet
/// under a general `trace`: whoever wants to see their frames has to name them.
fn start_log(settings: &Settings) -> anyhow::Result<Option<Traces>> {
    #[expect(clippy::disallowed_methods, reason = "the one variable there is")]
    let wanted = std::env::var("HOMEWARD_LOG").unwrap_or_default();
    let usual = "info,h2=info,hyper=info,hyper_util=info,rustls=info,sled=info,tonic=info,tower=info";
    logs::start(settings, "homeward-broker", &format!("{usual},{wanted}")).context("there is no log")
}

/// Every agent and every browser is an open file, and the soft limit of most systems is 1024. The hard limit is what ops
/// allow.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, soft = limit.current, hard = limit.maximum, "the limit of open files could not be raised");
    }
}

async fn serve(config: Config, file: &Path) -> anyhow::Result<()> {
    // Begun at once: a signal that nobody waits for ends the process.
    let reload = reloading::begin(&config, file)?;
    if let StoreAddress::Sled(folder) = &config.store
        && !folder.exists()
    {
        bail!("{} holds no federation yet: run `homeward-broker init` first", config.store);
    }
    let store = open_store(&config).await?;
    let public = PublicListeners {
        http: bind_some(config.http).await?,
        https: bind_some(config.https.as_ref().map(|https| https.listen)).await?,
        redirect: bind_some(config.redirect).await?,
    };
    let listeners = Listeners {
        public,
        grpc: bind(config.grpc).await?,
        admin: bind_socket(&config.admin_socket).await?,
        metrics: bind_metrics(config.telemetry.metrics).await?,
    };
    if let Some(remark) = unproxied(&config) {
        warn!("{remark}");
    }
    let at = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
    let mut announcement = json!({
        "event": "listening",
        "http": at(&listeners.public.http)?,
        "https": at(&listeners.public.https)?,
        "redirect": at(&listeners.public.redirect)?,
        "grpc": listeners.grpc.local_addr()?,
        "admin_socket": config.admin_socket,
    });
    if let Some(metrics) = &listeners.metrics {
        announcement["metrics"] = json!(metrics.local_addr()?);
    }
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: letting calls in flight finish");
        ended.cancel();
    });
    let socket = config.admin_socket.clone();
    // Whoever started it may not listen: that is no reason not to run.
    let ready = move || drop(writeln!(std::io::stdout(), "{announcement}"));
    // Boxed: everything that a broker does at once is in this one future.
    let signals = Signals { shutdown, reload };
    let result = Box::pin(run_broker(config, store, listeners, Clock::system(), ready, signals)).await;
    // A socket that is left behind would be cleared by the next start.
    drop(std::fs::remove_file(socket));
    Ok(result?)
}

/// Opens the store. An etcd that is away as the broker starts, as after a power cut, is waited for; what somebody has to
/// mend is not.
async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let begun = Instant::now();
    let mut said = String::new();
    loop {
        match address::open(&config.store, &config.etcd).await {
            Ok(store) => return Ok(store),
            Err(error) if error.may_pass() && begun.elapsed() < STORE_AWAY => {
                let sentence = error.to_string();
                if sentence != said {
                    warn!("{sentence}; trying again for {} seconds", STORE_AWAY.as_secs());
                    said = sentence;
                }
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn bind_some(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| match address.port() {
        1..1024 => format!("{address} cannot be listened on: ports below 1024 take CAP_NET_BIND_SERVICE"),
        _ => format!("{address} cannot be listened on"),
    })
}

/// What ops are to do about plain HTTP that others than a proxy of theirs can reach.
pub(super) fn unproxied(config: &Config) -> Option<String> {
    let http = config.http.filter(|http| !http.ip().is_loopback())?;
    let advice = "everybody who reaches it is taken by the address of the connection, and speaks without TLS: name your \
                  reverse proxy in trusted_proxies, or listen on 127.0.0.1, or let the broker speak TLS by [listen] https";
    (!config.trusted_proxies.are_elsewhere())
        .then(|| format!("plain HTTP is served on {http}, and no proxy beyond this machine is trusted; {advice}"))
}

/// Binds what /metrics is served on, if somebody watches.
async fn bind_metrics(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| format!("{address} cannot be listened on ([telemetry] metrics)"))?))
}

/// Binds the Admin socket for the broker's own user. One that a dead broker left behind is replaced, a live one is not.
async fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        bail!("another broker listens on {}: stop it first", path.display());
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // A slip of the keyboard may have named a key, or a certificate.
        Ok(there) if !there.file_type().is_socket() => {
            bail!(
                "{} is something else than a socket, and stays: admin_socket must name a place of its own",
                path.display()
            );
        }
        _ => std::fs::remove_file(path).with_context(|| format!("{} cannot be replaced", path.display()))?,
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("{} cannot be made, for the admin socket", folder.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("{} cannot be listened on", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a file of a test")]
    async fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, kek) = (folder.path().join("new/admin.sock"), folder.path().join("kek"));
        let live = bind_socket(&socket).await.unwrap();
        assert!(bind_socket(&socket).await.unwrap_err().to_string().contains("another broker listens"));
        drop(live);
        // A child that another test begins has the socket until it runs its program.
        let mut tries = 0..100;
        while let Err(error) = bind_socket(&socket).await {
            assert!(tries.next().is_some(), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::fs::write(&kek, "secret").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&kek, &link).unwrap();
        for slip in [&kek, &link, &folder.path().to_owned()] {
            let refused = bind_socket(slip).await.unwrap_err().to_string();
            assert!(refused.contains("is something else than a socket, and stays"), "{refused}");
        }
        assert_eq!(std::fs::read_to_string(&kek).unwrap(), "secret");
        assert!(link.is_symlink());
    }
}
