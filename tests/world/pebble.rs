//! Pebble: Let's Encrypt's small ACME server, which misbehaves on purpose. It believes a name server of ours, by which every
//! name leads to this machine.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::federation::free_port;
use crate::https::Https;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest question to the name server, in bytes.
const LONGEST: usize = 512;

/// How it is.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Seconds for which its certificates are good.
    pub validity: u32,
    /// How many of a hundred good nonces it calls bad.
    pub bad_nonces: u8,
    /// Seconds that it may think before it asks who a name is.
    pub slow: u8,
}

impl Manners {
    /// Good ones.
    pub const GOOD: Self = Self { validity: 90 * 86_400, bad_nonces: 0, slow: 0 };
}

/// The server, once it was started. Everything of it ends with this.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    port: u16,
    management: u16,
    tls_port: u16,
    process: Option<Child>,
    names: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Pebble {
    /// One that asks names on this port, and is not started yet.
    ///
    /// # Errors
    /// When there is no room or no port.
    #[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
    pub async fn asking(tls_port: u16) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("homeward-pebble-")?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        std::fs::write(folder.path().join("server.pem"), certificate.pem())?;
        std::fs::write(folder.path().join("server.key"), key.serialize_pem())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (names, serving) = (listener.local_addr()?, AbortOnDropHandle::new(tokio::spawn(answer_all(listener))));
        let (port, management) = (free_port()?, free_port()?);
        Ok(Self { folder, port, management, tls_port, process: None, names, _serving: serving })
    }

    /// Where its directory is.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// By whom its own server is known.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// Starts it, with no memory of earlier lives.
    ///
    /// # Errors
    /// When it does not start; when it is not installed.
    #[expect(clippy::disallowed_methods, reason = "killed on drop; configured by variables")]
    pub async fn start(&mut self, manners: Manners) -> anyhow::Result<()> {
        let at = |name: &str| self.folder.path().join(name);
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": at("server.pem"),
            "privateKey": at("server.key"),
            "httpPort": 1,
            "tlsPort": self.tls_port,
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": { "default": { "description": "ours", "validityPeriod": manners.validity } },
        }});
        std::fs::write(at("pebble.json"), config.to_string())?;
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/go/bin/pebble");
        let mut command = Command::new(&program);
        command.arg("-config").arg(at("pebble.json")).arg("-dnsserver").arg(self.names.to_string());
        command.env("PEBBLE_WFE_NONCEREJECT", manners.bad_nonces.to_string()).env("PEBBLE_AUTHZREUSE", "0");
        match manners.slow {
            0 => command.env("PEBBLE_VA_NOSLEEP", "1"),
            slow => command.env("PEBBLE_VA_SLEEPTIME", slow.to_string()),
        };
        let log = || File::options().create(true).append(true).open(at("pebble.log"));
        let process = command.stdin(Stdio::null()).stdout(log()?).stderr(log()?).spawn();
        let install = || format!("{} is not there: `tests/run rust` installs it", program.display());
        self.process = Some(process.with_context(install)?);
        let up = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.with_context(|| self.log())
    }

    /// It is gone.
    ///
    /// # Errors
    /// When it did not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// What it has said in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }

    /// The CA that signs in this life of it, as PEM.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn root(&self) -> anyhow::Result<String> {
        let client = Https::to("localhost", &std::fs::read_to_string(self.ca_file())?);
        let answer = client.get(SocketAddr::from(([127, 0, 0, 1], self.management)), "/roots/0").await?;
        if answer.status != 200 {
            bail!("no root: {}", answer.body);
        }
        Ok(answer.body)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // One that was killed before needs no second time.
        drop(self.kill());
    }
}

/// A name server, by TCP (RFC 1035 4.2.2): each name is 127.0.0.1, and nothing else.
async fn answer_all(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; usize::from(length)];
                if question.len() > LONGEST || stream.read_exact(&mut question).await.is_err() {
                    return;
                }
                let Some(answer) = answer(&question) else { return };
                let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
                if stream.write_all(&[&length[..], &answer].concat()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    // Behind the head of twelve bytes: the name, which ends with an empty label, its type and its class.
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let asked = question.get(12..end)?;
    let is_a = asked[asked.len() - 4..asked.len() - 2] == [0, 1];
    let mut answer = vec![question[0], question[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
    answer.extend_from_slice(asked);
    if is_a {
        // The name above, an address, of the internet, good for a second, four bytes.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
