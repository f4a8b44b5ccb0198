//! Sessions and logouts: what ops see and end, as the contract writes it.

use homeward_certs::identity::InstanceName;
use homeward_proto::v1;
use homeward_proto::v1::end_sessions_request::Which;
use tonic::Status;

use crate::audit::{Event, Kind, LoginCount, LoginCounts};
use crate::grpc::admin::Service;
use crate::grpc::admin::page::{MAX_PAGE, page, page_size};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::{SessionId, UserId};
use crate::sessions::{LogoutId, LogoutIdError, LogoutState, Message, Session, StoredLogout, TellHome};

/// A user as ops write him: user@home. The home is what follows the last `@`, for user names are often addresses.
fn user(text: &str) -> Result<(&str, InstanceName), Status> {
    let parts = text.rsplit_once('@').and_then(|(user, home)| Some((user, home.parse().ok()?)));
    parts.ok_or_else(|| status::refused(Reason::FieldInvalid("user")))
}

impl Service {
    /// A page of sessions that somebody can sign on with: of one user, or of all.
    pub(super) async fn sessions(&self, request: v1::ListSessionsRequest) -> Result<v1::ListSessionsResponse, Status> {
        let (sessions, now) = (&self.users.sessions, self.clock.now());
        let failed = |error| status::session(&error);
        if !request.user.is_empty() {
            let found = sessions.of_user(&self.user_named(&request.user).await?).await.map_err(failed)?;
            let found = found.iter().filter(|(_, session)| !sessions.is_over(session, now));
            let all = found.map(|(id, session)| (id.to_string(), wire_session(id, session))).collect();
            let (sessions, next_page_token) = page(all, request.page_size, &request.page_token);
            return Ok(v1::ListSessionsResponse { sessions, next_page_token });
        }
        let (size, after) = (page_size(request.page_size), request.page_token.parse().ok());
        let found = sessions.page(after.as_ref(), size).await.map_err(failed)?;
        let next_page_token = next(&found, size);
        let found = found.iter().filter(|(_, session)| !sessions.is_over(session, now));
        let sessions = found.map(|(id, session)| wire_session(id, session)).collect();
        Ok(v1::ListSessionsResponse { sessions, next_page_token })
    }

    /// Ends one session, or all that a user has and what would have outlived them.
    pub(super) async fn end(&self, which: Which) -> Result<v1::EndSessionsResponse, Status> {
        let (ended, grants_ended) = match which {
            Which::User(text) => {
                let user = self.user_named(&text).await?;
                let ended = self.users.log_out(&user, TellHome::Yes).await?;
                (ended, self.users.end_grants(&user).await?)
            }
            Which::SessionId(text) => {
                let id: SessionId = text.parse().map_err(|_| status::refused(Reason::FieldInvalid("session_id")))?;
                let (snapshot, now) = (self.registry.snapshot(), self.clock.now());
                let ended = self.users.sessions.end(&[id], TellHome::No, &snapshot, now).await;
                let ended = ended.map_err(|error| status::session(&error))?;
                if ended.sessions.is_empty() {
                    return Err(status::refused(Reason::SessionUnknown));
                }
                (ended, 0)
            }
        };
        Ok(v1::EndSessionsResponse {
            sessions_ended: u32::try_from(ended.sessions.len()).unwrap_or(u32::MAX),
            grants_ended,
            logouts: ended.logouts.iter().map(|(id, one)| logout(id, one)).collect(),
        })
    }

    /// A page of logouts, the newest first. With a filter a page may be short, and the last one is the one without token.
    pub(super) async fn logouts(&self, request: v1::ListLogoutsRequest) -> Result<v1::ListLogoutsResponse, Status> {
        let outbox = self.users.sessions.outbox();
        if !request.ids.is_empty() {
            let mut logouts = Vec::new();
            for id in request.ids.iter().take(MAX_PAGE) {
                let id = logout_id(id)?;
                let found = outbox.get(&id).await.map_err(|error| status::store(&error))?;
                logouts.extend(found.map(|found| logout(&id, &found)));
            }
            return Ok(v1::ListLogoutsResponse { logouts, next_page_token: String::new() });
        }
        let (size, after) = (page_size(request.page_size), request.page_token.parse().ok());
        let found = outbox.page(after.as_ref(), size).await.map_err(|error| status::store(&error))?;
        let next_page_token = next(&found, size);
        let wanted = found.iter().filter(|(_, one)| !request.dead || one.state == LogoutState::Dead);
        let logouts = wanted.map(|(id, one)| logout(id, one)).collect();
        Ok(v1::ListLogoutsResponse { logouts, next_page_token })
    }

