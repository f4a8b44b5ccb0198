//! Who is signed in at the site.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, HeaderName, header};
use serde_json::Value;
use uuid::Uuid;

use super::cookie_of;

/// The cookie that has a session's id.
const COOKIE: &str = "site-session";

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// What the site shows of the user: its own account's particulars, or the claims of the ID token.
    pub user: Value,
    /// The ID token, if this was a login with Homeward.
    pub id_token: Option<String>,
}

impl Session {
    /// What the site calls the user.
    pub fn username(&self) -> &str {
        self.user["username"].as_str().unwrap_or_default()
    }

    /// Id of the site's own account.
    pub fn account(&self) -> Option<&str> {
        self.user["id"].as_str().filter(|_| self.id_token.is_none())
    }

    /// `sub` of the ID token.
    pub fn subject(&self) -> Option<&str> {
        self.user["sub"].as_str().filter(|_| self.id_token.is_some())
    }

    /// `sid` of the ID token.
    pub fn sid(&self) -> Option<&str> {
        self.user["sid"].as_str().filter(|_| self.id_token.is_some())
    }
}

/// All of them, by id.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// A new one, in the place of what this browser had; the answer sets its cookie.
    pub(super) fn begin(&self, browser: &HeaderMap, session: Session) -> [(HeaderName, String); 1] {
        drop(self.end(browser));
        let id = Uuid::new_v4().to_string();
        let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax");
        self.lock().insert(id, session);
        [(header::SET_COOKIE, cookie)]
    }

    /// This browser's.
    pub(super) fn of(&self, browser: &HeaderMap) -> Option<Session> {
        self.lock().get(&cookie_of(browser, COOKIE)?).cloned()
    }

    /// Ends this browser's.
    pub(super) fn end(&self, browser: &HeaderMap) -> Option<Session> {
        self.lock().remove(&cookie_of(browser, COOKIE)?)
    }

    /// Ends those that are like this; how many there were.
    pub(super) fn end_where(&self, ends: impl Fn(&Session) -> bool) -> usize {
        let mut sessions = self.lock();
        let before = sessions.len();
        sessions.retain(|_, session| !ends(session));
        before - sessions.len()
    }

    /// All of them, in no order.
    pub(super) fn list(&self) -> Vec<Session> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the browser forget its session.
pub(super) fn no_cookie() -> (HeaderName, String) {
    (header::SET_COOKIE, format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"))
}
