//! The web console: codes that let a browser in, and who is in.

use homeward_proto::v1;
use tonic::Status;

use crate::console::{ConsoleSession, Way};
use crate::grpc::admin::Service;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::SessionId;

impl Service {
    pub(super) async fn console_code(&self, by: &str) -> Result<v1::CreateConsoleCodeResponse, Status> {
        let issued = self.console.issue_code(by, self.clock.now()).await;
        let (code, expires_at) = issued.map_err(|error| status::console(&error))?;
        let url = self.issuer.address(&format!("/console/enter?code={code}"));
        Ok(v1::CreateConsoleCodeResponse { url, expire_time: Some(wire_time(expires_at)) })
    }

    /// Those that have not ended, and that would be let in now: what came through the federation rests on a session at the
    /// broker that is not over, on the home and on the trust edge.
    pub(super) async fn console_sessions(&self) -> Result<Vec<v1::ConsoleSession>, Status> {
        let (now, snapshot) = (self.clock.now(), self.registry.snapshot());
        let mut living = Vec::new();
        for (id, session) in self.console.all(now).await.map_err(|error| status::console(&error))? {
            let rests = match &session.way {
                Way::Code { .. } => true,
                Way::Federation { session, user, .. } => {
                    let found = self.users.sessions.get(session, now).await.map_err(|error| status::session(&error))?;
                    found.filter(|found| found.user == *user && found.has_browser()).is_some_and(|found| {
                        !self.users.sessions.is_over(&found, now)
                            && snapshot.makes_ops(&found.home, found.home_id, &found.identity)
                    })
                }
            };
            living.extend(rests.then(|| console_session(&id, &session)));
        }
        Ok(living)
    }

    pub(super) async fn end_console_session(&self, text: &str) -> Result<(), Status> {
        let unknown = || status::refused(Reason::ConsoleSessionUnknown);
        let id: SessionId = text.parse().map_err(|_| unknown())?;
        let ended = self.console.end(&id, "by order of ops").await.map_err(|error| status::console(&error))?;
        if ended { Ok(()) } else { Err(unknown()) }
    }
}

fn console_session(id: &SessionId, session: &ConsoleSession) -> v1::ConsoleSession {
    v1::ConsoleSession {
        id: id.to_string(),
        who: session.way.name(),
        begin_time: Some(wire_time(session.began_at)),
        use_time: Some(wire_time(session.used_at)),
        expire_time: Some(wire_time(session.expires_at())),
        actor: format!("console:{}", session.way.actor()),
    }
}
