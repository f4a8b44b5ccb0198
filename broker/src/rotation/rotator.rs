//! The loop that moves rotations on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use crate::clock::{Clock, Timestamp};
use crate::rotation::{PlannedMove, RotationError, Rotations, TICK, schedule};
use crate::storage::Watch;

/// How often it is looked whether one is due, when none runs: to plan for ten thousand instances is work.
const REST: Duration = Duration::from_secs(5);

/// How often they are looked at when ten thousand agents say something.
const BREATH: Duration = Duration::from_millis(100);

impl Rotations {
    /// Moves rotations on, for ever, whenever this broker is on duty.
    pub async fn run(self: Arc<Self>, clock: Clock, mut on_duty: watch::Receiver<bool>) {
        let mut acknowledgements = self.liveness.acknowledgements();
        let mut changes = None;
        loop {
            if changes.is_none() {
                // Without it, there is the pause.
                changes = self.table.watch().await.ok();
            }
            let looked = if *on_duty.borrow_and_update() {
                self.look(clock.now()).await
            } else {
                self.follow_plan(clock.now()).await.map(|_| false)
            };
            if let Err(error) = &looked {
                error!(%error, "rotations cannot be looked at; trying again");
            }
            let runs = looked.unwrap_or(true);
            tokio::select! {
                // The sender lives as long as this flow. Agents that come and go concern nobody when nothing turns.
                _ = acknowledgements.changed(), if runs => {}
                () = self.woken.notified() => {}
                Ok(()) = on_duty.changed() => {}
                open = changed(changes.as_mut()) => {
                    if !open {
                        changes = None;
                    }
                }
                () = tokio::time::sleep(if runs { TICK } else { REST }) => {}
            }
            tokio::time::sleep(BREATH).await;
            acknowledgements.mark_unchanged();
            // One look is enough for all that has changed so far.
            while has_changed(changes.as_mut()).await {}
        }
    }

    /// Finds out what is planned, and when the published keys change next.
    pub(super) async fn follow_plan(&self, now: Timestamp) -> Result<Vec<PlannedMove>, RotationError> {
        let plan = self.plan(now).await?;
        let next = schedule::next_key_change(&plan, now);
        self.next_key_change.send_if_modified(|known| std::mem::replace(known, next) != next);
        Ok(plan)
    }
}

/// Waits until somebody has changed a rotation; says whether this can be seen any longer.
async fn changed(changes: Option<&mut Watch>) -> bool {
    match changes {
        Some(changes) => changes.next().await.is_some(),
        None => std::future::pending().await,
    }
}

/// Whether there is a change already.
async fn has_changed(changes: Option<&mut Watch>) -> bool {
    tokio::select! {
        biased;
        open = changed(changes) => open,
        () = std::future::ready(()) => false,
    }
}
