//! Which of the federation's settings a file names: what it leaves out is as the store has it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::raw::{RawConfig, RawFederation};
use crate::config::{ConfigError, Federation};

/// Settings that stand under a head of their own.
const HEADS: [&str; 2] = ["lifetimes", "rotation"];

/// As it is in the file, and as it is in the store.
const NETWORKS: (&str, &str) = ("outbound.private_networks", "private_networks");

/// Settings by their names in the file, for example `lifetimes.session`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedSettings(pub(super) BTreeMap<String, Value>);

impl NamedSettings {
    /// What of it stands in a file; each is looked at by itself.
    pub(super) fn of(raw: &mut RawConfig) -> Result<Self, ConfigError> {
        let names = [
            ("public_url", raw.public_url.take().map(Value::from)),
            ("agent_url", raw.agent_url.take().map(Value::from)),
            ("trust_domain", raw.trust_domain.take().map(Value::from)),
            ("lifetimes", Some(value(&raw.lifetimes))),
            ("rotation", Some(value(&raw.rotation))),
            (NETWORKS.1, raw.outbound.private_networks.take().map(Value::from)),
        ];
        let members = names.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let named = Self(flat(members.collect()));
        // Whether it goes together with what the store has is seen when that is known.
        let of_store = |name: &str| !named.0.contains_key(name);
        match named.over(&RawFederation::any()) {
            Err(ConfigError::SessionIdle) if of_store("lifetimes.session") || of_store("lifetimes.session_idle") => {}
            Err(ConfigError::RefreshTokenIdle)
                if of_store("lifetimes.refresh_token") || of_store("lifetimes.refresh_token_idle") => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(named)
    }

    /// The settings of a federation that has none yet: what is not named is as usual.
    ///
    /// # Errors
    /// When one of those is missing that have no usual value.
    pub fn federation(&self) -> Result<Federation, ConfigError> {
        if ["public_url", "agent_url", "trust_domain"].iter().any(|name| !self.0.contains_key(*name)) {
            return Err(ConfigError::NoFederation);
        }
        self.over(&RawFederation::any())
    }

    /// A setting that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Everything, with its name.
    pub(super) fn all_of(settings: &RawFederation) -> Self {
        match value(settings) {
            Value::Object(members) => Self(flat(members)),
            _ => Self::default(),
        }
    }

    /// These settings, with what is named in the place of what they have.
    pub(super) fn over(&self, settings: &RawFederation) -> Result<Federation, ConfigError> {
        let mut all = Self::all_of(settings).0;
        all.extend(self.0.clone());
        let mut members = Map::new();
        for (name, value) in all {
            match name.split_once('.').filter(|(head, _)| HEADS.contains(head)) {
                Some((head, name)) => {
                    let inner = members.entry(head).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(inner) = inner {
                        inner.insert(name.to_owned(), value);
                    }
                }
                None => {
                    let name = if name == NETWORKS.0 { NETWORKS.1.to_owned() } else { name };
                    members.insert(name, value);
                }
            }
        }
        let whole = serde_json::from_value::<RawFederation>(Value::Object(members));
        whole.map_err(|error| ConfigError::Together(error.to_string()))?.try_into()
    }

    /// What is another value here than there, each with its name, as it is there and here.
    pub(super) fn differing<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = (&'a str, &'a Value, &'a Value)> {
        self.0.iter().filter_map(|(name, here)| {
            let there = there.0.get(name).unwrap_or(&Value::Null);
            (there != here).then_some((name.as_str(), there, here))
        })
    }
}

fn value(settings: &impl Serialize) -> Value {
    serde_json::to_value(settings).unwrap_or_default()
}

/// Each with its name in the file; what is not said is left out.
fn flat(members: Map<String, Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (name, value) in members {
        match value {
            Value::Object(inner) => {
                let inner = inner.into_iter().filter(|(_, value)| !value.is_null());
                all.extend(inner.map(|(inner, value)| (format!("{name}.{inner}"), value)));
            }
            Value::Null => {}
            value if name == NETWORKS.1 => drop(all.insert(NETWORKS.0.to_owned(), value)),
            value => drop(all.insert(name, value)),
        }
    }
    all
}
