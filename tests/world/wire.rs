//! A wire to a program's port, that can be cut: for answers that get lost after what was asked for has happened.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The wire; cut for good when this is dropped.
#[derive(Debug)]
pub struct Wire {
    /// Where it begins.
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Questions go through, answers do not.
    Mute,
    /// Connections are ended.
    Cut,
}

impl Wire {
    /// A wire to a port of this machine.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(State::Whole));
        let states = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, port, states.subscribe()));
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// From now on nothing comes back.
    pub fn swallow_answers(&self) {
        self.state.send_replace(State::Mute);
    }

    /// Ends all connections; new ones are whole.
    pub async fn cut(&self) {
        self.state.send_replace(State::Cut);
        // Every connection sees it before the wire is whole again.
        while self.state.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.send_replace(State::Cut);
    }
}

async fn carry(near: TcpStream, port: u16, mut states: watch::Receiver<State>) {
    if *states.borrow() == State::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let answers = states.clone();
    tokio::select! {
        () = copy(near_in, far_out, None) => {}
        () = copy(far_in, near_out, Some(answers)) => {}
        _ = states.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    states: Option<watch::Receiver<State>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mute = states.as_ref().is_some_and(|states| *states.borrow() == State::Mute);
        if !mute && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
