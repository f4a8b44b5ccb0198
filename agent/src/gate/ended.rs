//! Sessions that ended before their time: cookies cannot be called back, so what they say is checked against this list. It
//! is on disk, because a restart must not revive anybody, and bounded: when it is full, the oldest entry becomes a floor
//! below which every session has ended.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::session::{LONGEST, Session};
use crate::disk::{DiskError, PrivateDir};

/// In the data directory.
const FILE: &str = "gate-ended.json";
/// How many entries.
const MOST: usize = 10_000;

/// The list.
#[derive(Debug)]
pub(crate) struct EndedSessions {
    data: PrivateDir,
    list: Mutex<List>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    /// Sessions that began at this time or earlier have ended.
    floor: i64,
    entries: VecDeque<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    which: Which,
    at: i64,
}

/// Which sessions an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    /// That one of the gate's own.
    Session(String),
    /// Those of a user that came from one session at the broker.
    BrokerSession {
        /// `sub`.
        subject: String,
        /// `sid`.
        session: String,
    },
    /// All of a user.
    Subject(String),
}

impl EndedSessions {
    /// What is on disk.
    pub(crate) fn open(data: PrivateDir) -> Result<Self, DiskError> {
        let list = data.load(FILE)?.unwrap_or_default();
        Ok(Self { data, list: Mutex::new(list) })
    }

    /// Ends sessions that began until now.
    pub(crate) fn end(&self, which: Which, now: OffsetDateTime) -> Result<(), DiskError> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = list.clone();
        next.add(which, now.unix_timestamp());
        self.data.store(FILE, &next)?;
        *list = next;
        Ok(())
    }

    /// Whether a session has ended.
    pub(crate) fn contains(&self, session: &Session) -> bool {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).contains(session)
    }
}

impl List {
    fn add(&mut self, which: Which, now: i64) {
        // Older sessions are over by themselves.
        let outlived = now - LONGEST.whole_seconds();
        self.entries.retain(|entry| entry.at > outlived && entry.which != which);
        self.entries.push_back(Entry { which, at: now });
        while self.entries.len() > MOST {
            self.floor = self.entries.pop_front().map_or(self.floor, |entry| self.floor.max(entry.at));
        }
    }

    fn contains(&self, session: &Session) -> bool {
        let is_meant = |which: &Which| match which {
            Which::Session(id) => *id == session.id,
            Which::BrokerSession { subject, session: id } => {
                *subject == session.subject && *id == session.broker_session
            }
            Which::Subject(subject) => *subject == session.subject,
        };
        session.began_at <= self.floor
            || self.entries.iter().any(|entry| session.began_at <= entry.at && is_meant(&entry.which))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    fn session(subject: &str, broker_session: &str, began: i64) -> Session {
        let said = json!({"preferred_username": "alice", "sid": broker_session});
        Session::new(subject.to_owned(), &said, at(began)).unwrap()
    }

    #[test]
    fn an_end_concerns_who_is_meant_and_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let ended = EndedSessions::open(data.clone()).unwrap();
        let (one, other, bob) = (session("a", "1", 0), session("a", "2", 0), session("b", "1", 0));
        ended.end(Which::BrokerSession { subject: "a".to_owned(), session: "1".to_owned() }, at(5)).unwrap();
        assert!(ended.contains(&one) && !ended.contains(&other) && !ended.contains(&bob));
        assert!(!ended.contains(&session("a", "1", 6)), "a later login is another session");
        ended.end(Which::Subject("a".to_owned()), at(5)).unwrap();
        assert!(ended.contains(&other) && !ended.contains(&bob));
        ended.end(Which::Session(bob.id.clone()), at(5)).unwrap();
        assert!(ended.contains(&bob) && !ended.contains(&session("b", "1", 0)));
        let again = EndedSessions::open(data).unwrap();
        assert!(again.contains(&one) && again.contains(&other) && again.contains(&bob));
    }

    #[test]
    fn a_full_list_forgets_nobody() {
        let mut list = List::default();
        for number in 0..=MOST {
            list.add(Which::Subject(number.to_string()), i64::try_from(number).unwrap());
        }
        assert_eq!((list.entries.len(), list.floor), (MOST, 0));
        list.add(Which::Subject("x".to_owned()), LONGEST.whole_seconds() * 2);
        assert_eq!(list.entries.len(), 1, "what is outlived needs no entry");
    }
}
