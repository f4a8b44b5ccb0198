//! The way to a running broker: its Unix socket.

use anyhow::{Context as _, anyhow};
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::Config;

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
    UnixStream::connect(&socket).await.map(drop).with_context(|| match socket.exists() {
        true => format!("the broker's socket {} cannot be used: are you root or the broker's user?", socket.display()),
        false => format!("no broker listens on {}: start it with `homeward-broker serve`", socket.display()),
    })?;
    // The address is never looked up; tonic wants one.
    let endpoint = Endpoint::from_static("http://broker.invalid");
    let connect = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connect).await.context("the broker does not answer on its socket")
}

/// The broker's refusal as a sentence.
pub(super) fn refusal(status: &Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}
