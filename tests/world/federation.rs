//! A federation: a broker with its folder, and instances with theirs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Log, Running, run};
use crate::programs::{Programs, programs};
use crate::site::{Account, Site};

/// Ports that the kernel gives to nobody by itself (net.ipv4.ip_local_port_range begins at 32768).
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How long something that should come about may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of its own for all that a test starts, and the ports that stay the same when a program starts again.
#[derive(Debug)]
pub struct World {
    folder: PathBuf,
    /// Deletes the folder at the end.
    _temporary: Option<TempDir>,
    programs: &'static Programs,
}

impl World {
    /// An empty one.
    ///
    /// # Errors
    /// When the programs do not build or there is no room.
    pub fn new() -> anyhow::Result<Self> {
        let temporary = TempDir::with_prefix("homeward-")?;
        let folder = temporary.path().to_owned();
        Ok(Self { folder, _temporary: Some(temporary), programs: programs()? })
    }

    /// One that stays, in an empty folder.
    ///
    /// # Errors
    /// When the programs do not build.
    pub fn lasting(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.to_owned(), _temporary: None, programs: programs()? })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A broker that runs.
#[derive(Debug)]
pub struct Federation {
    /// Where everything is.
    pub world: World,
    /// The broker, unless it was stopped.
    pub broker: Option<Running>,
    /// What its log goes to.
    pub log: PathBuf,
    /// The broker's configuration.
    pub config: PathBuf,
}

