//! What the store keeps of a logout: whom it has to reach, how, and how far it has come.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{ClientId, SessionId, Subject, UserId};
use crate::secret::{SecretError, random};
use crate::storage::table::Record;

/// How long somebody is tried before ops have to look.
pub(in crate::sessions) const TRIED: Duration = Duration::from_secs(86_400);

/// How long a receipt is kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// The first pause after a try that failed, in seconds, and the longest.
const PAUSE: (u64, u64) = (2, 3600);

/// Names a logout on its way to one application: 26 hex digits. A later one sorts before an earlier one, so that the
/// store lists the newest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogoutId(String);

impl LogoutId {
    const LENGTH: usize = 26;

    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub(in crate::sessions) fn generate(now: Timestamp) -> Result<Self, SecretError> {
        let back = LAST_SECOND.saturating_sub(now.as_secs().unsigned_abs());
        Ok(Self(format!("{back:010x}{:016x}", u64::from_be_bytes(random()?))))
    }

    /// A key of the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The last second that ten hex digits can count.
const LAST_SECOND: u64 = 0xff_ffff_ffff;

impl FromStr for LogoutId {
    type Err = LogoutIdError;

    fn from_str(text: &str) -> Result<Self, LogoutIdError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let good = text.len() == Self::LENGTH && text.bytes().all(digit);
        good.then(|| Self(text.to_owned())).ok_or(LogoutIdError)
    }
}

impl fmt::Display for LogoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// No id of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a logout is 26 hex digits: see `session logouts`")]
pub struct LogoutIdError;

/// One application that has to hear that a user logged out, under the logout's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLogout {
    /// Name of the instance or relying party.
    pub target: InstanceName,
    /// Who logged out, as the broker knows him.
    pub user: UserId,
    /// Who logged out, for ops: user@home.
    pub user_name: String,
    /// What it is told, and how.
    pub message: Message,
    /// How far it has come.
    pub state: LogoutState,
    /// Since when; while it is pending, when it is tried next.
    pub state_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the application, its agent or the network said last.
    pub detail: String,
    /// When the user was logged out.
    pub created_at: Timestamp,
    /// When nobody tries any more.
    pub give_up_at: Timestamp,
}

/// What an application is told, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A relying party, by a logout token (OpenID Connect Back-Channel Logout 1.0).
    Back(Entered),
    /// A relying party, by its agent.
    Agent(Entered),
    /// The home, by its agent.
    Home {
        /// The home's own identifier of the user.
        home_user_id: String,
    },
}

/// A session as a relying party knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered {
    /// Its client.
    pub client_id: ClientId,
    /// `sub` of its ID tokens.
    pub subject: Subject,
    /// `sid` of its ID tokens.
    pub session: SessionId,
    /// `preferred_username` of its ID tokens; empty if there is none.
    pub username: String,
}

/// How far a logout has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogoutState {
    /// On its way.
    Pending,
    /// The application or its agent has said so.
    Confirmed,
    /// Given up.
    Dead,
    /// The application has no way to be told.
    NotSupported,
}

impl Record for StoredLogout {
    const TABLE: &'static str = "logout";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.give_up_at + KEPT)
    }
}

/// That a logout is pending: under lane, moment and id. That key is all that it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DueLogout {}

impl Record for DueLogout {
    const TABLE: &'static str = "logout_due";
}

/// Whom logouts queue for. One lane holds up no other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    /// A client's back channel.
    Back(ClientId),
    /// An instance's agent, in either role of the instance.
    Agent(InstanceName),
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back(client) => write!(f, "back.{client}"),
            Self::Agent(name) => write!(f, "agent.{name}"),
        }
    }
}

/// A place in a lane: `<lane>.<moment in hex>.<id>`, so that the store has each lane in the order of its moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) lane: Lane,
    pub(super) at: Timestamp,
    pub(super) id: LogoutId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010x}.{}", self.lane, self.at.as_secs(), self.id)
    }
}

