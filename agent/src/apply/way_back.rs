//! The way back while credentials are not yet proved. It is on the disk before anything is written, so that neither a crash
//! nor a write that was done by half loses what was there before; and whatever was not shown to be good is undone before
//! the next plan is made, which would else take what is half written for the old state.

use serde::{Deserialize, Serialize};

use super::render::Credentials;
use super::way::{Plan, Undo};
use super::{ApplyError, Role};

/// Where [`Pending`] is kept until it is proved: it has what was there before, secrets too.
pub(super) const WAY_BACK: &str = "way-back.json";

/// What is written and not yet proved. A broker that is away is no reason to reload the application again and again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub(super) secret_version: u64,
    pub(super) shown: Shown,
    /// The way back, if it is known.
    pub(super) undo: Option<Undo>,
}

/// Whether the application has read and shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shown {
    Yes,
    No,
}

impl Role {
    /// Writes what is planned: all of it, or none.
    pub(super) async fn write(&mut self, plan: Plan, credentials: &Credentials) -> Result<Option<Undo>, ApplyError> {
        if let Some(undo) = plan.undo() {
            let pending = Pending { secret_version: credentials.secret_version, shown: Shown::No, undo: Some(undo) };
            self.data.store(WAY_BACK, &pending)?;
            self.pending = Some(pending);
        }
        match self.way.put(&self.application, credentials, plan).await {
            Ok(undo) => {
                self.pending = None;
                Ok(undo)
            }
            Err(source) => {
                // At once if it can be, and else before the next try.
                if let Err(error) = self.go_back().await {
                    tracing::warn!(%error, "what was written by half cannot be undone yet");
                }
                Err(self.not_written(source))
            }
        }
    }

    /// Undoes what was written and not shown to be good.
    pub(super) async fn go_back(&mut self) -> Result<(), ApplyError> {
        let Some(Pending { shown: Shown::No, undo: Some(undo), .. }) = &self.pending else { return Ok(()) };
        match self.way.undo(&self.application, undo).await {
            Ok(()) => tracing::info!("what was written and never shown to be in use is undone"),
            Err(error) if error.is_final() => {
                tracing::warn!(%error, "what was written and never shown to be in use cannot be undone");
            }
            Err(source) => return Err(self.not_written(source)),
        }
        self.data.remove(WAY_BACK)?;
        self.pending = None;
        Ok(())
    }
}
