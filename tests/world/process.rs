//! A program that runs: started, awaited until it says that it listens, stopped or killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// A program is usable in this time, or the test fails.
const START: Duration = Duration::from_secs(30);

/// A program ends in this time after SIGTERM, or is killed.
const STOP: Duration = Duration::from_secs(15);

/// Where a program's log goes, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// Appended to.
    pub file: &'a Path,
    /// `HOMEWARD_LOG`.
    pub filter: &'a str,
}

impl<'a> Log<'a> {
    /// Every level, so that a secret that any level lets out is found.
    pub fn everything(file: &'a Path) -> Self {
        Self { file, filter: EVERYTHING }
    }
}

const EVERYTHING: &str = "trace";

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The line that it printed when it could be used.
    pub announcement: Value,
    log: PathBuf,
}

impl Running {
    /// Starts a program and waits for its line on standard output.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    pub async fn start(program: &Path, arguments: &[&str], log: Log<'_>) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log.file)?;
        let mut child = command(program, arguments, log.filter).stdout(Stdio::piped()).stderr(file).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let line =
            tokio::time::timeout(START, lines.next_line()).await.context("the program did not start in time")??;
        let Some(line) = line else {
            let status = child.wait().await?;
            bail!("{} ended with {status}: {}", program.display(), std::fs::read_to_string(log.file)?);
        };
        // Whatever else it prints must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, announcement: serde_json::from_str(&line)?, log: log.file.to_owned() })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Ends it as the machine does when its power fails, as far as the process is concerned: SIGKILL.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Ends it as a supervisor does: SIGTERM.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("it has ended already")?;
        kill_process(pid, Signal::TERM)?;
        Ok(tokio::time::timeout(STOP, self.child.wait()).await.context("it did not end after SIGTERM")??)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(START, self.child.wait()).await.context("it goes on")??)
    }
}

/// Runs a command to its end, with this on its standard input.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub async fn run(program: &Path, arguments: &[&str], input: Option<&str>) -> anyhow::Result<Output> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command(program, arguments, EVERYTHING).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that ends without reading says why elsewhere.
        drop(stdin.write_all(input.as_bytes()).await);
    }
    let output = tokio::time::timeout(2 * START, child.wait_with_output()).await;
    Ok(output.with_context(|| format!("{} {arguments:?} did not end", program.display()))??)
}

#[expect(clippy::disallowed_methods, reason = "programs are started here and nowhere else")]
fn command(program: &Path, arguments: &[&str], log_filter: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("HOMEWARD_LOG", log_filter).kill_on_drop(true).stdin(Stdio::null());
    command
}
