//! Versions of an agent's resources, and the difference between what it should have and what it has.

use aws_lc_rs::digest::{Context, SHA256};

use crate::registry::Resource;

/// All that an agent's desired state may consist of.
pub(super) const RESOURCES: [Resource; 5] =
    [Resource::ClientCredentials, Resource::KeySet, Resource::TrustBundle, Resource::Homes, Resource::RenewalOrder];

/// The version of each resource of one agent, where it has one. Opaque: compared for equality only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions([Option<u64>; RESOURCES.len()]);

impl Versions {
    pub(super) fn of(entries: &[(Resource, u64)]) -> Self {
        let mut versions = Self::default();
        for (resource, version) in entries {
            versions.set(*resource, Some(*version));
        }
        versions
    }

    pub(super) fn get(&self, resource: Resource) -> Option<u64> {
        self.0[resource as usize]
    }

    pub(super) fn set(&mut self, resource: Resource, version: Option<u64>) {
        self.0[resource as usize] = version;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Those that there are.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Resource, u64)> {
        RESOURCES.into_iter().filter_map(|resource| Some((resource, self.get(resource)?)))
    }

    /// Those whose version is not that of `other`.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        let mut beyond = *self;
        for resource in RESOURCES {
            if self.get(resource) == other.get(resource) {
                beyond.set(resource, None);
            }
        }
        beyond
    }

    /// Those that `other` lacks altogether.
    pub(super) fn missing_in(&self, other: &Self) -> Vec<Resource> {
        let missing = |resource: &Resource| self.get(*resource).is_some() && other.get(*resource).is_none();
        RESOURCES.into_iter().filter(missing).collect()
    }
}

/// A version that follows from a content: the first eight bytes of its SHA-256.
pub(super) fn of_content(content: &[u8]) -> u64 {
    let mut hash = Context::new(&SHA256);
    hash.update(content);
    first_eight(hash)
}

/// A version that follows from several texts: each is hashed behind its length, so that no two lists look alike.
pub(super) fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = Context::new(&SHA256);
    for text in texts {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Context) -> u64 {
    let digest = hash.finish();
    digest.as_ref().iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        use Resource::{ClientCredentials, Homes, KeySet, RenewalOrder, TrustBundle};
        let has = Versions::of(&[(ClientCredentials, 1), (KeySet, 2), (TrustBundle, 3), (RenewalOrder, 4)]);
        let wanted = Versions::of(&[(ClientCredentials, 1), (KeySet, 9), (TrustBundle, 3), (Homes, 5)]);
        assert_eq!(wanted.beyond(&has), Versions::of(&[(KeySet, 9), (Homes, 5)]));
        assert_eq!(has.missing_in(&wanted), [RenewalOrder]);
        assert!(wanted.beyond(&wanted).is_empty() && wanted.missing_in(&wanted).is_empty());
        assert_eq!(wanted.beyond(&Versions::default()), wanted);
    }

    #[test]
    fn versions_are_those_of_the_contract() {
        assert_eq!(RESOURCES.map(|resource| resource as usize), [0, 1, 2, 3, 4]);
        // SHA-256 of nothing begins so.
        assert_eq!(of_content(b""), 0xe3b0_c442_98fc_1c14);
        assert_ne!(of_texts(["ab", "c"]), of_texts(["a", "bc"]));
        assert_ne!(of_texts([]), of_texts([""]));
    }
}
