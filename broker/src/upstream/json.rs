//! JSON objects of which every member stands there once: what is read first must be what is checked (RFC 8259 4, B5).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object whose own members differ.
pub(super) struct Once(pub(super) Map<String, Value>);

impl Once {
    /// Reads one.
    pub(super) fn read(bytes: &[u8]) -> Option<Map<String, Value>> {
        serde_json::from_slice::<Self>(bytes).ok().map(|Self(members)| members)
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose members differ")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands there twice"));
                    }
                }
                Ok(Once(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
