//! Who is signed in: at the broker, and here.

use homeward_proto::v1;

use crate::grpc::desk::{Seat, refusal};
use crate::web::console::{AtConsoleRow, Refusal, SessionsSheet, SignedIn, SignedInRow};

/// Sessions on one page.
const PAGE: i32 = 100;

impl Seat {
    /// A page of sessions, of one user or of all, and everybody who is at the console: also if there is no such user. `own` is
    /// the session that looks.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn sessions(&self, user: String, after: String, own: &str) -> Result<SessionsSheet, Refusal> {
        let users = self.users(user, after).await;
        let at_console = self.client.clone().list_console_sessions(self.ask(v1::ListConsoleSessionsRequest {})).await;
        let at_console = at_console.map_err(|status| refusal(&status))?.into_inner().console_sessions;
        let at_console = at_console.into_iter().map(|session| AtConsoleRow {
            own: session.id == own,
            began: self.moment(session.begin_time.as_ref()),
            used: self.moment(session.use_time.as_ref()),
            id: session.id,
            who: session.who,
            actor: session.actor,
        });
        Ok(SessionsSheet { users, at_console: at_console.collect() })
    }

    async fn users(&self, user: String, after: String) -> Result<SignedIn, Refusal> {
        let request = v1::ListSessionsRequest { user, page_size: PAGE, page_token: after };
        let listed = self.client.clone().list_sessions(self.ask(request)).await;
        let listed = listed.map_err(|status| refusal(&status))?.into_inner();
        let sessions = listed.sessions.into_iter().map(|session| SignedInRow {
            began: self.moment(session.begin_time.as_ref()),
            used: self.moment(session.last_login_time.as_ref()),
            entered: session.relying_parties.join(", "),
            id: session.id,
            user: session.user,
        });
        Ok(SignedIn { sessions: sessions.collect(), next: listed.next_page_token })
    }
}