impl Place {
    /// Reads a key; nothing if no broker has written it.
    pub(super) fn read(key: &str) -> Option<Self> {
        let mut parts = key.split('.');
        let (kind, whose, at, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lane = match kind {
            "back" => Lane::Back(ClientId::of_key(whose)),
            "agent" => Lane::Agent(whose.parse().ok()?),
            _ => return None,
        };
        let at = Timestamp::from_secs(i64::from_str_radix(at, 16).ok()?);
        Some(Self { lane, at, id: id.parse().ok()? })
    }
}

/// How a try went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The application or its agent says that the user is logged out.
    Told(String),
    /// Its agent does not know how.
    NotSupported,
    /// To be tried again.
    Failed(String),
    /// There is nobody to tell any more.
    Gone(String),
}

impl StoredLogout {
    /// Where it queues.
    pub(super) fn lane(&self) -> Lane {
        match &self.message {
            Message::Back(entered) => Lane::Back(entered.client_id.clone()),
            Message::Agent(_) | Message::Home { .. } => Lane::Agent(self.target.clone()),
        }
    }

    /// Its place, if it is pending.
    pub(super) fn place(&self, id: &LogoutId) -> Option<Place> {
        let pending = self.state == LogoutState::Pending;
        pending.then(|| Place { lane: self.lane(), at: self.state_at, id: id.clone() })
    }

    /// What becomes of it after a try. `draw` spreads the tries of many that failed together.
    pub(super) fn after(self, outcome: Outcome, now: Timestamp, draw: u16) -> Self {
        let attempts = self.attempts.saturating_add(1);
        let (state, state_at, detail) = match outcome {
            Outcome::Told(detail) => (LogoutState::Confirmed, now, detail),
            Outcome::NotSupported => {
                (LogoutState::NotSupported, now, "its recipe does not say how sessions are ended".to_owned())
            }
            Outcome::Gone(detail) => (LogoutState::Dead, now, detail),
            Outcome::Failed(detail) => {
                let next = now + pause(attempts, draw);
                if next < self.give_up_at {
                    (LogoutState::Pending, next, detail)
                } else {
                    (LogoutState::Dead, now, detail)
                }
            }
        };
        Self { state, state_at, attempts, detail, ..self }
    }

    /// It is to be tried again from the beginning.
    pub(super) fn again(self, now: Timestamp) -> Self {
        Self { state: LogoutState::Pending, state_at: now, attempts: 0, give_up_at: now + TRIED, ..self }
    }
}

/// How long to wait after so many tries: twice as long each time, between half of that and all of it.
fn pause(attempts: u32, draw: u16) -> Duration {
    let (first, longest) = PAUSE;
    let full = longest.min(first << attempts.saturating_sub(1).min(16));
    let half = full / 2;
    Duration::from_secs((full - half) + half * u64::from(draw) / u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_later_logout_sorts_before_an_earlier_one() {
        let (early, late) = (LogoutId::generate(NOW).unwrap(), LogoutId::generate(NOW + TRIED).unwrap());
        assert!(late < early);
        assert_eq!(late.as_str().parse::<LogoutId>().unwrap(), late);
        for text in ["", "../..", &"A".repeat(26), &"0".repeat(25), &"0".repeat(27)] {
            assert!(text.parse::<LogoutId>().is_err(), "{text}");
        }
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_are_spread() {
        let secs = |attempts, draw| pause(attempts, draw).as_secs();
        assert_eq!([secs(1, u16::MAX), secs(2, u16::MAX), secs(3, u16::MAX)], [2, 4, 8]);
        assert_eq!([secs(1, 0), secs(2, 0), secs(3, 0)], [1, 2, 4]);
        assert_eq!([secs(12, u16::MAX), secs(u32::MAX, u16::MAX), secs(u32::MAX, 0)], [3600, 3600, 1800]);
    }

    #[test]
    fn places_are_ordered_by_moment_and_can_be_read() {
        let id = LogoutId::generate(NOW).unwrap();
        let place = |at| Place { lane: Lane::Agent("beta".parse().unwrap()), at, id: id.clone() };
        assert!(place(NOW).to_string() < place(NOW + Duration::from_secs(1)).to_string());
        assert_eq!(Place::read(&place(NOW).to_string()), Some(place(NOW)));
        for key in ["", "agent.beta", "agent.beta.0.x", "elsewhere.beta.0.0", "agent.BETA.0000000000.0"] {
            assert_eq!(Place::read(key), None, "{key}");
        }
    }
}
