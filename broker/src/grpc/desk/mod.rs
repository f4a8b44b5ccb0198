//! The web console's side of the Admin service: what its pages show and do, by the very methods that the command line
//! calls, behind the same gate and noted in the same way. What comes from the contract is turned into words here.

/// All pages of a list, for [`Seat`]. (No function: what an async closure borrows is not `Send` for every lifetime, and
/// handlers have to be.)
macro_rules! all_pages {
    ($seat:ident, $method:ident, $request:ident, $entries:ident) => {{
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = $seat.ask(v1::$request { page_size: 0, page_token });
            let page = $seat.client.clone().$method(request).await.map_err(|status| refusal(&status))?.into_inner();
            all.extend(page.$entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break all;
            }
        }
    }};
}

mod agentless;
mod audit;
mod instances;
mod overview;
mod pictures;
mod sealing;
mod sessions;
mod trust;
mod turning;

use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use homeward_proto::v1::admin_service_server::AdminServiceServer;
use homeward_proto::v1::end_sessions_request::Which;
use tonic::{Code, Request, Status};

use crate::clock::{Clock, Timestamp};
use crate::grpc::authorization::{Authorization, ConsoleUser};
use crate::grpc::{Services, admin, console_client};
use crate::web::console::{Deed, Fault, Fresh, Moment, Refusal};

/// The Admin service, in the same process.
pub(super) type Client = AdminServiceClient<Authorization<AdminServiceServer<admin::Service>>>;

/// Where ops sit down who are signed in to the web console.
#[derive(Clone)]
pub struct Desk {
    client: Client,
    clock: Clock,
}

/// One of ops, at the desk.
pub struct Seat {
    client: Client,
    who: ConsoleUser,
    now: Timestamp,
}

impl Desk {
    /// On these services.
    pub fn new(services: &Services) -> Self {
        Self { client: console_client(services), clock: services.clock.clone() }
    }

    /// For whoever was found to be one of ops: `who` is as the audit names him.
    pub fn seat(&self, who: &str) -> Seat {
        Seat { client: self.client.clone(), who: ConsoleUser(who.to_owned()), now: self.clock.now() }
    }
}

impl Seat {
    /// Does something; gives the secret if one was made.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn carry_out(&self, deed: &Deed) -> Result<Option<Fresh>, Refusal> {
        match deed {
            Deed::CreateToken(order) => Ok(Some(Fresh::JoinToken(self.create_token(order).await?))),
            Deed::OpenRegistration(order) => Ok(Some(Fresh::Registration(self.open_registration(order).await?))),
            other => {
                self.change(other).await.map_err(|status| refusal(&status))?;
                Ok(None)
            }
        }
    }

    async fn change(&self, deed: &Deed) -> Result<(), Status> {
        let mut client = self.client.clone();
        match deed.clone() {
            Deed::CreateToken(_) | Deed::OpenRegistration(_) => {}
            Deed::RevokeToken { id } => {
                client.revoke_join_token(self.ask(v1::RevokeJoinTokenRequest { id })).await?;
            }
            Deed::Quarantine { name, reason } => {
                client.quarantine_instance(self.ask(v1::QuarantineInstanceRequest { name, reason })).await?;
            }
            Deed::Release { name } => {
                client.release_instance(self.ask(v1::ReleaseInstanceRequest { name })).await?;
            }
            Deed::Evict { name } => {
                client.evict_instance(self.ask(v1::EvictInstanceRequest { name })).await?;
            }
            Deed::Allow(order) => {
                let (trust_edge, side) = (Some(trust::wire_edge(&order)?), trust::wire_side(order.side).into());
                client.allow_trust(self.ask(v1::AllowTrustRequest { trust_edge, side })).await?;
            }
            Deed::Deny { relying_party, home, side } => {
                let side = trust::wire_side(side).into();
                client.deny_trust(self.ask(v1::DenyTrustRequest { relying_party, home, side })).await?;
            }
            Deed::Turn { subject, compromised } => {
                client.begin_rotation(self.ask(v1::BeginRotationRequest { subject, compromised })).await?;
            }
            Deed::RollBack { subject } => {
                client.roll_back_rotation(self.ask(v1::RollBackRotationRequest { subject })).await?;
            }
            Deed::Resume { subject, force } => {
                client.resume_rotation(self.ask(v1::ResumeRotationRequest { subject, force })).await?;
            }
            Deed::RemoveUpstream { name } => {
                client.remove_upstream(self.ask(v1::RemoveUpstreamRequest { name })).await?;
            }
            Deed::CloseRegistration { name } => {
                client.close_registration(self.ask(v1::CloseRegistrationRequest { relying_party: name })).await?;
            }
            Deed::EndSession { id } => {
                let which = Some(Which::SessionId(id));
                client.end_sessions(self.ask(v1::EndSessionsRequest { which })).await?;
            }
            Deed::EndUser { user } => {
                client.end_sessions(self.ask(v1::EndSessionsRequest { which: Some(Which::User(user)) })).await?;
            }
            Deed::EndConsoleSession { id } => {
                client.end_console_session(self.ask(v1::EndConsoleSessionRequest { id })).await?;
            }
        }
        Ok(())
    }

    /// A request that says who asks.
    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.who.clone());
        request
    }

    fn moment(&self, time: Option<&prost_types::Timestamp>) -> Option<Moment> {
        time.map(|time| Moment::of(Timestamp::from_secs(time.seconds), self.now))
    }
}

/// The broker's refusal, as the command line would say it.
fn refusal(status: &Status) -> Refusal {
    let fault = match status.code() {
        Code::NotFound => Fault::Unknown,
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Fault::Asker,
        _ => Fault::Broker,
    };
    Refusal { sentence: sentence(status.message()), fault }
}

/// As a page has it: with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// `JOIN_TOKEN_STATE_ISSUED` is `issued`.
fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}
