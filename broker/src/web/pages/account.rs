//! The account page: where a user is signed in.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::clock::Timestamp;
use crate::web::pages::{LinkedHomes, form_policy, render};
use crate::web::stylesheet;

/// Where a user is signed in.
#[derive(Template)]
#[template(path = "account.html")]
pub struct AccountPage {
    /// Full name, or nothing.
    pub name: String,
    /// Login name at the home.
    pub username: String,
    /// The home: the name people read.
    pub home: String,
    /// Whether it ends its own session when the user signs out everywhere.
    pub home_is_told: bool,
    /// Its host.
    pub home_host: String,
    /// Where the forms go.
    pub action: &'static str,
    /// Shows that a form is of this session.
    pub form_token: String,
    /// This browser's first.
    pub sessions: Vec<SessionRow>,
    /// What applications were allowed for longer.
    pub permissions: Vec<PermissionRow>,
    /// Which homes are linked, and which could be.
    pub linked: LinkedHomes,
    /// What becomes of logouts that were just ordered.
    pub told: Vec<ToldRow>,
}

/// One session.
pub struct SessionRow {
    /// Names it.
    pub id: String,
    /// Whether it is this browser's.
    pub own: bool,
    /// When it began, in words.
    pub began: String,
    /// When it was used last, in words.
    pub used: String,
    /// When it ends if nobody uses it, in words.
    pub ends: String,
    /// What was entered with it.
    pub applications: Vec<ApplicationRow>,
}

/// An application that was entered.
pub struct ApplicationRow {
    /// The name people read.
    pub name: String,
    /// Its host.
    pub host: String,
    /// When it was entered first, in words.
    pub since: String,
    /// What it was told of the user, in words; unset if nobody knows.
    pub learned: Option<String>,
}

/// What an application was allowed.
pub struct PermissionRow {
    /// Names it.
    pub client_id: String,
    /// The name people read.
    pub name: String,
    /// What it may know, in words; nothing if it may know no more than that it is the same user each time.
    pub may: String,
    /// When the user agreed to that, in words; nothing if nobody was asked.
    pub since: String,
    /// Whether it keeps access when nobody is signed in.
    pub lasting: bool,
}

/// An application that has to hear of a logout.
pub struct ToldRow {
    /// The name people read.
    pub name: String,
    /// How far that is, in words.
    pub state: &'static str,
}

impl IntoResponse for AccountPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        // A link begins with a login.
        form_policy(&mut response, "'self'", &self.linked.form_targets, None);
        response
    }
}

/// Nobody is signed in.
#[derive(Template)]
#[template(path = "stranger.html")]
pub struct StrangerPage {}

impl IntoResponse for StrangerPage {
    fn into_response(self) -> Response {
        render(&self)
    }
}

/// How long ago, as people say it.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    distance(now, then).map_or_else(|| "just now".to_owned(), |distance| format!("{distance} ago"))
}

/// In how long, as people say it.
pub fn ahead(now: Timestamp, then: Timestamp) -> String {
    distance(then, now).map_or_else(|| "in a moment".to_owned(), |distance| format!("in {distance}"))
}

/// Whole minutes, hours or days; nothing if it is less than one.
fn distance(later: Timestamp, earlier: Timestamp) -> Option<String> {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let secs = later.since(earlier).as_secs();
    let (length, unit) = UNITS.into_iter().find(|(length, _)| secs >= *length)?;
    Some(match secs / length {
        1 => format!("1 {unit}"),
        many => format!("{many} {unit}s"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = Timestamp::from_secs(1_800_000_000);
        for (secs, words) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (86_400, "1 day ago"),
            (864_000, "10 days ago"),
        ] {
            assert_eq!(ago(now, now - Duration::from_secs(secs)), words);
        }
        assert_eq!(ago(now, now + Duration::from_secs(5)), "just now");
        assert_eq!(ahead(now, now + Duration::from_secs(7200)), "in 2 hours");
        assert_eq!(ahead(now, now), "in a moment");
    }
}
