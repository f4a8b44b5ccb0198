//! `homeward-agent report`: for the application's own hooks and for cron: one of its users has logged out, or may not log
//! in any more. The broker ends what this home vouched for. Works beside an agent that runs, and without one.

use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use homeward_proto::v1::UserEvent;
use serde_json::json;
use tonic::Status;

use super::{Failure, Report as Printer, load};
use crate::RunError;
use crate::connection::Broker;
use crate::disk::PrivateDir;
use crate::home::report;
use crate::identity::Identity;
use crate::refusal;

/// Reports one user.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The application's own identifier of the user, as the recipe's home_user_id finds it.
    #[arg(long, value_name = "ID")]
    home_user_id: String,
    /// What happened.
    #[arg(long, value_enum)]
    event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Event {
    /// Logged out here: the user's sessions elsewhere end.
    LoggedOut,
    /// Disabled here: tokens that outlive a logout end too.
    Disabled,
    /// Deleted here: as disabled, and whoever gets this identifier next is somebody else.
    Removed,
}

/// Why the broker did not hear of it.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("--home-user-id must have 1 to 255 bytes")]
    NoUser,
    #[error("the broker did not take the report ({code:?}: {message}){}", hint(.0), code = .0.code(), message = .0.message())]
    Refused(#[source] Box<Status>),
}

/// What is refused for good is refused again.
fn hint(status: &Status) -> &'static str {
    if refusal::is_temporary(status) { "; repeat it, nothing is done twice" } else { "" }
}

impl Report {
    pub(super) async fn carry_out(self, config: &Path, printer: Printer) -> Result<(), Failure> {
        let config = load(config)?;
        if !(1..=255).contains(&self.home_user_id.len()) {
            return Err(Failure::refused(ReportError::NoUser));
        }
        let data = PrivateDir::open(&config.data_dir).map_err(Failure::refused)?;
        let identity = Identity::load(data).map_err(Failure::refused)?.ok_or(RunError::NotEnrolled)?;
        let broker = Broker::new(Arc::new(identity)).map_err(Failure::refused)?;
        let channel = broker.connect().await.map_err(Failure::refused)?;
        let event = match self.event {
            Event::LoggedOut => UserEvent::LoggedOut,
            Event::Disabled => UserEvent::Disabled,
            Event::Removed => UserEvent::Removed,
        };
        let ended = report::report(channel, &self.home_user_id, event).await;
        let sessions = ended.map_err(|status| Failure::refused(ReportError::Refused(Box::new(status))))?;
        printer.one(&[("home_user_id", json!(self.home_user_id)), ("sessions_ended", json!(sessions))]);
        Ok(())
    }
}
