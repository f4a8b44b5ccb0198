//! `homeward.v1.LoginService`.

use homeward_proto::v1;
use homeward_proto::v1::complete_ticket_request::Outcome as Said;
use homeward_proto::v1::login_service_server::LoginService;
use homeward_telemetry::traces::{self, TRACEPARENT};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::grpc::enrolment::caller;
use crate::grpc::status::{self, Reason};
use crate::grpc::users::Users;
use crate::grpc::{Services, wire_time};
use crate::login::{Login, LoginFailure, Outcome};
use crate::registry::{AssertedIdentity, Departure};

/// Longest identifier of a user, in bytes.
const MAX_HOME_USER_ID: usize = 255;

/// The service.
pub(super) struct Service {
    login: Login,
    users: Users,
    clock: Clock,
}

impl Service {
    pub(super) fn new(services: &Services) -> Self {
        Self { login: services.login.clone(), users: Users::new(services), clock: services.clock.clone() }
    }
}

#[tonic::async_trait]
impl LoginService for Service {
    async fn open_ticket(
        &self,
        request: Request<v1::OpenTicketRequest>,
    ) -> Result<Response<v1::OpenTicketResponse>, Status> {
        let home = caller(&request)?.0;
        let opened = self.login.open_ticket(&home, &request.into_inner().ticket, self.clock.now());
        let opened = opened.map_err(|error| {
            warn!(%home, %error, "ticket refused");
            status::login(&error)
        })?;
        let _step = traces::step("the home opens the ticket", opened.transaction).entered();
        info!(transaction = %opened.transaction, %home, relying_party = %opened.relying_party, "ticket opened");
        Ok(Response::new(v1::OpenTicketResponse {
            relying_party: opened.relying_party.to_string(),
            relying_party_display_name: opened.relying_party_display_name,
            min_auth_time: opened.min_auth_time.map(wire_time),
            silent: opened.silent,
            login_hint: opened.login_hint.unwrap_or_default(),
            expire_time: Some(wire_time(opened.expires_at)),
            acr_values: opened.acr_values,
            ui_locales: opened.ui_locales.unwrap_or_default(),
            transaction: opened.transaction.to_string(),
        }))
    }

    async fn complete_ticket(
        &self,
        request: Request<v1::CompleteTicketRequest>,
    ) -> Result<Response<v1::CompleteTicketResponse>, Status> {
        let caller = caller(&request)?;
        let home = (&caller.0, caller.1.id);
        let now = self.clock.now();
        // The home says within which of its spans it calls; which login that is of, its ticket says.
        let within = request.metadata().get(TRACEPARENT).and_then(|parent| parent.to_str().ok());
        let transaction = || self.login.transaction_of(&caller.0, &request.get_ref().ticket, now).ok();
        let step = traces::continued("the home completes the ticket", within, transaction);
        let request = request.into_inner();
        let outcome = match request.outcome.ok_or_else(|| status::refused(Reason::FieldInvalid("outcome")))? {
            Said::Identity(identity) => Outcome::Identity(asserted(identity)),
            Said::Failure(failure) => Outcome::Failure(reason(failure)?),
        };
        let completed = self.login.complete_ticket(home, &request.ticket, outcome, now);
        let completed = traces::during(step, completed).await;
        let return_url = completed.map_err(|error| {
            warn!(home = %home.0, %error, "ticket refused");
            status::login(&error)
        })?;
        Ok(Response::new(v1::CompleteTicketResponse { return_url }))
    }

    async fn report_user(
        &self,
        request: Request<v1::ReportUserRequest>,
    ) -> Result<Response<v1::ReportUserResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        if !is_home_user_id(&request.home_user_id) {
            return Err(status::refused(Reason::FieldInvalid("home_user_id")));
        }
        let departure = match request.event() {
            v1::UserEvent::Unspecified => return Err(status::refused(Reason::FieldInvalid("event"))),
            v1::UserEvent::LoggedOut => None,
            v1::UserEvent::Disabled => Some(Departure::Disabled),
            v1::UserEvent::Removed => Some(Departure::Removed),
        };
        // The id is made of the caller's own: a home ends nobody's sessions but those of its own users.
        let ended = self.users.leave_home(caller.1.id, &request.home_user_id, departure).await?;
        let sessions_ended = u32::try_from(ended.sessions.len()).unwrap_or(u32::MAX);
        info!(home = %caller.0, event = request.event().as_str_name(), sessions_ended, "a home reported one of its users");
        Ok(Response::new(v1::ReportUserResponse { sessions_ended }))
    }
}

/// What an agent says of a user, unchecked.
pub(super) fn asserted(identity: v1::VerifiedIdentity) -> AssertedIdentity {
    AssertedIdentity {
        home_user_id: identity.home_user_id,
        username: identity.username,
        name: identity.name,
        given_name: identity.given_name,
        family_name: identity.family_name,
        email: identity.email,
        email_verified: identity.email_verified,
        groups: identity.groups,
        auth_time: identity.auth_time.map(|time| Timestamp::from_secs(time.seconds)),
        amr: identity.amr,
        acr: Some(identity.acr).filter(|acr| !acr.is_empty()),
        attributes: identity.attributes.into_iter().collect(),
        name_is_held: false,
    }
}

/// A control character stands between an id and the number of its incarnation: no home names another one by it.
fn is_home_user_id(text: &str) -> bool {
    (1..=MAX_HOME_USER_ID).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn reason(failure: i32) -> Result<LoginFailure, Status> {
    match v1::LoginFailure::try_from(failure) {
        Ok(v1::LoginFailure::LoginRequired) => Ok(LoginFailure::LoginRequired),
        Ok(v1::LoginFailure::Cancelled) => Ok(LoginFailure::Cancelled),
        Ok(v1::LoginFailure::Denied) => Ok(LoginFailure::Denied),
        Ok(v1::LoginFailure::Unavailable) => Ok(LoginFailure::Unavailable),
        Ok(v1::LoginFailure::Unspecified) | Err(_) => Err(status::refused(Reason::FieldInvalid("outcome"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_home_names_an_incarnation() {
        assert!(is_home_user_id("7") && is_home_user_id("uid=ä,ou=x"));
        for bad in ["", "7\u{1f}1", "7\0", &"x".repeat(256)] {
            assert!(!is_home_user_id(bad), "{bad:?}");
        }
    }
}
