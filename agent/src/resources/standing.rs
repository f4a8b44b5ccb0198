//! How the instance stands: what is in effect, on disk, and what could not be put into effect and why, in memory. Whoever
//! applies something says it here; the Sync loop tells the broker, on whichever stream there is by then.

use std::collections::BTreeMap;

use homeward_proto::v1::Resource;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::RESOURCES;
use super::applied::Applied;
use crate::disk::{DiskError, PrivateDir};
use crate::telemetry::Telemetry;

/// Kept on disk, and watched.
#[derive(Debug)]
pub(crate) struct Standing {
    data: PrivateDir,
    state: watch::Sender<State>,
    telemetry: Option<Telemetry>,
}

/// At one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// What is in effect.
    pub(crate) applied: Applied,
    /// What is not, and why.
    pub(crate) refusals: BTreeMap<Resource, Refusal>,
    /// Since when there is nothing but refusals of a resource.
    pub(crate) refused_since: BTreeMap<Resource, OffsetDateTime>,
}

/// Why a resource is not in effect. It is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Which version of it.
    pub(crate) version: u64,
    /// UPPER_SNAKE_CASE.
    pub(crate) reason: &'static str,
    /// One sentence, without secrets.
    pub(crate) detail: String,
}

impl Standing {
    /// What is on disk.
    pub(crate) fn open(data: PrivateDir) -> Result<Self, DiskError> {
        let applied = Applied::load(&data)?;
        let state = watch::Sender::new(State { applied, ..State::default() });
        Ok(Self { data, state, telemetry: None })
    }

    /// The same, where it is counted what comes into effect, and what does not.
    pub(crate) fn counted(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Some(telemetry), ..self }
    }

    /// At this moment.
    pub(crate) fn applied(&self) -> Applied {
        self.state.borrow().applied.clone()
    }

    /// Told of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes what is in effect: on disk first, so that nothing is acknowledged that a power cut takes back.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Applied)) -> Result<(), DiskError> {
        let mut next = self.applied();
        change(&mut next);
        if next == self.state.borrow().applied {
            return Ok(());
        }
        next.store(&self.data)?;
        let (before, after) = (self.applied().versions, next.versions);
        for resource in RESOURCES.into_iter().filter(|it| after.of(*it).is_some() && after.of(*it) != before.of(*it)) {
            self.count(resource, None);
        }
        self.state.send_modify(|state| {
            let versions = next.versions;
            state.refusals.retain(|resource, refusal| versions.of(*resource) != Some(refusal.version));
            let State { refusals, refused_since, .. } = state;
            refused_since.retain(|resource, _| refusals.contains_key(resource));
            state.applied = next;
        });
        Ok(())
    }

    fn count(&self, resource: Resource, refused: Option<&'static str>) {
        if let Some(telemetry) = &self.telemetry {
            let name = resource.as_str_name().trim_start_matches("RESOURCE_").to_lowercase();
            telemetry.changed(&name, refused);
        }
    }

    /// Something could not be put into effect. The same again is no news.
    pub(crate) fn refuse(&self, resource: Resource, refusal: Refusal, now: OffsetDateTime) {
        self.count(resource, Some(refusal.reason));
        self.state.send_if_modified(|state| {
            let news = state.refusals.get(&resource) != Some(&refusal);
            if news {
                let Refusal { reason, detail, .. } = &refusal;
                let what = super::words(resource.as_str_name(), "RESOURCE_");
                tracing::warn!(
                    resource = what,
                    reason,
                    detail,
                    "not in effect; what was there before stays, and it is tried again"
                );
                state.refusals.insert(resource, refusal);
                state.refused_since.entry(resource).or_insert(now);
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(version: u64) -> Refusal {
        Refusal { version, reason: "WRITE_FAILED", detail: "no room".to_owned() }
    }

    #[test]
    fn a_refusal_is_told_once_and_forgotten_when_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let standing = Standing::open(PrivateDir::open(&folder.path().join("data")).unwrap()).unwrap();
        let mut watched = standing.watch();
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        standing.refuse(Resource::KeySet, refusal(1), at(10));
        standing.refuse(Resource::KeySet, refusal(2), at(20));
        assert!(watched.has_changed().unwrap());
        watched.mark_unchanged();
        standing.refuse(Resource::KeySet, refusal(2), at(30));
        assert_eq!(watched.borrow().refused_since.get(&Resource::KeySet), Some(&at(10)), "it has failed since then");
        assert!(!watched.has_changed().unwrap(), "the same again is no news");
        standing.change(|applied| applied.versions.set(Resource::Homes, Some(1))).unwrap();
        assert_eq!(watched.borrow_and_update().refusals.len(), 1, "another resource's success changes nothing");
        standing.change(|applied| applied.versions.set(Resource::KeySet, Some(2))).unwrap();
        assert!(watched.borrow().refusals.is_empty() && watched.borrow().refused_since.is_empty());
        let again = Standing::open(standing.data.clone()).unwrap();
        assert_eq!(again.applied(), standing.applied(), "what is in effect survives a restart");
    }
}