impl Federation {
    /// Makes and starts a broker.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with_settings("").await
    }

    /// Makes and starts a broker with more in its configuration, for example `[lifetimes]`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn with_settings(more: &str) -> anyhow::Result<Self> {
        let mut federation = Self::founded(more).await?;
        federation.serve().await?;
        Ok(federation)
    }

    /// Makes a broker's folder and keys, and does not start it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub async fn founded(more: &str) -> anyhow::Result<Self> {
        Self::founded_in(World::new()?, more).await
    }

    /// The same in this world.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub async fn founded_in(world: World, more: &str) -> anyhow::Result<Self> {
        Self::founded_with(world, "", more).await
    }

    /// The same, with its store at this address.
    ///
    /// # Errors
    /// When the folder cannot be made, or there is no such store.
    pub async fn founded_on(world: World, store: &str, more: &str) -> anyhow::Result<Self> {
        Self::founded_with(world, &format!("store = {store:?}\n"), more).await
    }

    async fn founded_with(world: World, store: &str, more: &str) -> anyhow::Result<Self> {
        let (http, grpc) = (free_port()?, free_port()?);
        let text = format!(
            "public_url = \"http://localhost:{http}\"\nagent_url = \"https://127.0.0.1:{grpc}\"\n\
             trust_domain = \"test.example\"\ndata_dir = {:?}\n{store}\
             [listen]\nhttp = \"127.0.0.1:{http}\"\ngrpc = \"127.0.0.1:{grpc}\"\n{more}\n",
            world.folder().join("broker")
        );
        let config = world.folder().join("broker.toml");
        std::fs::write(&config, text)?;
        let log = world.folder().join("broker.log");
        let federation = Self { world, broker: None, log, config };
        federation.ops(&["init"]).await?;
        Ok(federation)
    }

    /// Starts the broker again, on the same ports.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve(&mut self) -> anyhow::Result<()> {
        let log = self.log.clone();
        self.serve_with(Log::everything(&log)).await
    }

    /// Starts the broker with another log.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve_with(&mut self, log: Log<'_>) -> anyhow::Result<()> {
        let config = self.config.to_string_lossy();
        let broker = Running::start(&self.world.programs.broker, &["--config", &config, "serve"], log).await?;
        self.broker = Some(broker);
        Ok(())
    }

    /// Starts the broker again as it is run in earnest: what it logs is what ops are to know. On one core, if one is
    /// named.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve_in_earnest(&mut self, core: Option<&str>) -> anyhow::Result<()> {
        let (program, config) = (self.world.programs.broker.to_string_lossy(), self.config.to_string_lossy());
        let arguments = [&program, "--config", &config, "serve"];
        let log = Log { file: &self.log, filter: "info" };
        let broker = match core {
            None => Running::start(Path::new(arguments[0]), &arguments[1..], log).await?,
            Some(core) => Running::start(Path::new("taskset"), &[&["-c", core], &arguments[..]].concat(), log).await?,
        };
        self.broker = Some(broker);
        Ok(())
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it does not end in time, or did not run.
    pub async fn stop_broker(&mut self) -> anyhow::Result<()> {
        self.broker.take().context("no broker runs")?.stop().await.map(drop)
    }

    /// Starts the broker again on a machine whose clock is off, for example by `+30 days`.
    ///
    /// # Errors
    /// When it does not start; when `faketime` is not there.
    pub async fn serve_off_by(&mut self, offset: &str) -> anyhow::Result<()> {
        let (program, config) = (self.world.programs.broker.to_string_lossy(), self.config.to_string_lossy());
        let arguments = [&off_by(offset), &[&*program, "--config", &config, "serve"][..]].concat();
        self.broker = Some(Running::start(Path::new("faketime"), &arguments, Log::everything(&self.log)).await?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it did not run.
    pub async fn kill_broker(&mut self) -> anyhow::Result<()> {
        self.broker.take().context("no broker runs")?.kill().await
    }

    /// Runs a command of the broker and gives what it printed.
    ///
    /// # Errors
    /// What it said when it refused.
    pub async fn ops(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let config = self.config.to_string_lossy();
        let arguments = [&["--config", &config], arguments].concat();
        printed(run(&self.world.programs.broker, &arguments, None).await?)
    }

    /// Runs a command of the broker with `--output json`.
    ///
    /// # Errors
    /// What it said when it refused.
    pub async fn ops_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ops(&[arguments, &["--output", "json"]].concat()).await?)?)
    }

    /// A join token's text.
    ///
    /// # Errors
    /// When the broker makes none.
    pub async fn token(&self, name: &str, more: &[&str]) -> anyhow::Result<String> {
        let created = self.ops_json(&[&["token", "create", "--instance", name], more].concat()).await?;
        Ok(created["text"].as_str().context("text")?.to_owned())
    }

    /// Where browsers reach the broker.
    ///
    /// # Errors
    /// When it does not run.
    pub fn issuer(&self) -> anyhow::Result<String> {
        Ok(format!("http://localhost:{}", self.listener("http")?.port()))
    }

    /// An address that the broker announced.
    ///
    /// # Errors
    /// When it does not run.
    pub fn listener(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let broker = self.broker.as_ref().context("no broker runs")?;
        Ok(broker.announcement[name].as_str().context("announced")?.parse()?)
    }

    /// Starts a site with an agent beside it, enrolled and in sync.
    ///
    /// # Errors
    /// When any of it does not come about.
    pub async fn instance(&self, name: &str, options: InstanceOptions) -> anyhow::Result<Instance> {
        let mut instance = self.prepare(name, options).await?;
        let token = self.token(name, &[]).await?;
        instance.enrol(&token).await?;
        instance.run().await?;
        self.in_sync(name).await?;
        Ok(instance)
    }

    /// Starts a site and writes its agent's configuration, no more.
    ///
    /// # Errors
    /// When the site does not start.
    pub async fn prepare(&self, name: &str, options: InstanceOptions) -> anyhow::Result<Instance> {
        let folder = self.world.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        let portal = free_port()?;
        let credentials = folder.join("credentials");
        let site = Site::start(name, options.accounts, credentials.join("current/homeward.json"), portal).await?;
        std::fs::write(folder.join("site.toml"), include_str!("site.toml"))?;
        let home = if options.methods.is_empty() {
            String::new()
        } else {
            format!("[home]\nmethods = {:?}\n", options.methods)
        };
        let party = format!("[relying_party]\ncredentials_dir = {credentials:?}\n");
        let text = format!(
            "public_url = \"{}\"\ndisplay_name = \"{name} site\"\ndata_dir = {:?}\nrecipe_file = {:?}\n\
             [app]\nurl = \"http://{}\"\n{}{home}[portal]\nlisten = \"127.0.0.1:{portal}\"\n\
             [telemetry]\nmetrics = \"127.0.0.1:0\"\n",
            site.public_url(),
            folder.join("agent"),
            folder.join("site.toml"),
            site.address(),
            if options.relying_party { party } else { String::new() },
        );
        let config = folder.join("agent.toml");
        std::fs::write(&config, text)?;
        Ok(Instance { site, agent: None, program: self.world.programs.agent.clone(), config, folder })
    }

    /// Lets one accept the other's users.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn allow(&self, relying_party: &str, home: &str, domains: &[&str]) -> anyhow::Result<()> {
        let domains: Vec<&str> = domains.iter().flat_map(|domain| ["--email-domain", *domain]).collect();
        let command = ["trust", "allow", "--relying-party", relying_party, "--home", home];
        self.ops(&[&command[..], &domains].concat()).await.map(drop)
    }

    /// Waits until an instance's agent is online and has acknowledged what it should have.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn in_sync(&self, name: &str) -> anyhow::Result<Value> {
        let wait = async {
            loop {
                let shown = self.ops_json(&["instance", "show", name]).await?;
                let wanted = shown["wanted_revision"].as_u64().unwrap_or(0);
                if shown["online"] == true && wanted > 0 && shown["applied_revision"] == wanted {
                    return anyhow::Ok(shown);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(shown) => shown,
            Err(_) => bail!("{name} is not in sync: {}", self.ops(&["instance", "show", name]).await?),
        }
    }
}

