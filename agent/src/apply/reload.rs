//! The reload of the application: a program with arguments, no shell, 30 seconds.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::render::Credentials;

const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of what it prints is kept for the log.
const TAIL: usize = 4096;

/// How a reload failed.
#[derive(Debug, Error)]
pub(crate) enum ReloadError {
    /// No such program, or not allowed.
    #[error("the reload command {program:?} cannot be run: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Too slow: it was killed, with all that it started.
    #[error("the reload command {program:?} took longer than 30 seconds and was stopped")]
    TimedOut {
        /// The program.
        program: String,
    },
    /// It said no.
    #[error("the reload command {program:?} failed ({status}); the agent's log has what it printed")]
    Failed {
        /// The program.
        program: String,
        /// Its exit.
        status: std::process::ExitStatus,
    },
}

/// Runs it; nothing to run is a success. What it prints goes to the log, without the secret.
pub(crate) async fn run(argv: &[String], credentials: &Credentials) -> Result<(), ReloadError> {
    let [program, arguments @ ..] = argv else { return Ok(()) };
    run_within(TIMEOUT, program, arguments, credentials).await
}

async fn run_within(
    timeout: Duration,
    program: &str,
    arguments: &[String],
    credentials: &Credentials,
) -> Result<(), ReloadError> {
    let not_run = |source| ReloadError::NotRun { program: program.to_owned(), source };
    let mut child = spawn(program, arguments).map_err(not_run)?;
    // The output is drained beside the wait, so that a full pipe cannot stop the program; a grandchild that keeps the
    // pipe open does not keep the agent.
    let stdout = tail(child.stdout.take());
    let stderr = tail(child.stderr.take());
    let waited = tokio::time::timeout(timeout, child.wait()).await;
    if waited.is_err() {
        kill_group(&child);
    }
    for (stream, tail) in [("stdout", stdout), ("stderr", stderr)] {
        let printed = credentials.credential.redact(tail.finish().await);
        if !printed.trim().is_empty() {
            tracing::info!(program, stream, printed = printed.trim(), "the reload command printed");
        }
    }
    match waited {
        Err(_) => Err(ReloadError::TimedOut { program: program.to_owned() }),
        Ok(Err(source)) => Err(not_run(source)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(ReloadError::Failed { program: program.to_owned(), status }),
    }
}

#[expect(clippy::disallowed_methods, reason = "the operator's own command, given as an array: no shell")]
fn spawn(program: &str, arguments: &[String]) -> std::io::Result<Child> {
    Command::new(program)
        .args(arguments)
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
        tracing::warn!(%errno, "the reload command could not be stopped");
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
    use super::super::render::Credential;
    use super::*;

    fn credentials() -> Credentials {
        let credential = Credential::Secret("canary".into());
        Credentials { issuer: String::new(), client_id: String::new(), secret_version: 1, credential }
    }

    async fn run_it(argv: &[&str]) -> Result<(), ReloadError> {
        let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
        run(&argv, &credentials()).await
    }

    #[tokio::test]
    async fn exit_zero_is_success_and_nothing_to_run_too() {
        run_it(&[]).await.unwrap();
        run_it(&["true"]).await.unwrap();
        assert!(matches!(run_it(&["false"]).await, Err(ReloadError::Failed { .. })));
        assert!(matches!(run_it(&["/no/such/program"]).await, Err(ReloadError::NotRun { .. })));
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made");
        run_it(&["echo", &format!("; touch {}", file.display())]).await.unwrap();
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_reload_that_hangs_is_stopped_with_its_children() {
        let arguments = ["-c".to_owned(), "sleep 60 & sleep 60".to_owned()];
        let result = run_within(Duration::from_millis(100), "sh", &arguments, &credentials()).await;
        assert!(matches!(result, Err(ReloadError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn much_output_does_not_stop_it() {
        run_it(&["head", "-c", "1000000", "/dev/zero"]).await.unwrap();
    }
}
