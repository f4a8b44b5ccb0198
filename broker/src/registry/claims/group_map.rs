//! Which groups of a home a relying party learns of, and what they are called there.
//!
//! Groups are rights at most applications, and the names of groups are chosen by whoever runs the home: none is told
//! unless somebody has said so. Once one is mapped the claim is always there, also empty, so that whoever has left all
//! groups at home leaves them at the relying party with the next login.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most mappings of one edge.
const MAX_MAPPINGS: usize = 128;

/// Longest name of a group, in characters.
const MAX_NAME: usize = 255;

/// Stands for every group that no other mapping names.
const ANY: &str = "*";

/// The mappings of one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupMap {
    /// By the home's name of the group. One group may be several there.
    named: BTreeMap<String, BTreeSet<String>>,
    /// Whether every other group is told by its own name.
    others: bool,
}

impl GroupMap {
    /// Every group by its own name: what the first release told everybody. For edges that it stored.
    pub fn everything() -> Self {
        Self { named: BTreeMap::new(), others: true }
    }

    /// Of these mappings.
    ///
    /// # Errors
    /// When there are too many.
    pub fn of(mappings: impl IntoIterator<Item = GroupMapping>) -> Result<Self, GroupMapError> {
        let (mut map, mut count) = (Self::default(), 0);
        for mapping in mappings {
            count += 1;
            match mapping {
                GroupMapping::Others => map.others = true,
                GroupMapping::Named { home, relying_party } => {
                    map.named.entry(home).or_default().insert(relying_party);
                }
            }
        }
        if count <= MAX_MAPPINGS { Ok(map) } else { Err(GroupMapError::TooMany) }
    }

    /// Whether nothing is told of groups.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.others
    }

    /// The groups as the relying party is to see them; nothing if it learns of none.
    pub fn claim(&self, groups: &[String]) -> Option<Vec<String>> {
        if self.is_empty() {
            return None;
        }
        let told: BTreeSet<&str> = groups.iter().flat_map(|group| self.names_of(group)).collect();
        Some(told.into_iter().map(str::to_owned).collect())
    }

    /// The groups of which nothing is told.
    pub fn untold<'a>(&self, groups: &'a [String]) -> Vec<&'a str> {
        groups.iter().filter(|group| self.names_of(group).is_empty()).map(String::as_str).collect()
    }

    /// All mappings.
    pub fn mappings(&self) -> impl Iterator<Item = GroupMapping> {
        let named = self.named.iter().flat_map(|(home, names)| {
            names.iter().map(|name| GroupMapping::Named { home: home.clone(), relying_party: name.clone() })
        });
        named.chain(self.others.then_some(GroupMapping::Others))
    }

    fn names_of<'a>(&'a self, group: &'a str) -> Vec<&'a str> {
        match self.named.get(group) {
            Some(names) => names.iter().map(String::as_str).collect(),
            None if self.others => vec![group],
            None => Vec::new(),
        }
    }
}

/// One line of a group map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupMapping {
    /// A group of the home has this name at the relying party.
    Named {
        /// At the home.
        home: String,
        /// At the relying party.
        relying_party: String,
    },
    /// Every other group has its own name.
    Others,
}

impl GroupMapping {
    /// Of a home's group and its name at the relying party.
    ///
    /// # Errors
    /// When one of them is no name of a group, or only one of them is `*`.
    pub fn new(home: &str, relying_party: &str) -> Result<Self, GroupMapError> {
        let good = |name: &str| {
            !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
        };
        match (home, relying_party) {
            (ANY, ANY) => Ok(Self::Others),
            // Whoever is in any group whatever would be in this one.
            (ANY, _) | (_, ANY) => Err(GroupMapError::Any),
            (home, name) if good(home) && good(name) => {
                Ok(Self::Named { home: home.to_owned(), relying_party: name.to_owned() })
            }
            _ => Err(GroupMapError::Form),
        }
    }

    /// Both names.
    pub fn names(&self) -> (&str, &str) {
        match self {
            Self::Named { home, relying_party } => (home, relying_party),
            Self::Others => (ANY, ANY),
        }
    }
}

impl FromStr for GroupMapping {
    type Err = GroupMapError;

    /// As ops write it: `home=relying party`.
    fn from_str(text: &str) -> Result<Self, GroupMapError> {
        let (home, relying_party) = text.split_once('=').ok_or(GroupMapError::Form)?;
        Self::new(home, relying_party)
    }
}

impl fmt::Display for GroupMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (home, relying_party) = self.names();
        write!(f, "{home}={relying_party}")
    }
}

/// Not a group map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupMapError {
    /// Not two names.
    #[error("a group is mapped as engineers=Engineering: its name at the home, and at the relying party")]
    Form,
    /// A star for one of the two.
    #[error("*=* tells every group that no other mapping names, by its own name; * goes with nothing else")]
    Any,
    /// More than anybody reads.
    #[error("at most {MAX_MAPPINGS} groups can be mapped; map * to * if all may be told")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[&str]) -> GroupMap {
        GroupMap::of(lines.iter().map(|line| line.parse().unwrap())).unwrap()
    }

    #[test]
    fn only_what_is_mapped_is_told_and_then_also_that_there_is_nothing() {
        let groups = ["engineers", "admins"].map(str::to_owned);
        let told = |lines: &[&str]| map(lines).claim(&groups).map(|told| told.join(","));
        for (lines, expected) in [
            (&[][..], None),
            (&["sales=Sales"], Some("")),
            (&["engineers=Engineering"], Some("Engineering")),
            (&["engineers=Engineering", "engineers=Staff"], Some("Engineering,Staff")),
            (&["engineers=Staff", "admins=Staff"], Some("Staff")),
            (&["*=*"], Some("admins,engineers")),
            (&["*=*", "admins=Owners"], Some("Owners,engineers")),
        ] {
            assert_eq!(told(lines).as_deref(), expected, "{lines:?}");
        }
        assert_eq!(map(&["engineers=Engineering"]).claim(&[]), Some(Vec::new()), "whoever left all groups leaves them");
        assert_eq!(map(&["engineers=Engineering"]).untold(&groups), ["admins"]);
        assert_eq!(GroupMap::everything(), map(&["*=*"]));
    }

    #[test]
    fn a_map_is_written_as_it_is_read() {
        let lines = ["a=b=c", "engineers=Engineering", "*=*"];
        assert_eq!(map(&lines).mappings().map(|line| line.to_string()).collect::<Vec<_>>(), lines);
        let stored = serde_json::to_value(map(&lines)).unwrap();
        assert_eq!(serde_json::from_value::<GroupMap>(stored).unwrap(), map(&lines));
    }

    #[test]
    fn other_mappings_are_refused() {
        for (bad, error) in [
            ("engineers", GroupMapError::Form),
            ("=x", GroupMapError::Form),
            ("x=", GroupMapError::Form),
            ("x=\u{7}", GroupMapError::Form),
            ("*=staff", GroupMapError::Any),
            ("staff=*", GroupMapError::Any),
        ] {
            assert_eq!(bad.parse::<GroupMapping>(), Err(error), "{bad}");
        }
        let many = (0..129).map(|n| format!("{n}=x").parse().unwrap());
        assert_eq!(GroupMap::of(many), Err(GroupMapError::TooMany));
    }
}
