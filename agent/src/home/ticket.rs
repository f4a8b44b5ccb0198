//! Tickets, and the broker's side of a login: open one, use it up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::complete_ticket_request::Outcome;
use homeward_proto::v1::login_service_client::LoginServiceClient;
use homeward_proto::v1::{CompleteTicketRequest, OpenTicketRequest, OpenTicketResponse};
use homeward_telemetry::traces::{self, TRACEPARENT};
use tonic::{Code, Request, Response, Status};
use tracing::Span;
use url::Url;

use super::PortalError;
use crate::connection::Broker;
use crate::refusal;
use crate::telemetry::Telemetry;

/// Longest ticket that is looked at, in characters. It carries the sealed login transaction, which holds an authorization
/// request of up to 4 KiB.
const LONGEST: usize = 7168;
/// A user is looking at the page.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// The one-time handle of a login, as the browser brought it. Not for logs: whoever has it and the browser's cookie has
/// the login.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket(String);

impl FromStr for Ticket {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        let legal = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        if legal { Ok(Self(text.to_owned())) } else { Err(PortalError::NoTicket) }
    }
}

impl Ticket {
    /// As the browser brought it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// The broker, as far as tickets go.
#[derive(Debug)]
pub(crate) struct Tickets {
    broker: Arc<Broker>,
    telemetry: Option<Telemetry>,
}

impl Tickets {
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, telemetry: None }
    }

    /// The same, where it is counted how logins end.
    pub(super) fn counted(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Some(telemetry), ..self }
    }

    /// Somebody has tried too often.
    pub(super) fn too_many_tries(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.too_many_tries();
        }
    }

    /// What is asked of this login.
    pub(super) async fn open(&self, ticket: &Ticket) -> Result<OpenTicketResponse, PortalError> {
        let request = || OpenTicketRequest { ticket: ticket.0.clone() };
        let mut client = self.client()?;
        match call(client.open_ticket(request())).await {
            // A connection that broke while nobody used it shows only now; reading a ticket twice harms nothing.
            Err(PortalError::BrokerUnavailable(_)) => call(client.open_ticket(request())).await,
            answered => answered,
        }
    }

    /// Uses it up; the answer is where the browser goes.
    pub(super) async fn complete(&self, ticket: &Ticket, outcome: Outcome) -> Result<String, PortalError> {
        let request = CompleteTicketRequest { ticket: ticket.0.clone(), outcome: Some(outcome.clone()) };
        let mut request = Request::new(request);
        if let Some(within) = traces::traceparent(&Span::current()).and_then(|parent| parent.parse().ok()) {
            request.metadata_mut().insert(TRACEPARENT, within);
        }
        let answer = call(self.client()?.complete_ticket(request)).await?;
        if let Some(telemetry) = &self.telemetry {
            telemetry.login(&outcome);
        }
        let address = Url::parse(&answer.return_url).ok();
        let address = address.filter(|url| url.has_host() && matches!(url.scheme(), "https" | "http"));
        address.map(String::from).ok_or(PortalError::NoReturnAddress)
    }

    fn client(&self) -> Result<LoginServiceClient<tonic::transport::Channel>, PortalError> {
        let channel = self.broker.shared().map_err(|error| PortalError::BrokerUnavailable(error.to_string()))?;
        Ok(LoginServiceClient::new(channel))
    }
}

async fn call<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, PortalError> {
    let timed_out = |_| PortalError::BrokerUnavailable("no answer in time".to_owned());
    let answered = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(timed_out)?;
    answered.map(Response::into_inner).map_err(|status| judge(&status))
}

fn judge(status: &Status) -> PortalError {
    if refusal::reason(status) == "IDENTITY_REFUSED" {
        return PortalError::IdentityRefused(status.message().to_owned());
    }
    match status.code() {
        code @ (Code::NotFound
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated) => PortalError::TicketRefused { code, reason: refusal::reason(status) },
        code => {
            // tonic hides why it could not connect in the sources of the status.
            let mut why = format!("{code:?}: {}", status.message());
            let mut source = std::error::Error::source(status);
            while let Some(error) = source {
                why = format!("{why}: {error}");
                source = error.source();
            }
            PortalError::BrokerUnavailable(why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_text_is_a_ticket() {
        assert_eq!("Abc-1_.~".parse::<Ticket>().unwrap().as_str(), "Abc-1_.~");
        for bad in ["", "a b", "a&b", "a\r\nb", "a%20b", "ü", &"a".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Ticket>().is_err(), "{bad:?}");
        }
        assert!(!format!("{:?}", "canary".parse::<Ticket>().unwrap()).contains("canary"));
    }
}