    /// Tries a logout that was given up once more.
    pub(super) async fn retry(&self, text: &str) -> Result<v1::Logout, Status> {
        let id = logout_id(text)?;
        let again = self.users.sessions.outbox().retry(&id, self.clock.now()).await;
        let again = again.map_err(|error| status::outbox(&error))?;
        self.audit.note(Event::new(Kind::LogoutRetried).object(id.as_str()).instance(&again.target));
        Ok(logout(&id, &again))
    }

    /// Two days of logins and failures, at all brokers.
    pub(super) async fn login_counts(&self) -> Result<v1::GetLoginCountsResponse, Status> {
        let now = self.clock.now();
        let counts = self.audit.login_counts(&self.store, now).await.map_err(|error| status::store(&error))?;
        let wire =
            |LoginCount { at, logins, failures }| v1::LoginCount { begin_time: Some(wire_time(at)), logins, failures };
        Ok(v1::GetLoginCountsResponse {
            counts: counts.up_to(now).into_iter().map(wire).collect(),
            period: prost_types::Duration::try_from(LoginCounts::PERIOD).ok(),
        })
    }

    async fn user_named(&self, text: &str) -> Result<UserId, Status> {
        let (username, home) = user(text)?;
        let found = self.users.sessions.user_named(&home, username).await.map_err(|error| status::session(&error))?;
        found.ok_or_else(|| status::refused(Reason::UserUnknown))
    }
}

/// The token of the page behind this one: of a full page, what it ended with.
fn next<I: ToString, T>(found: &[(I, T)], size: usize) -> String {
    let last = found.last().filter(|_| found.len() == size);
    last.map(|(id, _)| id.to_string()).unwrap_or_default()
}

/// A session.
fn wire_session(id: &SessionId, session: &Session) -> v1::Session {
    let mut relying_parties: Vec<String> =
        session.opened.values().map(|opened| opened.relying_party.to_string()).collect();
    relying_parties.sort();
    relying_parties.dedup();
    v1::Session {
        id: id.to_string(),
        user: format!("{}@{}", session.identity.username, session.home),
        home: session.home.to_string(),
        begin_time: Some(wire_time(session.began_at)),
        last_login_time: Some(wire_time(session.last_login_at)),
        expire_time: Some(wire_time(session.expires_at)),
        relying_parties,
    }
}

/// A logout on its way.
fn logout(id: &LogoutId, logout: &StoredLogout) -> v1::Logout {
    let channel = match &logout.message {
        Message::Back(_) => v1::LogoutChannel::Back,
        Message::Agent(_) => v1::LogoutChannel::Agent,
        Message::Home { .. } => v1::LogoutChannel::Home,
    };
    let state = match logout.state {
        LogoutState::Pending => v1::LogoutState::Pending,
        LogoutState::Confirmed => v1::LogoutState::Confirmed,
        LogoutState::Dead => v1::LogoutState::Dead,
        LogoutState::NotSupported => v1::LogoutState::NotSupported,
    };
    v1::Logout {
        id: id.to_string(),
        target: logout.target.to_string(),
        user: logout.user_name.clone(),
        channel: channel.into(),
        state: state.into(),
        attempts: logout.attempts,
        detail: logout.detail.clone(),
        create_time: Some(wire_time(logout.created_at)),
        state_time: Some(wire_time(logout.state_at)),
    }
}

/// An id in a request.
fn logout_id(text: &str) -> Result<LogoutId, Status> {
    text.parse().map_err(|error: LogoutIdError| status::invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_what_stands_before_the_last_at() {
        let (user_name, home) = user("alice@mail.example@alpha").unwrap();
        assert_eq!((user_name, home.as_str()), ("alice@mail.example", "alpha"));
        for text in ["alice", "alice@", "alice@Alpha", ""] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
