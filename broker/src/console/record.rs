//! What the store keeps of codes and sessions of the web console.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::clock::Timestamp;
use crate::console::{IDLE, LONGEST};
use crate::registry::{InstanceId, SessionId, UserId};
use crate::secret::SecretHash;
use crate::storage::table::Record;

/// A one-time code: under its hash.
#[derive(Clone, Serialize, Deserialize)]
pub struct ConsoleCode {
    /// Who made it, for example `uid=0`.
    pub by: String,
    /// When it is good no longer.
    pub expires_at: Timestamp,
}

impl Record for ConsoleCode {
    const TABLE: &'static str = "console_code";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

/// One browser in the console: under its id.
#[derive(Clone, Serialize, Deserialize)]
pub struct ConsoleSession {
    /// Of its cookie.
    pub(super) secret: SecretHash,
    /// How it came in.
    pub way: Way,
    /// When.
    pub began_at: Timestamp,
    /// When it was used last, as far as that was written.
    pub used_at: Timestamp,
}

impl ConsoleSession {
    /// When it ends if nobody uses it.
    pub fn expires_at(&self) -> Timestamp {
        (self.began_at + LONGEST).min(self.used_at + IDLE)
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }
}

impl Record for ConsoleSession {
    const TABLE: &'static str = "console_session";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(Self::expires_at(self))
    }
}

/// How a browser came into the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By a code that this one made.
    Code {
        /// For example `uid=0`.
        by: String,
    },
    /// Through the federation.
    Federation {
        /// Who vouched.
        home: InstanceName,
        /// Which installation of that name.
        home_id: InstanceId,
        /// For whom, as the broker knows him.
        user: UserId,
        /// As he is called at home: for pages.
        username: String,
        /// The session at the broker that it rests on.
        session: SessionId,
    },
}

impl Way {
    /// As pages say it: `alice@alpha`, or who made the code.
    pub fn name(&self) -> String {
        match self {
            Self::Code { by } => by.clone(),
            Self::Federation { home, username, .. } => format!("{username}@{home}"),
        }
    }

    /// As the audit says it, which holds no user's name.
    pub fn actor(&self) -> String {
        match self {
            Self::Code { by } => by.clone(),
            Self::Federation { home, user, .. } => format!("{home}/{}", user.as_str()),
        }
    }

    /// Adds who it is to what is noted.
    pub(super) fn note(&self, event: Event) -> Event {
        match self {
            Self::Code { by } => event.detail(format!("by a code of {by}")),
            Self::Federation { home, user, session, .. } => event.home(home).user(user).session(session),
        }
    }
}
