//! The peer: node-oidc-provider from npm, as fast as it goes: one process, everything in memory, nobody is asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use world::Browser;
use world::process::{Log, Running};

use crate::operations::{Client, Paths, Target};
use crate::stage::Signature;

const VERSION: &str = "9.13.3";

const PORT: u16 = 4001;

const PATHS: Paths =
    Paths { authorize: "/auth", token: "/token", userinfo: "/me", introspect: "/token/introspection", jwks: "/jwks" };

/// The peer, installed.
pub(crate) struct Peer {
    folder: PathBuf,
    running: Option<Running>,
}

impl Peer {
    /// Installs it below tests/.cache, once.
    ///
    /// # Errors
    /// When npm does not.
    #[expect(clippy::disallowed_methods, reason = "a program is run to its end, before anything is measured")]
    pub(crate) fn install() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/peer");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("peer.mjs"), include_str!("peer.mjs"))?;
        if !folder.join("node_modules/oidc-provider").exists() {
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
            if !npm.arg(format!("oidc-provider@{VERSION}")).status().context("npm cannot be run")?.success() {
                bail!("oidc-provider could not be installed from npm");
            }
        }
        Ok(Self { folder, running: None })
    }

    /// Starts it anew on the first core, with a session for whoever has its cookie.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn serve(&mut self, signature: Signature) -> anyhow::Result<Target> {
        drop(self.running.take());
        let (program, port) = (self.folder.join("peer.mjs"), PORT.to_string());
        let (program, log) = (program.to_string_lossy(), self.folder.join("log"));
        let arguments = ["-c", "0", "node", &program, &port, signature.algorithm()];
        let log = Log { file: &log, filter: "info" };
        let running = Running::start(Path::new("taskset"), &arguments, log).await?;
        let issuer = format!("http://127.0.0.1:{PORT}");
        let client = Client {
            id: "client".into(),
            secret: "a-secret-that-is-long-enough-0123456789".into(),
            redirect_uri: "http://127.0.0.1:9999/cb".into(),
            scope: "openid email offline_access".into(),
        };
        let cookies = vec![log_in(&issuer, &client).await?];
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let (name, pid) = (format!("node-oidc-provider {}", signature.algorithm()), running.pid());
        self.running = Some(running);
        Ok(Target { name, pid, address, issuer, paths: PATHS, client, cookies })
    }
}

async fn log_in(issuer: &str, client: &Client) -> anyhow::Result<String> {
    let mut browser = Browser::new();
    let query = [
        ("client_id", client.id.as_str()),
        ("redirect_uri", &client.redirect_uri),
        ("response_type", "code"),
        ("scope", &client.scope),
        ("prompt", "consent"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let mut page = browser.get(url::Url::parse_with_params(&format!("{issuer}/auth"), query)?.as_str()).await?;
    while let Some(location) = page.headers.get("location") {
        if location.starts_with(&client.redirect_uri) {
            return browser.cookie_header("127.0.0.1").context("the peer has set no cookie");
        }
        page = browser.get(page.url.join(location)?.as_str()).await?;
    }
    bail!("the peer does not log anybody in: {}", page.body)
}
