//! The federation that is measured: alpha logs its users in, `es256` and `rs256` are relying parties, one for each
//! algorithm. All three are real agents beside real sites until the sessions are made; then only the broker runs.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use world::federation::{Instance, InstanceOptions};
use world::process::Running;
use world::site::Account;
use world::{Browser, Etcd, Federation, World};

use crate::operations::{Client, Paths, Target};

const ALICE: Account =
    Account { username: "alice", password: "wonderland", name: "Alice Archer", email: "alice@alpha.example" };

/// Nobody logs in again while it is measured.
const LONG_SESSIONS: &str = "[lifetimes]\nsession = 604800\nsession_idle = 604800\n";

/// What is asked for at each login.
const SCOPE: &str = "openid email offline_access";

const PATHS: Paths =
    Paths { authorize: "/authorize", token: "/token", userinfo: "/userinfo", introspect: "/introspect", jwks: "/jwks" };

/// Sessions for another load generator.
const SESSIONS: u32 = 64;

/// How ID tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// ECDSA with P-256.
    Es256,
    /// RSA with 2048 bits.
    Rs256,
}

impl Signature {
    pub(crate) const ALL: [Self; 2] = [Self::Es256, Self::Rs256];

    /// As the JOSE header has it.
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The relying party whose tokens are signed so.
    pub(crate) fn client(self) -> &'static str {
        match self {
            Self::Es256 => "es256",
            Self::Rs256 => "rs256",
        }
    }
}

/// A broker that does not run yet, and sessions at it.
pub(crate) struct Stage {
    federation: Federation,
    issuer: String,
    clients: Vec<Client>,
    cookies: Vec<String>,
}

impl Stage {
    /// Makes everything in an empty folder, with the store in an etcd if there is one.
    ///
    /// # Errors
    /// When any of it does not come about.
    pub(crate) async fn open(folder: &Path, etcd: Option<&Etcd>, sessions: u32) -> anyhow::Result<Self> {
        let world = World::lasting(folder)?;
        let mut federation = match etcd {
            None => Federation::founded_in(world, LONG_SESSIONS).await?,
            Some(etcd) => Federation::founded_on(world, &etcd.address("homeward"), LONG_SESSIONS).await?,
        };
        federation.serve_in_earnest(None).await?;
        let alpha = federation.instance("alpha", home()).await?;
        let mut clients = Vec::new();
        for signature in Signature::ALL {
            clients.push(relying_party(&federation, signature).await?);
        }
        let cookies = log_in(&federation, &alpha, &clients, sessions).await?;
        let issuer = federation.issuer()?;
        federation.stop_broker().await?;
        Ok(Self { federation, issuer, clients, cookies })
    }

    /// Starts the broker again, alone and on the first core.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn serve(&mut self, signature: Signature) -> anyhow::Result<Target> {
        if self.federation.broker.is_some() {
            self.federation.stop_broker().await?;
        }
        self.federation.serve_in_earnest(Some("0")).await?;
        let number = Signature::ALL.iter().position(|other| *other == signature).unwrap_or(0);
        Ok(Target {
            name: format!("Homeward {}", signature.algorithm()),
            pid: self.federation.broker.as_ref().map_or(0, Running::pid),
            address: self.federation.listener("http")?,
            issuer: self.federation.issuer()?,
            paths: PATHS,
            client: self.clients.get(number).context("each algorithm has its client")?.clone(),
            cookies: self.cookies.clone(),
        })
    }
}

fn home() -> InstanceOptions {
    InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] }
}

fn relying_party_options() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

/// An enrolled relying party whose tokens are signed so; its agent and site end again.
async fn relying_party(federation: &Federation, signature: Signature) -> anyhow::Result<Client> {
    let name = signature.client();
    let mut instance = federation.prepare(name, relying_party_options()).await?;
    instance.sign_with(signature.algorithm())?;
    instance.enrol(&federation.token(name, &[]).await?).await?;
    instance.run().await?;
    federation.in_sync(name).await?;
    federation.allow(name, "alpha", &["alpha.example"]).await?;
    let credentials = std::fs::read_to_string(instance.folder.join("credentials/current/homeward.json"))?;
    let credentials: Value = serde_json::from_str(&credentials)?;
    let text = |name: &str| credentials[name].as_str().map(str::to_owned).context("credentials");
    Ok(Client {
        id: text("client_id")?,
        secret: text("client_secret")?,
        redirect_uri: instance.site.at("/callback"),
        scope: SCOPE.to_owned(),
    })
}

/// So many browsers of alice, signed in at the broker by her home. Gives their cookies there.
async fn log_in(
    federation: &Federation,
    alpha: &Instance,
    clients: &[Client],
    sessions: u32,
) -> anyhow::Result<Vec<String>> {
    federation.in_sync("alpha").await?;
    let mut browser = Browser::new();
    let page = browser.open(&alpha.site.at("/login")).await?;
    browser.submit(&page, &[("username", ALICE.username), ("password", ALICE.password)]).await?;
    let mut cookies = Vec::new();
    for _ in 0..sessions {
        browser.forget_host("localhost");
        for client in clients {
            let query = [
                ("client_id", client.id.as_str()),
                ("redirect_uri", &client.redirect_uri),
                ("response_type", "code"),
                ("scope", "openid"),
                ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
                ("code_challenge_method", "S256"),
            ];
            let address = url::Url::parse_with_params(&format!("{}/authorize", federation.issuer()?), query)?;
            let mut page = browser.get(address.as_str()).await?;
            while !page.headers.get("location").is_some_and(|to| to.starts_with(&client.redirect_uri)) {
                let location = page.headers.get("location").with_context(|| page.body.clone())?;
                page = browser.get(page.url.join(location)?.as_str()).await?;
            }
        }
        cookies.push(browser.cookie_header("localhost").context("no session came of a login")?);
    }
    Ok(cookies)
}

/// A folder with a federation in it, and profiles for oidc-bench.
///
/// # Errors
/// When it cannot be made.
#[expect(clippy::disallowed_methods, reason = "throw-away files in a folder that the caller named")]
pub(crate) async fn prepare(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() && folder.join("broker.toml").exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let stage = Stage::open(&folder, None, SESSIONS).await?;
    let broker = &world::programs::programs()?.broker;
    let issuer = &stage.issuer;
    let sessions = stage.cookies.iter().map(|cookie| format!("{}\n", json!({"Cookie": cookie})));
    std::fs::write(folder.join("sessions.jsonl"), sessions.collect::<String>())?;
    for (signature, client) in Signature::ALL.into_iter().zip(&stage.clients) {
        let profile = json!({
            "name": format!("homeward, {}, embedded store, every commit fsynced", signature.algorithm()),
            "issuer": issuer,
            "start": {
                "cmd": [broker, "--config", stage.federation.config, "serve"],
                "env": {"HOMEWARD_LOG": "warn"},
            },
            "login": ["cat", folder.join("sessions.jsonl")],
            "client": {
                "id": client.id, "secret": client.secret, "redirect_uri": client.redirect_uri, "scope": client.scope,
            },
            "id_token_alg": signature.algorithm(),
        });
        let file = folder.join(format!("homeward-{}.json", signature.client()));
        std::fs::write(&file, serde_json::to_string_pretty(&profile)?)?;
        say(&file.display().to_string());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a command was asked for")]
fn say(line: &str) {
    println!("{line}");
}
