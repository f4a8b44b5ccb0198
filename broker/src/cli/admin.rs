//! The way to a running broker: its Unix socket.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::Config;

/// Nobody listens on the socket.
#[derive(Debug, thiserror::Error)]
#[error("no broker listens on {}: start it with `homeward-broker serve`", .0.display())]
pub(super) struct NoBroker(PathBuf);

/// The Admin service of the broker with this configuration.
///
/// # Errors
/// When no broker listens there, or this user may not ask it.
pub(super) async fn connect(config: &Config) -> anyhow::Result<AdminServiceClient<Channel>> {
    Ok(AdminServiceClient::new(channel(config).await?))
}

/// A channel to the socket.
///
/// # Errors
/// As [`connect`].
pub(super) async fn channel(config: &Config) -> anyhow::Result<Channel> {
    let socket = config.admin_socket.clone();
    // Tried first by itself, because tonic hides why a connection failed.
    if let Err(error) = UnixStream::connect(&socket).await {
        let socket = socket.display();
        return Err(match error.kind() {
            ErrorKind::PermissionDenied => {
                anyhow!("the broker's socket {socket} may not be used: run this as root or as the broker's user")
            }
            _ => NoBroker(config.admin_socket.clone()).into(),
        });
    }
    // The address is never looked up; tonic wants one.
    let endpoint = Endpoint::from_static("http://broker.invalid");
    let connect = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connect).await.context("the broker does not answer on its socket")
}

/// All pages of a list. `page` asks for the one that a token names and gives its entries and the next one's token.
///
/// # Errors
/// The broker's refusal.
pub(super) async fn all_pages<T>(
    page: impl AsyncFn(String) -> Result<(Vec<T>, String), Status>,
) -> anyhow::Result<Vec<T>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (entries, next) = page(token).await.map_err(|status| refusal(&status))?;
        all.extend(entries);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// The broker's refusal as a sentence.
pub(super) fn refusal(status: &Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}
