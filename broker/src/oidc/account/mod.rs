//! `/account`: where the user is signed in, what that opened, and the end of it.
//!
//! GET shows, POST does one thing and sends the browser back to look (303), so that nothing is done twice. Whoever ends
//! the session of this very browser gets the page of who has left.
//!
//! What an application was told is shown by name, as it was noted in the session when it happened: what an edge would release
//! today says nothing of that.
//!
//! A user with accounts at two homes can say that they are one person's (`linking.rs`). A subject is made of one home's id of
//! a user, so that nobody but that home can speak for it: a link lets another home speak for it too. So it goes one way,
//! from a user who has shown that both accounts are his, and counts only at relying parties whose ops have allowed it for
//! that other home; everywhere else he stays two.

pub(super) mod linking;
mod links;
mod permissions;
mod unlinking;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use tracing::info;

use crate::clock::Timestamp;
use crate::oidc::authorization::choice::host;
use crate::oidc::authorization::released;
use crate::oidc::error::BrowserError;
use crate::oidc::logout::Departure;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::{Client, LinkId, SessionId, Snapshot};
use crate::sessions::{Ended, LogoutId, LogoutState, Message, Opened, Session, StoredLogout, TellHome};
pub use unlinking::finish_unlinking;

use crate::web::{AccountPage, ApplicationRow, FormToken, SessionRow, StrangerPage, ToldRow, Visitor, ago, ahead};

/// Logouts whose state is shown, at the most: their ids stand in the address.
const MAX_TOLD: usize = 40;

/// GET: shows.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let told = parameters.get("told").ok().flatten().unwrap_or_default();
    let told = told.split('.').filter_map(|id| id.parse().ok()).take(MAX_TOLD).collect();
    provider.show_account(&Visitor::of(&headers), told, provider.clock.now()).await
}

/// POST: does one thing.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    provider.change_account(&parameters, &Visitor::of(&headers), provider.clock.now()).await
}

/// What the user wants to end.
enum Wish {
    /// One session.
    Session(SessionId),
    /// All but this browser's.
    Others,
    /// All, and those at home.
    Everywhere,
    /// What an application was allowed.
    Permission(String),
    /// A link to another home.
    Link(LinkId),
}

impl Wish {
    fn read(parameters: &Parameters) -> Result<Self, CallbackError> {
        let field = |name| parameters.get(name).map_err(|_| CallbackError::Parameters);
        match (field("session")?, field("end")?, field("withdraw")?, field("unlink")?) {
            (Some(id), None, None, None) => Ok(Self::Session(id.parse().map_err(|_| CallbackError::Parameters)?)),
            (None, Some("others"), None, None) => Ok(Self::Others),
            (None, Some("everywhere"), None, None) => Ok(Self::Everywhere),
            (None, None, Some(client), None) => Ok(Self::Permission(client.to_owned())),
            (None, None, None, Some(id)) => Ok(Self::Link(id.parse().map_err(|_| CallbackError::Parameters)?)),
            _ => Err(CallbackError::Parameters),
        }
    }
}

impl Provider {
    async fn show_account(
        &self,
        visitor: &Visitor,
        told: Vec<LogoutId>,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let Some((own, token)) = self.signed_in(visitor, now).await? else {
            return Ok(StrangerPage {}.into_response());
        };
        let snapshot = self.registry.snapshot();
        let mut sessions = self.sessions.of_user(&own.session.user).await?;
        sessions.retain(|(_, session)| !self.sessions.is_over(session, now));
        // This browser first, then the one that was used last.
        sessions.sort_by_key(|(id, session)| (*id != own.id, std::cmp::Reverse(session.last_login_at)));
        let rows = sessions.iter().map(|(id, session)| session_row((id, session), &own.id, &snapshot, now));
        let mut logouts = Vec::new();
        for id in &told {
            let logout = self.sessions.outbox().get(id).await?;
            // Whoever writes an id into the address learns of his own logouts only.
            logouts.extend(logout.filter(|logout| logout.user == own.session.user));
        }
        let home = snapshot.home(&own.session.home);
        let page = AccountPage {
            name: own.session.identity.name.clone(),
            username: own.session.identity.username.clone(),
            home: home.map_or_else(|| own.session.home.to_string(), |home| home.display_name.to_owned()),
            home_is_told: self.registry.snapshot().upstream(&own.session.home).is_none(),
            home_host: home.map(|home| host(&home.public_url())).unwrap_or_default(),
            action: path::ACCOUNT,
            form_token: token.as_str().to_owned(),
            sessions: rows.collect(),
            linked: self.linked_homes(&own.session, &snapshot, now).await?,
            permissions: self.permissions(&own.session.user, &snapshot, now).await?,
            told: logouts.iter().map(|logout| told_row(logout, &snapshot)).collect(),
        };
        Ok(page.into_response())
    }

