//! How many logins of each home ask its provider right now: however many browsers come back at once, it is not flooded.
//! Who is one too many waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::registry::InstanceId;

/// How many logins of one home ask its provider at once.
const AT_ONCE: usize = 16;

/// Who asks now. Nobody but ops makes homes, so there are few.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<HashMap<InstanceId, Arc<Semaphore>>>>);

impl Asked {
    /// A permit of this is held while its provider is asked.
    pub(super) fn of(&self, home: InstanceId) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(home).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_asked_by_so_many_at_once_and_no_other_home_waits() {
        let (asked, home, other) = (Asked::default(), InstanceId::generate(), InstanceId::generate());
        let permits: Vec<_> = (0..AT_ONCE).map(|_| asked.of(home).try_acquire_owned().unwrap()).collect();
        assert!(asked.of(home).try_acquire_owned().is_err());
        assert!(asked.of(other).try_acquire_owned().is_ok());
        drop(permits);
        assert!(asked.of(home).try_acquire_owned().is_ok());
    }
}
