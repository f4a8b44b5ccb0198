//! An etcd cluster of real processes, of one member or three, that can lose some of them.

use std::fmt;
use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::federation::free_port;
use crate::process::run;

/// How long a cluster may take until it answers, or has chosen another leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The cluster. Everything of it ends with this.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
    guard: Option<Guard>,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: u16,
    peer: u16,
    /// Health and figures, by plain HTTP even if clients come by TLS.
    health: u16,
    process: Mutex<Option<Child>>,
}

/// What keeps strangers out of a cluster.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The CA of members and clients.
    pub ca: PathBuf,
    /// A client's certificate, and of what it is.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Etcd {
    /// One member.
    ///
    /// # Errors
    /// When it does not start; when there is no `etcd`.
    pub async fn one() -> anyhow::Result<Self> {
        Self::of(1, false).await
    }

    /// Three members.
    ///
    /// # Errors
    /// As [`Etcd::one`].
    pub async fn three() -> anyhow::Result<Self> {
        Self::of(3, false).await
    }

    /// One member that speaks TLS only, and only with clients that have a certificate of its CA.
    ///
    /// # Errors
    /// As [`Etcd::one`].
    pub async fn guarded() -> anyhow::Result<Self> {
        Self::of(1, true).await
    }

    /// One member that all tests share who ask for it at the same time, each below a prefix of its own.
    ///
    /// # Errors
    /// As [`Etcd::one`].
    pub async fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: tokio::sync::Mutex<Weak<Etcd>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::one().await?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    async fn of(count: usize, guarded: bool) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("homeward-etcd-")?;
        let guard = if guarded { Some(Guard::new(folder.path())?) } else { None };
        let member = |index| {
            let (client, peer, health) = (free_port()?, free_port()?, free_port()?);
            anyhow::Ok(Member { name: format!("m{index}"), client, peer, health, process: Mutex::default() })
        };
        let members = (0..count).map(member).collect::<Result<_, _>>()?;
        let cluster = Self { members, folder, guard };
        for index in 0..count {
            cluster.start(index)?;
        }
        cluster.answers().await?;
        Ok(cluster)
    }

    /// How many members it has, dead or alive.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Its address as a store, with all members, for keys below a prefix.
    pub fn address(&self, prefix: &str) -> String {
        format!("etcd:{}/{prefix}", self.urls().join(","))
    }

    /// The same, with another member named first.
    pub fn address_from(&self, first: usize, prefix: &str) -> String {
        let mut urls = self.urls();
        urls.rotate_left(first);
        format!("etcd:{}/{prefix}", urls.join(","))
    }

    /// What a client needs to be let in, if it needs anything.
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Gives its members, and its clients, another CA and other certificates in the same files: what was good before is
    /// not any more once a member starts again.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn renew(&self) -> anyhow::Result<()> {
        Guard::new(self.folder.path()).map(drop)
    }

    /// The same with one member only, for who is to depend on it.
    pub fn address_of(&self, index: usize, prefix: &str) -> String {
        format!("etcd:{}/{prefix}", self.urls()[index])
    }

    /// The port of a member for clients.
    pub fn port(&self, index: usize) -> u16 {
        self.members[index].client
    }

    fn urls(&self) -> Vec<String> {
        let scheme = if self.guard.is_some() { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.client)).collect()
    }

    /// Starts a member, for the first time or again.
    ///
    /// # Errors
    /// When there is no `etcd`.
    #[expect(clippy::disallowed_methods, reason = "killed on drop, whatever runtime that happens in")]
    pub fn start(&self, index: usize) -> anyhow::Result<()> {
        let member = &self.members[index];
        let scheme = if self.guard.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let cluster: Vec<_> =
            self.members.iter().map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer)).collect();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name, "--logger", "zap"])
            .arg("--data-dir")
            .arg(self.folder.path().join(&member.name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", member.health)]);
        if let Some(guard) = &self.guard {
            command.args(["--client-cert-auth", "--trusted-ca-file"]).arg(&guard.ca);
            command.arg("--cert-file").arg(&guard.certificate).arg("--key-file").arg(&guard.key);
        }
        let log = || File::options().create(true).append(true).open(self.log(index));
        let process = command.stdin(Stdio::null()).stdout(log()?).stderr(log()?).spawn().context("etcd")?;
        *member.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.members[index].name))
    }

    /// Waits until the members that run have a leader and answer.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn answers(&self) -> anyhow::Result<()> {
        let wait = async {
            for member in self.members.iter().filter(|member| member.runs()) {
                while !member.asked("health").await.is_ok_and(|health| health.contains("true")) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            bail!("etcd does not answer: {}", std::fs::read_to_string(self.log(0)).unwrap_or_default());
        }
        Ok(())
    }

    /// Which member leads.
    ///
    /// # Errors
    /// When none does for long.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let wait = async {
            loop {
                for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.runs()) {
                    if member
                        .asked("metrics")
                        .await
                        .is_ok_and(|figures| figures.contains("\netcd_server_is_leader 1\n"))
                    {
                        return index;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.context("no member leads")
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, index: usize) -> anyhow::Result<()> {
        let mut process = self.members[index].process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = process.take().context("it does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// SIGSTOP: its connections stay, and nothing comes from it, once all its threads have heard of it.
    ///
    /// # Errors
    /// When it does not run, or does not stop.
    pub async fn pause(&self, index: usize) -> anyhow::Result<()> {
        self.members[index].signal(Signal::STOP)?;
        let mut tries = 0..5000;
        while !self.members[index].is_stopped()? {
            ensure!(tries.next().is_some(), "it does not stop");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, index: usize) -> anyhow::Result<()> {
        self.members[index].signal(Signal::CONT)
    }

    /// Runs `etcdctl` and gives what it printed.
    ///
    /// # Errors
    /// What it said when it refused.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let endpoints = format!("--endpoints={}", self.urls().join(","));
        let mut all = vec![endpoints];
        if let Some(guard) = &self.guard {
            let option = |name, path: &Path| format!("--{name}={}", path.display());
            all.extend([option("cacert", &guard.ca), option("cert", &guard.certificate), option("key", &guard.key)]);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let output = run(Path::new("etcdctl"), &all, None).await?;
        if !output.status.success() {
            bail!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            // One that was killed before needs no second time.
            drop(self.kill(index));
        }
    }
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls().join(","))
    }
}

impl Member {
    fn runs(&self) -> bool {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = process.as_ref().context("it does not run")?.id();
        Ok(kill_process(Pid::from_raw(i32::try_from(pid)?).context("pid")?, signal)?)
    }

    /// By proc(5): the state follows the name, which is in brackets and may have some itself.
    fn is_stopped(&self) -> anyhow::Result<bool> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = process.as_ref().context("it does not run")?.id();
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            if !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn asked(&self, path: &str) -> anyhow::Result<String> {
        // A port that nobody listens on yet is refused at once.
        TcpStream::connect(("127.0.0.1", self.health))?;
        let url = format!("http://127.0.0.1:{}/{path}", self.health);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build()?;
        Ok(client.get(url).send().await?.text().await?)
    }
}

impl Guard {
    #[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut of_ca = CertificateParams::new(Vec::new())?;
        of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut of_both = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        // Whoever has a common name is taken for a user of that name.
        of_both.distinguished_name = DistinguishedName::new();
        let certificate = of_both.signed_by(&key, &ca)?;
        let guard =
            Self { ca: folder.join("ca.pem"), certificate: folder.join("both.pem"), key: folder.join("both.key") };
        std::fs::write(&guard.ca, ca.pem())?;
        std::fs::write(&guard.certificate, certificate.pem())?;
        std::fs::write(&guard.key, key.serialize_pem())?;
        std::fs::set_permissions(&guard.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(guard)
    }
}
