//! Who is signed in at the gate: sealed in a cookie, and good until it is idle for half a day, a day old, or ended. What it
//! says of the user is what the broker said at its beginning: the next login brings it up to date.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::GateError;
use crate::random;

/// Without a request.
const LONGEST_IDLE: Duration = Duration::hours(12);
/// Altogether: groups and names are to be a day old at most.
pub(super) const LONGEST: Duration = Duration::hours(24);
/// How old a cookie gets before a request renews it.
const RENEWED_AFTER: Duration = Duration::minutes(10);
/// Room for all texts in a cookie, in bytes: browsers keep 4096 of a cookie, and sealing makes a third more of it. One that is
/// too long would not be kept, and its user would log in again and again.
const ROOM: usize = 2600;
/// Longest text about a user, in bytes.
const LONGEST_TEXT: usize = 255;

/// A session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Names it among those that ended.
    pub(crate) id: String,
    /// `sub`.
    pub(crate) subject: String,
    /// `sid`; may be empty.
    pub(crate) broker_session: String,
    /// What the application calls the user.
    pub(crate) username: String,
    /// Full name; may be empty, like all below.
    pub(crate) name: String,
    /// Given name.
    pub(crate) given_name: String,
    /// Family name.
    pub(crate) family_name: String,
    /// Email address.
    pub(crate) email: String,
    /// Whether the user's home is an authority for that address.
    pub(crate) email_verified: bool,
    /// Groups, as the trust edge maps them.
    pub(crate) groups: Vec<String>,
    /// Seconds since 1970.
    pub(crate) began_at: i64,
    seen_at: i64,
}

impl Session {
    /// Of somebody about whom the broker says this.
    pub(super) fn new(subject: String, said: &Value, now: OffsetDateTime) -> Result<Self, GateError> {
        let text = |claim: &str| said.get(claim).and_then(Value::as_str).and_then(usable).unwrap_or_default();
        let username = text("preferred_username");
        if username.is_empty() {
            return Err(GateError::NoUsername);
        }
        let groups = said.get("groups").and_then(Value::as_array).into_iter().flatten();
        let groups: Vec<String> = groups.filter_map(Value::as_str).filter_map(usable).collect();
        let now = now.unix_timestamp();
        let mut session = Self {
            id: URL_SAFE_NO_PAD.encode(random::bytes::<16>()?),
            subject,
            broker_session: text("sid"),
            username,
            name: text("name"),
            given_name: text("given_name"),
            family_name: text("family_name"),
            email: text("email"),
            email_verified: said.get("email_verified").and_then(Value::as_bool) == Some(true),
            groups: Vec::new(),
            began_at: now,
            seen_at: now,
        };
        session.groups = fitting(groups, ROOM.saturating_sub(session.length()));
        Ok(session)
    }

    /// Of all texts but groups, in bytes.
    fn length(&self) -> usize {
        let texts = [&self.subject, &self.broker_session, &self.username, &self.name, &self.given_name];
        texts.into_iter().chain([&self.family_name, &self.email]).map(String::len).sum()
    }

    /// Whether it is good at this time, as far as time goes.
    pub(super) fn is_live(&self, now: OffsetDateTime) -> bool {
        let now = now.unix_timestamp();
        now < self.began_at.saturating_add(LONGEST.whole_seconds())
            && now < self.seen_at.saturating_add(LONGEST_IDLE.whole_seconds())
    }

    /// The session as somebody who is here now has it; `None` if the cookie is new enough.
    pub(super) fn renewed(&self, now: OffsetDateTime) -> Option<Self> {
        let now = now.unix_timestamp();
        let old = now.saturating_sub(self.seen_at) >= RENEWED_AFTER.whole_seconds();
        old.then(|| Self { seen_at: now, ..self.clone() })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    (fits && !text.is_empty()).then(|| text.to_owned())
}

/// As many groups as a cookie holds, in their order. One too few lets somebody into less; and the log says so.
fn fitting(mut groups: Vec<String>, mut room: usize) -> Vec<String> {
    let fit = groups.iter().take_while(|group| {
        let fits = group.len() + 3 <= room;
        room = room.saturating_sub(group.len() + 3);
        fits
    });
    let fit = fit.count();
    if fit < groups.len() {
        tracing::warn!(
            groups = groups.len(),
            fit,
            "a user has more groups than a cookie holds; map fewer in the trust edge"
        );
        groups.truncate(fit);
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::seal::Seal;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_session_ends_by_idleness_and_by_age() {
        let session = Session::new("s".to_owned(), &json!({"preferred_username": "alice@alpha"}), at(0)).unwrap();
        assert!(session.is_live(at(0)) && session.is_live(at(12 * 3600 - 1)) && !session.is_live(at(12 * 3600)));
        assert_eq!(session.renewed(at(599)), None);
        let renewed = session.renewed(at(11 * 3600)).unwrap();
        assert!(renewed.is_live(at(22 * 3600)) && !renewed.is_live(at(23 * 3600)));
        let again = renewed.renewed(at(22 * 3600)).unwrap();
        assert!(again.is_live(at(24 * 3600 - 1)) && !again.is_live(at(24 * 3600)));
    }

    #[test]
    fn the_largest_session_fits_into_a_cookie() {
        let long = "x".repeat(LONGEST_TEXT);
        let groups: Vec<String> = (0..128).map(|number| format!("{number}{}", "g".repeat(100))).collect();
        let said = json!({"preferred_username": "x".repeat(150), "name": long, "sid": "s".repeat(43), "groups": groups,
                          "given_name": "g".repeat(60), "family_name": "f".repeat(60), "email": "e".repeat(100)});
        let session = Session::new("s".repeat(64), &said, at(0)).unwrap();
        assert!((10..128).contains(&session.groups.len()));
        let sealed = Seal::new().unwrap().seal("session", &session).unwrap();
        assert!(sealed.len() < 3900, "{}", sealed.len());
    }

    #[test]
    fn nobody_is_signed_in_without_a_name() {
        for said in [json!({}), json!({"preferred_username": "  "}), json!({"preferred_username": "a\nb"})] {
            assert!(matches!(Session::new("s".to_owned(), &said, at(0)), Err(GateError::NoUsername)), "{said}");
        }
    }
}
