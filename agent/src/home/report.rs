//! Tells the broker that a user logged out here, or may not log in any more.

use std::time::Duration;

use homeward_proto::v1::login_service_client::LoginServiceClient;
use homeward_proto::v1::{ReportUserRequest, UserEvent};
use thiserror::Error;
use tonic::Status;
use tonic::transport::Channel;

use crate::connection::DialError;

/// The broker ends what there is in one commit.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Why the broker has not heard it.
#[derive(Debug, Error)]
pub(super) enum ReportError {
    /// Nobody there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Not taken.
    #[error("the broker did not take it ({code:?}: {message})", code = .0.code(), message = .0.message())]
    Refused(#[from] Box<Status>),
}

/// Reports; how many sessions ended at the broker. Safe to repeat.
pub(crate) async fn report(channel: Channel, home_user_id: &str, event: UserEvent) -> Result<u32, Status> {
    let request = ReportUserRequest { home_user_id: home_user_id.to_owned(), event: event.into() };
    let call = async { LoginServiceClient::new(channel).report_user(request).await };
    let answer = tokio::time::timeout(TIMEOUT, call).await.map_err(|_| Status::deadline_exceeded("no answer"))?;
    Ok(answer?.into_inner().sessions_ended)
}
