//! How tries to bring logouts somewhere went: for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sessions::outbox::LogoutState;

/// Counts since the broker has started.
#[derive(Debug, Default)]
pub struct Tries {
    confirmed: AtomicU64,
    again: AtomicU64,
    dead: AtomicU64,
    not_supported: AtomicU64,
}

impl Tries {
    pub(super) fn count(&self, came_to: LogoutState) {
        let counter = match came_to {
            LogoutState::Confirmed => &self.confirmed,
            LogoutState::Pending => &self.again,
            LogoutState::Dead => &self.dead,
            LogoutState::NotSupported => &self.not_supported,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How often what came of it.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("confirmed", now(&self.confirmed)),
            ("tried_again_later", now(&self.again)),
            ("given_up", now(&self.dead)),
            ("not_supported", now(&self.not_supported)),
        ]
    }
}
