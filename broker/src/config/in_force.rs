//! The settings as they are while the broker runs: those of the store, whoever changes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::federation::{ID, NamedBy, StoredSettings, changes};
use crate::config::{Current, Federation, Lifetimes, NamedSettings, RotationPolicy};
use crate::storage::table::Table;
use crate::storage::{Watch, WatchEvent};

/// Pause before the store is read again after it failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The settings of the federation that are in force. Copies are the same.
#[derive(Clone)]
pub struct InForce(Arc<Known>);

struct Known {
    /// As this broker started.
    started: NamedSettings,
    /// Of its file, as it was read last.
    named: ArcSwap<NamedSettings>,
    now: watch::Sender<Arc<(StoredSettings, Federation)>>,
    clock: Clock,
}

/// A setting, for ops.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As in the file.
    pub name: String,
    /// As all brokers have it, or will have it after a restart.
    pub value: Value,
    /// Whose file named it last; nobody's since the federation was made if unset.
    pub named_by: Option<NamedBy>,
    /// What the file of this broker names.
    pub file: Option<Value>,
    /// What this broker goes by until it is started again, if that is something else.
    pub until_restart: Option<Value>,
}

impl InForce {
    pub(super) fn new(stored: StoredSettings, federation: Federation, named: NamedSettings, clock: Clock) -> Self {
        let started = NamedSettings::all_of(&stored.settings);
        let named = ArcSwap::from_pointee(named);
        Self(Arc::new(Known { started, named, now: watch::Sender::new(Arc::new((stored, federation))), clock }))
    }

    /// The moment, for what changes now.
    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The file of this broker names this from now on, and the store says the rest.
    pub(super) fn name(&self, named: NamedSettings, stored: StoredSettings, federation: Federation) {
        self.0.named.store(Arc::new(named));
        // Whoever follows the store hears of it, too, and finds nothing new then.
        self.0.now.send_if_modified(|now| {
            let changed = !changes(&now.0, &stored).is_empty();
            *now = Arc::new((stored, federation));
            changed
        });
    }

    /// All of it, as it is now.
    pub fn federation(&self) -> Federation {
        self.0.now.borrow().1.clone()
    }

    /// How long things last.
    pub fn lifetimes(&self) -> Current<Lifetimes> {
        let known = self.clone();
        Current::of(move || known.0.now.borrow().1.lifetimes)
    }

    /// For how long caches are allowed to keep the key set from now on.
    pub fn key_set_max_age(&self) -> Current<Duration> {
        let known = self.clone();
        Current::of(move || known.0.now.borrow().1.rotation.key_set_max_age)
    }

    /// When things turn. Caches that were allowed to keep the key set for longer do so for a while.
    pub fn rotation(&self) -> Current<RotationPolicy> {
        let known = self.clone();
        Current::of(move || {
            let now = known.0.now.borrow();
            let policy = now.1.rotation;
            let before = now.0.before.key_set_max_age(known.0.clock.now());
            RotationPolicy { key_set_max_age: policy.key_set_max_age.max(before), ..policy }
        })
    }

    /// How long something that a signing key has signed may still be shown to somebody, also of before a change.
    pub fn longest_token(&self) -> Duration {
        let now = self.0.now.borrow();
        now.1.lifetimes.longest_token().max(now.0.before.longest_token(self.0.clock.now()))
    }

    /// How long something sealed may be in the hands of strangers, also of before a change.
    pub fn longest_sealed(&self) -> Duration {
        let now = self.0.now.borrow();
        now.1.lifetimes.longest_sealed().max(now.0.before.longest_sealed(self.0.clock.now()))
    }

    /// Does this whenever somebody has changed any of it.
    pub async fn on_change(&self, act: impl Fn(&Self)) {
        let mut changes = self.0.now.subscribe();
        while changes.changed().await.is_ok() {
            act(self);
        }
    }

    /// Why this broker has to be started again, if it has to.
    pub fn restart_needed(&self) -> Option<String> {
        let now = NamedSettings::all_of(&self.0.now.borrow().0.settings);
        let names: Vec<_> =
            now.differing(&self.0.started).map(|(name, ..)| name).filter(|name| !is_followed(name)).collect();
        let sentence = || format!("restart this broker: {} changed, and takes effect here then", names.join(", "));
        (!names.is_empty()).then(sentence)
    }

    /// Every setting, for ops.
    pub fn all(&self) -> Vec<Setting> {
        let now = self.0.now.borrow().clone();
        // In the words of the store, which spells addresses its own way.
        let file = self.0.named.load();
        let named = file.over(&now.0.settings).map(|named| NamedSettings::all_of(&(&named).into()));
        let in_the_file = |name: &str| {
            let said = file.0.get(name)?;
            Some(named.as_ref().ok().and_then(|named| named.0.get(name)).unwrap_or(said).clone())
        };
        let settings = NamedSettings::all_of(&now.0.settings).0.into_iter().map(|(name, value)| Setting {
            named_by: now.0.named_by.get(&name).cloned(),
            file: in_the_file(&name),
            until_restart: self.0.started.0.get(&name).filter(|old| **old != value && !is_followed(&name)).cloned(),
            name,
            value,
        });
        settings.collect()
    }

    pub(super) async fn follow(self, table: Table<StoredSettings>, mut changes: Watch) {
        while let Some(event) = changes.next().await {
            // What was changed is read: it may have been changed again.
            if !matches!(&event, WatchEvent::Changed { key, .. } if key.id() != ID) {
                self.reload(&table).await;
            }
        }
    }

    async fn reload(&self, table: &Table<StoredSettings>) {
        loop {
            match table.get(ID).await {
                Ok(Some(stored)) => return self.adopt(stored.record),
                // Nobody takes it away.
                Ok(None) => return,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the federation's settings cannot be read; those from before stay in force for now"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// What another broker's file made of them.
    pub(super) fn adopt(&self, next: StoredSettings) {
        let before = self.0.now.borrow().clone();
        let changed = changes(&before.0, &next);
        let federation = match Federation::try_from(next.settings.clone()) {
            Ok(federation) => federation,
            Err(error) => {
                error!(%error, "the federation's settings were changed to what this broker cannot use; those from before stay");
                return;
            }
        };
        let next = Arc::new((next, federation));
        // What was given out meanwhile counts, also where everything is again as it was.
        self.0.now.send_if_modified(|now| {
            *now = next;
            !changed.is_empty()
        });
        if changed.is_empty() {
            return;
        }
        warn!("the federation's settings were changed: {changed}");
        if let Some(sentence) = self.restart_needed() {
            warn!("{sentence}");
        }
        let disagreeing: Vec<_> = self.all().iter().filter_map(Setting::disagreement).collect();
        if !disagreeing.is_empty() {
            warn!(
                "the file of this broker says otherwise, and its next start would change it back: {}; make the files \
                 of all brokers agree",
                disagreeing.join(", ")
            );
        }
    }
}

impl Setting {
    fn disagreement(&self) -> Option<String> {
        let file = self.file.as_ref().filter(|file| **file != self.value)?;
        Some(format!("{} {file}", self.name))
    }
}

/// Whether a change takes effect at once; others need a restart.
fn is_followed(name: &str) -> bool {
    // A login is as long as its transaction was made, and pages tell browsers so.
    name != "lifetimes.login" && (name.starts_with("lifetimes.") || name.starts_with("rotation."))
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.now.borrow().1.fmt(f)
    }
}
