//! What all brokers of a federation agree on, in the store. `init` writes it. A broker that starts changes what its file
//! names otherwise, and leaves the rest as it is; so does one that is told to reload its file. The brokers that run follow.
//!
//! **Two files that disagree:** the broker that started last has its way, and says whose word it overrules; every broker
//! whose file now names something else than what is in force says so, too. Nothing is changed but by a start.
//!
//! **Shorter lifetimes** do not shorten what was given out before: the store keeps for how long that may still be shown to
//! somebody, so that the keys for it do not go early.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::clock::{Clock, Timestamp};
use crate::config::in_force::InForce;
use crate::config::raw::RawFederation;
use crate::config::{ConfigError, Federation, NamedSettings};
use crate::storage::table::{Record, Stored, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// Key of the record.
pub(super) const ID: &str = "settings";

/// How often a broker says its word again that another one came before.
const TRIES: usize = 8;

/// As it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredSettings {
    #[serde(flatten)]
    pub(super) settings: RawFederation,
    /// Whose file named it, by the setting's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) named_by: BTreeMap<String, NamedBy>,
    /// What was given out under earlier settings.
    #[serde(default)]
    pub(super) before: Before,
}

/// A broker whose file named a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBy {
    /// Its machine.
    pub broker: String,
    /// When it started.
    pub at: Timestamp,
}

/// Until when what was given out under earlier settings may be shown to somebody.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Before {
    tokens_until: Option<Timestamp>,
    sealed_until: Option<Timestamp>,
    /// How long caches were allowed to keep the key set, and until when that counts.
    key_set: Option<(u64, Timestamp)>,
}

impl Record for StoredSettings {
    const TABLE: &'static str = "federation";
}

impl StoredSettings {
    /// What a new federation begins with.
    fn first(federation: &Federation) -> Self {
        Self { settings: federation.into(), named_by: BTreeMap::new(), before: Before::default() }
    }

    /// With what this file names in its place.
    fn with(&self, named: &NamedSettings, by: &NamedBy) -> Result<(Self, Federation), ConfigError> {
        let federation = named.over(&self.settings)?;
        let mut next = Self { settings: (&federation).into(), ..self.clone() };
        for (name, _, _) in NamedSettings::all_of(&next.settings).differing(&NamedSettings::all_of(&self.settings)) {
            next.named_by.insert(name.to_owned(), by.clone());
        }
        if let Ok(old) = Federation::try_from(self.settings.clone()) {
            next.before = self.before.and(&old, by.at);
        }
        Ok((next, federation))
    }
}

impl Before {
    /// And what these settings have let out, which end now.
    fn and(self, old: &Federation, now: Timestamp) -> Self {
        let age = old.rotation.key_set_max_age;
        // A new key is published twice as long as that before it signs.
        let own = (age.as_secs(), now + age * 2);
        let kept = self.key_set.filter(|(_, until)| *until > now).unwrap_or(own);
        Self {
            tokens_until: self.tokens_until.max(Some(now + old.lifetimes.longest_token())),
            sealed_until: self.sealed_until.max(Some(now + old.lifetimes.longest_sealed())),
            key_set: Some((kept.0.max(own.0), kept.1.max(own.1))),
        }
    }

    pub(super) fn longest_token(&self, now: Timestamp) -> Duration {
        self.tokens_until.map_or(Duration::ZERO, |until| until.since(now))
    }

    pub(super) fn longest_sealed(&self, now: Timestamp) -> Duration {
        self.sealed_until.map_or(Duration::ZERO, |until| until.since(now))
    }

    pub(super) fn key_set_max_age(&self, now: Timestamp) -> Duration {
        self.key_set.filter(|(_, until)| *until > now).map_or(Duration::ZERO, |(secs, _)| Duration::from_secs(secs))
    }
}

/// The write that gives a new federation its settings.
///
/// # Errors
/// When they cannot be written.
pub fn first_settings(store: &Arc<dyn Store>, federation: &Federation) -> Result<Write, StoreError> {
    Table::new(store.clone()).put(ID, &StoredSettings::first(federation), Expect::Absent)
}