/// What an instance is to be.
#[derive(Debug)]
pub struct InstanceOptions {
    /// Who can sign in at the site itself.
    pub accounts: Vec<Account>,
    /// Whether it is a relying party.
    pub relying_party: bool,
    /// How it is home; not at all if empty.
    pub methods: Vec<&'static str>,
}

/// A site with an agent beside it.
#[derive(Debug)]
pub struct Instance {
    /// The application.
    pub site: Site,
    /// The agent, once it runs.
    pub agent: Option<Running>,
    /// Where its things are.
    pub folder: PathBuf,
    program: PathBuf,
    config: PathBuf,
}

impl Instance {
    /// Enrols the agent; the token goes in by standard input.
    ///
    /// # Errors
    /// What the agent said when it was refused.
    pub async fn enrol(&self, token: &str) -> anyhow::Result<String> {
        self.command(&["enrol", "--token-file", "-"], Some(token)).await
    }

    /// Lets the site's ID tokens be signed by another algorithm than ES256; to be said before the enrolment.
    ///
    /// # Errors
    /// When the recipe cannot be changed.
    pub fn sign_with(&self, algorithm: &str) -> anyhow::Result<()> {
        let recipe =
            include_str!("site.toml").replace("id_token_alg = \"ES256\"", &format!("id_token_alg = {algorithm:?}"));
        Ok(std::fs::write(self.folder.join("site.toml"), recipe)?)
    }

    /// Lets the site authenticate by a key instead of a secret; to be said before the enrolment.
    ///
    /// # Errors
    /// When the recipe cannot be changed.
    pub fn use_private_key(&self) -> anyhow::Result<()> {
        let file = self.folder.join("site.toml");
        let recipe = std::fs::read_to_string(&file)?
            .replace("client_secret_basic", "private_key_jwt")
            .replace("client_secret = \"${client_secret}\"", "client_private_key = \"${client_private_key_pem}\"");
        Ok(std::fs::write(file, recipe)?)
    }

