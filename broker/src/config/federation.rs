//! What all brokers of a federation agree on, in the store: `init` writes it, a broker whose file says otherwise changes
//! it, and a broker whose file says nothing takes it from there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::config::raw::RawFederation;
use crate::config::{ConfigError, Federation};
use crate::storage::table::{Record, Stored, Table};
use crate::storage::{Expect, Store, StoreError, Write};

/// Key of the record.
const ID: &str = "settings";

/// How often a broker says its word again that another one came before.
const TRIES: usize = 8;

/// As it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct StoredSettings(RawFederation);

impl Record for StoredSettings {
    const TABLE: &'static str = "federation";
}

/// The write that gives a new federation its settings.
///
/// # Errors
/// When they cannot be written.
pub fn first_settings(store: &Arc<dyn Store>, federation: &Federation) -> Result<Write, StoreError> {
    Table::new(store.clone()).put(ID, &StoredSettings(federation.into()), Expect::Absent)
}

/// What the brokers agree on, from now on, as a broker starts whose file says `ours`; and the names of what that changes.
///
/// # Errors
/// When nobody says it; when the file names another federation.
pub async fn agree(
    store: &Arc<dyn Store>,
    ours: Option<&Federation>,
) -> Result<(Federation, Vec<String>), SettingsError> {
    let table = Table::<StoredSettings>::new(store.clone());
    for _ in 0..TRIES {
        let (stored, mut changed) = (table.get(ID).await?, Vec::new());
        let write = match (ours, stored) {
            (None, None) => return Err(SettingsError::Nobody),
            (None, Some(Stored { record, .. })) => return Ok((record.0.try_into()?, changed)),
            (Some(ours), None) => first_settings(store, ours)?,
            (Some(ours), Some(Stored { record: StoredSettings(theirs), version })) => {
                if theirs.trust_domain != ours.trust_domain.as_str() {
                    return Err(SettingsError::AnotherFederation(theirs.trust_domain));
                }
                let changes = changes(&theirs, &ours.into())?;
                if changes.is_empty() {
                    return Ok((ours.clone(), changed));
                }
                for (name, old, new) in changes {
                    warn!("{name} was {old}, and is {new} from now on: other brokers take that over when they start");
                    changed.push(name);
                }
                table.put(ID, &StoredSettings(ours.into()), Expect::Version(version))?
            }
        };
        match (table.commit(vec![write]).await, ours) {
            (Ok(_), Some(ours)) => return Ok((ours.clone(), changed)),
            (Ok(_) | Err(StoreError::Conflict), _) => {}
            (Err(error), _) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// The federation's name, if the store says it: that of an older release does not.
///
/// # Errors
/// When the store does not answer.
pub async fn trust_domain_of(store: &Arc<dyn Store>) -> Result<Option<String>, StoreError> {
    let stored = Table::<StoredSettings>::new(store.clone()).get(ID).await?;
    Ok(stored.map(|stored| stored.record.0.trust_domain))
}

/// What differs, each with its name in the file, and as it was and is.
fn changes(old: &RawFederation, new: &RawFederation) -> Result<Vec<(String, Value, Value)>, StoreError> {
    let flat = |settings: &RawFederation| {
        let value = serde_json::to_value(settings).map_err(|_| StoreError::Corrupt(StoredSettings::TABLE))?;
        let Value::Object(members) = value else { return Ok(Vec::new()) };
        let named = members.into_iter().flat_map(|(name, value)| match value {
            Value::Object(inner) => {
                inner.into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)).collect()
            }
            value => vec![(name, value)],
        });
        Ok::<_, StoreError>(named.collect::<Vec<_>>())
    };
    // Both are written with every member said, in one order.
    let pairs = flat(old)?.into_iter().zip(flat(new)?);
    Ok(pairs.filter(|(old, new)| old != new).map(|((name, old), (_, new))| (name, old, new)).collect())
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
    /// Written by hand, or by a newer release.
    #[error("the store's settings cannot be used: {0}")]
    Unusable(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::storage::sled::SledStore;

    fn ours(more: &str) -> Federation {
        let text = format!(
            "public_url = \"https://login.example.org\"\nagent_url = \"https://login.example.org:8443\"\n\
             trust_domain = \"example.org\"\ndata_dir = \"/d\"\n{more}"
        );
        Config::parse(&text).unwrap().federation.unwrap()
    }

    #[tokio::test]
    async fn a_file_that_says_nothing_takes_what_the_last_one_said() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        assert!(matches!(agree(&store, None).await, Err(SettingsError::Nobody)));
        let first = "[lifetimes]\nsession = 999\nsession_idle = 99\n[outbound]\nprivate_networks = [\"10.0.0.0/8\"]";
        agree(&store, Some(&ours(first))).await.unwrap();
        let (taken, _) = agree(&store, None).await.unwrap();
        assert_eq!(format!("{taken:?}"), format!("{:?}", ours(first)));
        let second = ours("[rotation]\nsigning_keys_every = 0");
        let (_, changed) = agree(&store, Some(&second)).await.unwrap();
        assert!(changed.contains(&"rotation.signing_keys_every".to_owned()), "{changed:?}");
        assert_eq!(format!("{:?}", agree(&store, None).await.unwrap().0), format!("{second:?}"));
        let stranger = Federation { trust_domain: "other.example".parse().unwrap(), ..second };
        let refused = agree(&store, Some(&stranger)).await.unwrap_err().to_string();
        assert!(refused.contains("holds the federation example.org"), "{refused}");
    }

    #[test]
    fn what_differs_is_named_as_in_the_file() {
        let (old, new) = (ours(""), ours("[lifetimes]\nid_token = 60"));
        let changes = changes(&(&old).into(), &(&new).into()).unwrap();
        assert_eq!(changes, [("lifetimes.id_token".to_owned(), Value::from(600), Value::from(60))]);
    }
}
