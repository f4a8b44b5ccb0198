//! The only place that starts programs: the operator's own, given as an array, so that no shell reads them; in a process
//! group of their own, with a time limit; what they print is kept as far as its end.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How much of what a program prints is kept.
const TAIL: usize = 4096;

/// A program that ran.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The last of what it printed.
    pub(crate) stdout: String,
    /// And of what it complained.
    pub(crate) stderr: String,
    /// How it ended.
    pub(crate) ended: Ended,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With 0.
    Success,
    /// Otherwise.
    Failed(ExitStatus),
    /// It was killed, with all that it started.
    TimedOut,
}

/// Runs program and arguments, with these variables besides the agent's own environment.
pub(crate) async fn run(timeout: Duration, argv: &[String], environment: &[(&str, &str)]) -> std::io::Result<Ran> {
    let mut child = spawn(argv, environment)?;
    // The output is drained beside the wait, so that a full pipe cannot stop the program; a grandchild that keeps the
    // pipe open does not keep the agent.
    let stdout = tail(child.stdout.take());
    let stderr = tail(child.stderr.take());
    let waited = tokio::time::timeout(timeout, child.wait()).await;
    if waited.is_err() {
        kill_group(&child);
    }
    let (stdout, stderr) = (stdout.finish().await, stderr.finish().await);
    let ended = match waited {
        Err(_) => Ended::TimedOut,
        Ok(status) => match status? {
            status if status.success() => Ended::Success,
            status => Ended::Failed(status),
        },
    };
    Ok(Ran { stdout, stderr, ended })
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn spawn(argv: &[String], environment: &[(&str, &str)]) -> std::io::Result<Child> {
    let nothing = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let (program, arguments) = argv.split_first().ok_or_else(nothing)?;
    Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn kill_group(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(errno)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
        tracing::warn!(%errno, "a program that took too long could not be stopped");
    }
}

/// Reads a stream to its end and keeps the last part.
struct Tail(tokio::task::JoinHandle<()>, std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

fn tail(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Tail {
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let shared = kept.clone();
    let task = tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let Ok(mut kept) = shared.lock() else { return };
            kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let excess = kept.len().saturating_sub(TAIL);
            kept.drain(..excess);
        }
    });
    Tail(task, kept)
}

impl Tail {
    async fn finish(mut self) -> String {
        if tokio::time::timeout(Duration::from_millis(200), &mut self.0).await.is_err() {
            self.0.abort();
        }
        self.1.lock().map(|kept| String::from_utf8_lossy(&kept).into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_it(timeout: Duration, argv: &[&str]) -> Ran {
        let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
        run(timeout, &argv, &[("HOMEWARD_SUBJECT", "; touch /tmp/x")]).await.unwrap()
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made");
        run_it(Duration::from_secs(5), &["echo", &format!("; touch {}", file.display())]).await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn values_are_in_the_environment() {
        let ran = run_it(Duration::from_secs(5), &["printenv", "HOMEWARD_SUBJECT"]).await;
        assert_eq!((ran.stdout.as_str(), ran.ended), ("; touch /tmp/x\n", Ended::Success));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_stopped_with_its_children() {
        let ran = run_it(Duration::from_millis(100), &["sh", "-c", "sleep 60 & sleep 60"]).await;
        assert_eq!(ran.ended, Ended::TimedOut);
    }

    #[tokio::test]
    async fn much_output_does_not_stop_it_and_only_its_end_is_kept() {
        let ran = run_it(Duration::from_secs(5), &["sh", "-c", "head -c 1000000 /dev/zero; echo end"]).await;
        assert!(ran.ended == Ended::Success && ran.stdout.len() <= TAIL && ran.stdout.ends_with("end\n"));
    }
}