    /// Lets the site take no logout tokens and show no front-channel page: its agent ends sessions instead. To be said before
    /// the enrolment.
    ///
    /// # Errors
    /// When the recipe cannot be changed.
    pub fn without_back_channel(&self) -> anyhow::Result<()> {
        let channels = ["backchannel_logout_path", "frontchannel_logout_path"];
        let file = self.folder.join("site.toml");
        let recipe = std::fs::read_to_string(&file)?;
        let kept = recipe.lines().filter(|line| !channels.iter().any(|channel| line.starts_with(channel)));
        Ok(std::fs::write(file, kept.collect::<Vec<_>>().join("\n"))?)
    }

    /// Runs the agent.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        let config = self.config.to_string_lossy().into_owned();
        let log = self.folder.join("agent.log");
        self.agent = Some(Running::start(&self.program, &["--config", &config, "run"], Log::everything(&log)).await?);
        Ok(())
    }

    /// Runs the agent on a machine whose clock is off, for example by `+30 days`.
    ///
    /// # Errors
    /// When it does not start; when `faketime` is not there.
    pub async fn run_off_by(&mut self, offset: &str) -> anyhow::Result<()> {
        let (program, config) = (self.program.to_string_lossy(), self.config.to_string_lossy());
        let log = self.folder.join("agent.log");
        let arguments = [&off_by(offset), &[&*program, "--config", &config, "run"][..]].concat();
        self.agent = Some(Running::start(Path::new("faketime"), &arguments, Log::everything(&log)).await?);
        Ok(())
    }

    /// A copy of everything that the agent keeps, as a snapshot of its machine has it, beside the same application.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn clone_agent(&self) -> anyhow::Result<Clone> {
        let data = self.folder.join("agent-clone");
        std::fs::create_dir(&data)?;
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        for entry in std::fs::read_dir(self.folder.join("agent"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), data.join(entry.file_name()))?;
            }
        }
        let text = std::fs::read_to_string(&self.config)?;
        let text = text.replace(&format!("{:?}", self.folder.join("agent")), &format!("{data:?}"));
        let portal = text.find("listen = ").map_or(text.as_str(), |at| &text[..at]).to_owned();
        let config = self.folder.join("agent-clone.toml");
        std::fs::write(&config, format!("{portal}listen = \"127.0.0.1:{}\"\n", free_port()?))?;
        Ok(Clone { program: self.program.clone(), config, log: self.folder.join("agent-clone.log") })
    }

    /// Runs a command of the agent and gives what it printed.
    ///
    /// # Errors
    /// What it said when it refused.
    pub async fn command(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let config = self.config.to_string_lossy();
        printed(run(&self.program, &[&["--config", &config], arguments].concat(), input).await?)
    }

    /// The same on a machine whose clock is off, for example by `-2 days`.
    ///
    /// # Errors
    /// What it said when it refused; when `faketime` is not there.
    pub async fn command_off_by(
        &self,
        offset: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> anyhow::Result<String> {
        let (program, config) = (self.program.to_string_lossy(), self.config.to_string_lossy());
        let arguments = [&off_by(offset), &[&*program, "--config", &config][..], arguments].concat();
        printed(run(Path::new("faketime"), &arguments, input).await?)
    }
}

/// A second agent with the identity of the first.
#[derive(Debug)]
pub struct Clone {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl Clone {
    /// Runs it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn run(&self) -> anyhow::Result<Running> {
        let config = self.config.to_string_lossy().into_owned();
        Running::start(&self.program, &["--config", &config, "run"], Log::everything(&self.log)).await
    }
}

/// What a command printed, or what it said when it refused.
/// What comes after `faketime`. It runs the program as its child: without this, who kills the one leaves the other alive.
fn off_by(offset: &str) -> [&str; 4] {
    [offset, "setpriv", "--pdeathsig", "KILL"]
}

fn printed(output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A port that nobody uses now and that the kernel gives to nobody by itself: the broker's ports must be known before it
/// runs, because they stand in its issuer and in join tokens, and are used again when it comes back.
///
/// # Errors
/// When none is free.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range that the kernel takes ports of outgoing connections from; each process begins elsewhere in it.
    let begin = u16::try_from(std::process::id() % 97).unwrap_or(0) * 100;
    for _ in 0..PORTS.len() {
        let port = PORTS.start + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}
