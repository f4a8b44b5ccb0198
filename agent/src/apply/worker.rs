//! The loop that applies: it takes the newest snapshot there is, tells how it went, and tries again later what failed,
//! because most failures are an application that is being restarted or a file that somebody is about to mend. It knows no
//! stream: a revision that took longer than the connection lived is acknowledged on the next one.

use std::time::Duration;

use homeward_proto::v1::Snapshot;
use tokio::sync::watch;

use super::{Applier, ApplyError};
use crate::backoff::Backoff;
use crate::random;

/// An application that is down is only asked again, so it can be asked often.
const WHILE_DOWN: Duration = Duration::from_secs(15);
/// Everything else reloads the application each time.
const WHILE_FAILING: Duration = Duration::from_secs(300);

/// How a revision went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing was tried since the start; the instance uses this revision.
    Idle(u64),
    /// The instance uses it.
    Applied(u64),
    /// It does not.
    Failed {
        /// The revision.
        revision: u64,
        /// The one that it uses still.
        applied: u64,
        /// UPPER_SNAKE_CASE.
        reason: &'static str,
        /// One sentence.
        detail: String,
    },
}

/// Applies what `wanted` shows until nobody is left to want anything.
pub(crate) async fn run(
    mut applier: Applier,
    mut wanted: watch::Receiver<Option<Snapshot>>,
    outcome: watch::Sender<Outcome>,
) {
    while wanted.changed().await.is_ok() {
        let mut while_down = Backoff::new(Duration::from_secs(1), WHILE_DOWN);
        let mut while_failing = Backoff::new(Duration::from_secs(10), WHILE_FAILING);
        loop {
            let Some(snapshot) = wanted.borrow_and_update().clone() else { break };
            let revision = snapshot.revision;
            let error = match applier.apply(&snapshot).await {
                Ok(()) => {
                    tracing::info!(revision, "the instance uses the revision");
                    outcome.send_replace(Outcome::Applied(applier.revision()));
                    break;
                }
                Err(error) => error,
            };
            report(&outcome, applier.revision(), revision, &error);
            let backoff = match error {
                ApplyError::ApplicationDown { .. } => &mut while_down,
                ApplyError::Files(_) | ApplyError::Disk(_) | ApplyError::Reload { .. } | ApplyError::Proof { .. } => {
                    &mut while_failing
                }
            };
            let pause = backoff.next(random::fraction());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = wanted.changed() => if changed.is_err() { return },
            }
            // The loop reads the newest again: what failed may be out of date by now.
        }
    }
}

/// Once for each revision and reason: a broker that heard it does not need to hear it at every try.
fn report(outcome: &watch::Sender<Outcome>, applied: u64, revision: u64, error: &ApplyError) {
    let failed = Outcome::Failed { revision, applied, reason: error.reason(), detail: error.to_string() };
    let news = outcome.send_if_modified(|last| {
        let news = *last != failed;
        *last = failed;
        news
    });
    if news {
        tracing::warn!(revision, reason = error.reason(), error = %error, "the instance cannot take the revision; trying again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_failed() -> ApplyError {
        ApplyError::Disk(crate::disk::DiskError::NoRandomness)
    }

    #[test]
    fn the_broker_hears_of_a_failure_once() {
        let outcome = watch::Sender::new(Outcome::Idle(1));
        let mut heard = outcome.subscribe();
        report(&outcome, 1, 2, &write_failed());
        assert!(heard.has_changed().unwrap());
        assert!(matches!(
            &*heard.borrow_and_update(),
            Outcome::Failed { revision: 2, applied: 1, reason: "WRITE_FAILED", .. }
        ));
        report(&outcome, 1, 2, &write_failed());
        assert!(!heard.has_changed().unwrap(), "the same again is no news");
        report(&outcome, 1, 3, &write_failed());
        assert!(heard.has_changed().unwrap());
    }
}