    async fn change_account(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let Some((own, token)) = self.signed_in(visitor, now).await? else {
            return Ok(StrangerPage {}.into_response());
        };
        self.check_form(&token, parameters)?;
        if let Some(other) = parameters.get("link").map_err(|_| CallbackError::Parameters)? {
            return self.begin_link(&own, other, visitor, now).await;
        }
        let wish = Wish::read(parameters)?;
        let snapshot = self.registry.snapshot();
        let sessions = self.sessions.of_user(&own.session.user).await?.into_iter().map(|(id, _)| id);
        // Of this user, whatever the form says.
        let (ids, tell_home): (Vec<SessionId>, _) = match wish {
            Wish::Session(wanted) => (sessions.filter(|id| *id == wanted).collect(), TellHome::No),
            Wish::Others => (sessions.filter(|id| *id != own.id).collect(), TellHome::No),
            Wish::Everywhere => (sessions.collect(), TellHome::Yes),
            Wish::Link(wanted) => {
                let links = self.registry.links.of_user(&own.session.user).await?.into_iter();
                let mut ended = Ended::default();
                for link in links.filter(|link| link.id == wanted) {
                    info!(session = %own.id, link = %link.id, "a user unlinks homes");
                    ended = self.unlink(&link, &snapshot, now).await?;
                }
                return Ok(self.answer_of_end(&ended, &own.id, &snapshot));
            }
            Wish::Permission(client) => {
                info!(session = %own.id, client, "a user takes back what an application was allowed");
                self.withdraw(&own.session.user, &client).await?;
                return Ok((StatusCode::SEE_OTHER, [(LOCATION, path::ACCOUNT)]).into_response());
            }
        };
        info!(session = %own.id, ends = ids.len(), ?tell_home, "a user ends sessions");
        let ended = self.sessions.end(&ids, tell_home, &snapshot, now).await?;
        Ok(self.answer_of_end(&ended, &own.id, &snapshot))
    }

    /// Back to look at who is told; whose own session was among those that ended gets the page of who has left.
    fn answer_of_end(&self, ended: &Ended, own: &SessionId, snapshot: &Snapshot) -> Response {
        if ended.sessions.iter().any(|(id, _)| id == own) {
            return Departure::of(ended, snapshot, &self.issuer).into_response();
        }
        let told: Vec<&str> = ended.logouts.iter().take(MAX_TOLD).map(|(id, _)| id.as_str()).collect();
        let to = match told.join(".") {
            none if none.is_empty() => path::ACCOUNT.to_owned(),
            told => format!("{}?told={told}", path::ACCOUNT),
        };
        (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
    }

    /// A form that is not of this session is somebody else's (S3).
    pub(super) fn check_form(&self, token: &FormToken, parameters: &Parameters) -> Result<(), BrowserError> {
        let sent = parameters.get("form_token").ok().flatten().unwrap_or_default();
        if token.matches(sent) { Ok(()) } else { Err(BrowserError::ForeignForm) }
    }
}

fn session_row(
    (id, session): (&SessionId, &Session),
    own: &SessionId,
    snapshot: &Snapshot,
    now: Timestamp,
) -> SessionRow {
    let applications = session.opened.iter().map(|(client_id, opened)| {
        let client = Client::told(snapshot, &opened.relying_party, client_id);
        ApplicationRow {
            name: client.map_or_else(|| opened.relying_party.to_string(), |client| client.display_name.to_owned()),
            host: client.map(|client| host(client.public_url)).unwrap_or_default(),
            since: ago(now, opened.since),
            learned: learned(opened),
        }
    });
    SessionRow {
        id: id.to_string(),
        own: id == own,
        began: ago(now, session.began_at),
        used: ago(now, session.last_login_at),
        ends: ahead(now, session.expires_at),
        applications: applications.collect(),
    }
}

/// What an application was told of the user, in words; nothing if nobody has written it down.
fn learned(opened: &Opened) -> Option<String> {
    let labels = released::labels(opened.released.as_ref()?);
    Some(match labels.is_empty() {
        true => "that you are the same person each time".to_owned(),
        false => format!("your {}", labels.join(", ").to_lowercase()),
    })
}

fn told_row(logout: &StoredLogout, snapshot: &Snapshot) -> ToldRow {
    let name = match &logout.message {
        Message::Back(entered) | Message::Agent(entered) => {
            let client = Client::told(snapshot, &logout.target, &entered.client_id);
            client.map(|client| client.display_name.to_owned())
        }
        Message::Home { .. } => snapshot.instance(&logout.target).map(|home| home.display_name.clone()),
    };
    let state = match logout.state {
        LogoutState::Pending => "is being told",
        LogoutState::Confirmed => "has ended your session",
        LogoutState::Dead => "could not be reached: sign out there yourself",
        LogoutState::NotSupported => "cannot be told: sign out there yourself",
    };
    ToldRow { name: name.unwrap_or_else(|| logout.target.to_string()), state }
}
