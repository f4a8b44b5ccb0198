//! A copy for syslog (RFC 5424): what is sent there is not waited for, and what it does not take is not sent again. The
//! record is in the file.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::mpsc;
use tracing::warn;

use crate::audit::chain::ChainId;
use crate::audit::event::Outcome;
use crate::audit::journal::Noted;
use crate::config::SyslogAddress;

/// Records that wait for syslog.
const WAITING: usize = 4096;

/// Facility 13 is "log audit" (RFC 5424 6.2.1).
const AUDIT: u8 = 13;

/// Sends records on.
#[derive(Debug)]
pub(super) struct Syslog {
    queue: mpsc::Sender<String>,
    lost: AtomicU64,
}

impl Syslog {
    /// To this address. What is to be run ends with the other half.
    pub(super) fn new(address: SyslogAddress) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue, lost: AtomicU64::new(0) }, deliver(address, waiting))
    }

    /// Sends a record.
    pub(super) fn send(&self, noted: &Noted, chain: ChainId, host: &str) {
        if self.queue.try_send(message(noted, chain, host)).is_err() && self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("syslog does not take the audit as fast as it is written: some of it is in the files only");
        }
    }
}

/// One message: the header has the record's own time and kind, the text is JSON.
fn message(noted: &Noted, chain: ChainId, host: &str) -> String {
    let severity = match noted.event.outcome {
        Outcome::Done => 6,
        Outcome::Refused => 4,
    };
    let priority = AUDIT * 8 + severity;
    let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let mut text = serde_json::to_value(&noted.event).unwrap_or_default();
    if let Some(members) = text.as_object_mut() {
        members.insert("chain".to_owned(), chain.to_string().into());
        members.insert("actor".to_owned(), noted.origin.to_string().into());
        members.extend(noted.origin.source().map(|source| ("source".to_owned(), source.to_string().into())));
    }
    let (at, kind, process) = (noted.at, noted.event.kind, std::process::id());
    format!("<{priority}>1 {at} {host} homeward-broker {process} {kind} - {text}")
}

async fn deliver(address: SyslogAddress, mut waiting: mpsc::Receiver<String>) {
    let (mut socket, mut failing) = (None, false);
    while let Some(message) = waiting.recv().await {
        let sent = async {
            if socket.is_none() {
                socket = Some(Socket::open(&address).await?);
            }
            match &socket {
                Some(socket) => socket.send(message.as_bytes()).await,
                None => Ok(()),
            }
        };
        match sent.await {
            Ok(()) => failing = false,
            Err(error) => {
                socket = None;
                if !std::mem::replace(&mut failing, true) {
                    warn!(%address, %error, "syslog does not take the audit: it is in the files only until it does");
                }
            }
        }
    }
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Socket {
    async fn open(address: &SyslogAddress) -> std::io::Result<Self> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            SyslogAddress::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok(Self::Udp(socket))
            }
        }
    }

    async fn send(&self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).await.map(drop),
            Self::Udp(socket) => socket.send(message).await.map(drop),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{Event, Kind};
    use crate::audit::origin::Origin;
    use crate::clock::Timestamp;

    fn noted() -> Noted {
        let event = Event::new(Kind::TokensRefused).refused("invalid_grant");
        Noted { at: Timestamp::from_secs(1_800_000_000), origin: Origin::Ops(0), event }
    }

    #[tokio::test]
    async fn a_record_arrives_as_one_message_of_rfc_5424() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (unix, udp) = (UnixDatagram::bind(&path).unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let chain = ChainId::generate();
        let expected = format!(
            "<108>1 2027-01-15T08:00:00Z host homeward-broker {} tokens_refused - \
             {{\"actor\":\"uid:0\",\"chain\":\"{chain}\",\"event\":\"tokens_refused\",\"outcome\":\"refused\",\
             \"reason\":\"invalid_grant\"}}",
            std::process::id()
        );
        let mut buffer = vec![0; 4096];
        for address in [SyslogAddress::Unix(path.clone()), SyslogAddress::Udp(udp.local_addr().unwrap())] {
            let is_unix = matches!(address, SyslogAddress::Unix(_));
            let (syslog, deliver) = Syslog::new(address);
            tokio::spawn(deliver);
            syslog.send(&noted(), chain, "host");
            let got = if is_unix { unix.recv(&mut buffer).await } else { udp.recv(&mut buffer).await };
            assert_eq!(std::str::from_utf8(&buffer[..got.unwrap()]).unwrap(), expected);
        }
    }
}