/// What the brokers agree on, from now on, as the broker of this machine starts, whose file names some of it; what
/// that changed, for people, if it did; and a future that follows what others change, and must be run.
///
/// # Errors
/// When nobody says it; when the file names another federation, or what does not go together with what the store has.
pub async fn agree(
    store: &Arc<dyn Store>,
    named: &NamedSettings,
    broker: &str,
    clock: Clock,
) -> Result<(InForce, Option<String>, impl Future<Output = ()> + Send + use<>), SettingsError> {
    let table = Table::<StoredSettings>::new(store.clone());
    // Begun before the record is read, so that no change falls between.
    let changes = table.watch().await?;
    let by = NamedBy { broker: broker.to_owned(), at: clock.now() };
    let (next, federation, change) = say(&table, named, &by).await?;
    let in_force = InForce::new(next, federation, named.clone(), clock);
    Ok((in_force.clone(), change, in_force.follow(table, changes)))
}

/// The same while the broker runs, whose file was changed; what that changed for all, if it did.
///
/// # Errors
/// As [`agree`]; everything stays as it was then.
pub async fn agree_again(
    store: &Arc<dyn Store>,
    in_force: &InForce,
    named: NamedSettings,
    broker: &str,
) -> Result<Option<String>, SettingsError> {
    let table = Table::<StoredSettings>::new(store.clone());
    let by = NamedBy { broker: broker.to_owned(), at: in_force.now() };
    let (next, federation, change) = say(&table, &named, &by).await?;
    in_force.name(named, next, federation);
    Ok(change)
}

/// Has the store say what this file names.
async fn say(
    table: &Table<StoredSettings>,
    named: &NamedSettings,
    by: &NamedBy,
) -> Result<(StoredSettings, Federation, Option<String>), SettingsError> {
    for _ in 0..TRIES {
        let Step { next, federation, write } = step(table.get(ID).await?, named, by)?;
        let committed = match write {
            None => Ok(None),
            Some((expect, change)) => table.commit(vec![table.put(ID, &next, expect)?]).await.map(|_| change),
        };
        match committed {
            Ok(change) => {
                if let Some(change) = &change {
                    warn!("the file of this broker changes the federation's settings for all brokers: {change}");
                }
                return Ok((next, federation, change));
            }
            // Another broker says something, too.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// What a start makes of what is stored.
struct Step {
    next: StoredSettings,
    federation: Federation,
    /// If it is to be written: over what, and what that changes.
    write: Option<(Expect, Option<String>)>,
}

fn step(stored: Option<Stored<StoredSettings>>, named: &NamedSettings, by: &NamedBy) -> Result<Step, SettingsError> {
    let Some(Stored { record, version }) = stored else {
        let federation = named.federation().map_err(|_| SettingsError::Nobody)?;
        return Ok(Step { next: StoredSettings::first(&federation), federation, write: Some((Expect::Absent, None)) });
    };
    if named.text("trust_domain").is_some_and(|name| name != record.settings.trust_domain) {
        return Err(SettingsError::AnotherFederation(record.settings.trust_domain));
    }
    let (next, federation) = record.with(named, by)?;
    let changes = changes(&record, &next);
    if changes.is_empty() {
        return Ok(Step { next: record, federation, write: None });
    }
    Ok(Step { next, federation, write: Some((Expect::Version(version), Some(changes))) })
}

/// What is another value in the second: `lifetimes.session 43200 (by the file of alpha) -> 60`, each behind a comma.
pub(super) fn changes(old: &StoredSettings, new: &StoredSettings) -> String {
    let (before, after) = (NamedSettings::all_of(&old.settings), NamedSettings::all_of(&new.settings));
    let changes = after.differing(&before).map(|(name, was, is): (&str, &Value, &Value)| {
        let by = old.named_by.get(name).map_or_else(String::new, |by| format!(" (by the file of {})", by.broker));
        format!("{name} {was}{by} -> {is}")
    });
    changes.collect::<Vec<_>>().join(", ")
}

/// The federation's name, if the store says it: that of an older release does not.
///
/// # Errors
/// When the store does not answer.
pub async fn trust_domain_of(store: &Arc<dyn Store>) -> Result<Option<String>, StoreError> {
    let stored = Table::<StoredSettings>::new(store.clone()).get(ID).await?;
    Ok(stored.map(|stored| stored.record.settings.trust_domain))
}

/// Why the brokers do not agree.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Neither file nor store.
    #[error(
        "neither the configuration nor the store says what the federation is: name public_url, agent_url and trust_domain"
    )]
    Nobody,
    /// The name in the certificates of all agents.
    #[error("the store holds the federation {0}, and trust_domain can never change: name that one, or another store")]
    AnotherFederation(String),
    /// The file and the store together, or the store by itself.
    #[error("what the configuration names does not go together with the store's settings, see `config show`: {0}")]
    Unusable(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
