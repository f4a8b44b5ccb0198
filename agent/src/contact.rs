//! When this agent last talked to its broker, and whether the broker sent it away: kept for `homeward-agent status`, which
//! is another process. Nothing is decided by it.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::disk::{DiskError, PrivateDir};
use crate::refusal::Dismissal;

/// The file.
const FILE: &str = "contact.json";

/// Writes down how the connection is.
#[derive(Debug)]
pub(crate) struct Contact {
    data: PrivateDir,
    last: LastContact,
    connected: watch::Sender<bool>,
}

/// What was written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastContact {
    /// When the last stream began, in seconds since 1970.
    pub connected_at: Option<i64>,
    /// When it broke; unset as long as it lives.
    pub lost_at: Option<i64>,
    /// Why it broke, or why none could be made since.
    pub broke: Option<String>,
    /// Why the broker wants to hear no more of this agent.
    pub dismissed: Option<String>,
}

impl LastContact {
    /// Nothing, if the agent never ran.
    pub fn load(data: &PrivateDir) -> Result<Self, DiskError> {
        Ok(data.load(FILE)?.unwrap_or_default())
    }

    /// Another identity begins anew.
    pub(crate) fn forget(data: &PrivateDir) -> Result<(), DiskError> {
        data.remove(FILE)
    }
}

impl Contact {
    /// Goes on from what is on disk; what cannot be read is written anew.
    pub(crate) fn open(data: PrivateDir) -> Self {
        let last = LastContact::load(&data).unwrap_or_default();
        let cut_short = last.connected_at.is_some() && last.lost_at.is_none();
        let mut contact = Self { data, last, connected: watch::Sender::new(false) };
        // Killed, or the machine lost power: when, nobody knows.
        if cut_short {
            contact.failed(&"the agent was started anew, and has not reached the broker yet");
        }
        contact
    }

    /// Whether there is a stream, now and later.
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// A stream has begun.
    pub(crate) fn made(&mut self, now: OffsetDateTime) {
        self.last = LastContact { connected_at: Some(now.unix_timestamp()), ..LastContact::default() };
        self.connected.send_replace(true);
        self.store();
    }

    /// There is none, for this reason. Hours of the same are one write.
    pub(crate) fn failed(&mut self, why: &impl Display) {
        let why = Some(why.to_string());
        if self.last.broke != why {
            self.last.broke = why;
            self.store();
        }
    }

    /// It broke.
    pub(crate) fn lost(&mut self, now: OffsetDateTime) {
        self.last.lost_at = Some(now.unix_timestamp());
        self.connected.send_replace(false);
        self.store();
    }

    /// The broker sent the agent away.
    pub(crate) fn dismissed(&mut self, why: Dismissal) {
        self.last.dismissed = Some(why.to_string());
        self.store();
    }

    fn store(&self) {
        if let Err(error) = self.data.store(FILE, &self.last) {
            tracing::warn!(%error, "what `homeward-agent status` shows of the connection is out of date");
        }
    }
}

impl Drop for Contact {
    /// Whoever ends takes the stream with him.
    fn drop(&mut self) {
        if *self.connected.borrow() {
            self.lost(crate::clock::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_stream_is_told_until_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let mut contact = Contact::open(data.clone());
        contact.made(at(10));
        contact.lost(at(20));
        contact.failed(&"the broker closed the stream");
        let last = LastContact::load(&data).unwrap();
        assert_eq!((last.connected_at, last.lost_at), (Some(10), Some(20)));
        assert_eq!(last.broke.as_deref(), Some("the broker closed the stream"));
        contact.made(at(30));
        assert_eq!(LastContact::load(&data).unwrap().broke, None);
    }

    #[test]
    fn a_stream_ends_with_the_agent_however_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&folder.path().join("data")).unwrap();
        let mut contact = Contact::open(data.clone());
        contact.made(OffsetDateTime::from_unix_timestamp(10).unwrap());
        let connected = contact.connected();
        drop(contact);
        assert!(!*connected.borrow() && LastContact::load(&data).unwrap().lost_at.is_some());
        // By kill -9.
        data.store(FILE, &LastContact { connected_at: Some(20), ..LastContact::default() }).unwrap();
        drop(Contact::open(data.clone()));
        let last = LastContact::load(&data).unwrap();
        assert!(last.broke.is_some() && last.lost_at.is_none(), "{last:?}");
    }
}
