//! What the instance should have, as far as the broker has said it to this process: its last snapshot, with every delta
//! since merged in. After a restart there may be deltas only: what they do not name is as it is on disk. Pure.

use std::time::Duration;

use homeward_proto::v1::{ClientCredentials, Delta, HomeEntry, RenewalOrder, Resource, Snapshot, TrustBundle};

use super::RESOURCES;
use super::applied::Versions;

/// How long caches may keep the key set if the broker does not say.
const USUAL_MAX_AGE: Duration = Duration::from_secs(3600);
/// And at the longest: what a broker says by mistake must not make a rotation wait for months.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an instance can be without. Key set and trust bundle it cannot: those that are there stay.
const DISPENSABLE: [Resource; 3] = [Resource::ClientCredentials, Resource::Homes, Resource::RenewalOrder];

/// What the instance should have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Of the last message.
    pub(crate) revision: u64,
    /// How the broker wants to hear of it.
    pub(crate) acknowledgement: Acknowledgement,
    /// How long caches may keep the key set.
    pub(crate) key_set_max_age: Duration,
    /// OAuth client.
    pub(crate) credentials: Option<Versioned<ClientCredentials>>,
    /// JWKS.
    pub(crate) key_set: Option<Versioned<String>>,
    /// CA certificates.
    pub(crate) trust_bundle: Option<Versioned<TrustBundle>>,
    /// Home directory.
    pub(crate) homes: Option<Versioned<Vec<HomeEntry>>>,
    /// Set while the CA turns.
    pub(crate) renewal_order: Option<Versioned<RenewalOrder>>,
    /// What the last message took back.
    pub(crate) taken_back: Vec<Resource>,
}

/// A resource at one version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Versioned<T> {
    /// Opaque: compared for equality only.
    pub(crate) version: u64,
    /// What it is.
    pub(crate) content: T,
}

/// How a broker wants to hear what is in effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// Each resource by itself.
    #[default]
    EachResource,
    /// The whole revision at once: the broker says no versions.
    WholeRevision,
}

impl Wanted {
    /// Everything anew.
    pub(crate) fn of(snapshot: Snapshot) -> Self {
        let mut wanted = Self { key_set_max_age: USUAL_MAX_AGE, ..Self::default() };
        if snapshot.versions.is_empty() {
            wanted.acknowledgement = Acknowledgement::WholeRevision;
        }
        let came = wanted.take(snapshot);
        wanted.taken_back = DISPENSABLE.into_iter().filter(|resource| !came.contains(resource)).collect();
        wanted
    }

    /// What has changed. Tells which resources came.
    pub(crate) fn merge(&mut self, delta: Delta) -> Vec<Resource> {
        let removed = delta.removed.into_iter().filter_map(|resource| Resource::try_from(resource).ok());
        self.taken_back = removed.filter(|resource| DISPENSABLE.contains(resource)).collect();
        for resource in &self.taken_back {
            match resource {
                Resource::ClientCredentials => self.credentials = None,
                Resource::Homes => self.homes = None,
                Resource::RenewalOrder => self.renewal_order = None,
                Resource::KeySet | Resource::TrustBundle | Resource::Unspecified => {}
            }
        }
        delta.changes.map(|changes| self.take(changes)).unwrap_or_default()
    }

    /// The version of a resource that is wanted.
    pub(crate) fn version(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::ClientCredentials => self.credentials.as_ref().map(|wanted| wanted.version),
            Resource::KeySet => self.key_set.as_ref().map(|wanted| wanted.version),
            Resource::TrustBundle => self.trust_bundle.as_ref().map(|wanted| wanted.version),
            Resource::Homes => self.homes.as_ref().map(|wanted| wanted.version),
            Resource::RenewalOrder => self.renewal_order.as_ref().map(|wanted| wanted.version),
            Resource::Unspecified => None,
        }
    }

    /// Whether all of it is in effect; of a revision that is acknowledged as a whole, only the credentials count.
    pub(crate) fn is_met_by(&self, versions: &Versions) -> bool {
        let counts = |resource: &Resource| {
            self.acknowledgement == Acknowledgement::EachResource || *resource == Resource::ClientCredentials
        };
        let met = |resource| self.version(resource).is_none_or(|version| versions.of(resource) == Some(version));
        RESOURCES.into_iter().filter(counts).all(met)
    }

    fn take(&mut self, message: Snapshot) -> Vec<Resource> {
        self.revision = message.revision;
        if let Some(max_age) = message.key_set_max_age_duration.and_then(|age| Duration::try_from(age).ok()) {
            self.key_set_max_age = max_age.min(LONGEST_MAX_AGE);
        }
        let said: Vec<(Resource, u64)> = match self.acknowledgement {
            Acknowledgement::EachResource => {
                let versions = message.versions.iter();
                versions.map(|said| (said.resource(), said.version)).collect()
            }
            // No version of a broker that says some is like these.
            Acknowledgement::WholeRevision => {
                RESOURCES.into_iter().map(|resource| (resource, !message.revision)).collect()
            }
        };
        let said_of = |resource| said.iter().find(|(said, _)| *said == resource).map(|(_, version)| *version);
        let mut came = Vec::new();
        let mut put = |resource, there: bool| said_of(resource).filter(|_| there).inspect(|_| came.push(resource));
        if let Some(version) = put(Resource::TrustBundle, message.trust_bundle.is_some()) {
            self.trust_bundle = message.trust_bundle.map(|content| Versioned { version, content });
        }
        if let Some(version) = put(Resource::Homes, true) {
            self.homes = Some(Versioned { version, content: message.homes });
        }
        if let Some(version) = put(Resource::RenewalOrder, message.renewal_order.is_some()) {
            self.renewal_order = message.renewal_order.map(|content| Versioned { version, content });
        }
        if let Some(version) = put(Resource::KeySet, !message.key_set.is_empty()) {
            let content = String::from_utf8_lossy(&message.key_set).into_owned();
            self.key_set = Some(Versioned { version, content });
        }
        if let Some(version) = put(Resource::ClientCredentials, message.client_credentials.is_some()) {
            self.credentials = message.client_credentials.map(|content| Versioned { version, content });
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use homeward_proto::v1::ResourceVersion;

    use super::*;

    fn version(resource: Resource, version: u64) -> ResourceVersion {
        ResourceVersion { resource: resource.into(), version }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            revision: 3,
            client_credentials: Some(ClientCredentials {
                client_id: "beta".to_owned(),
                ..ClientCredentials::default()
            }),
            key_set: b"{}".to_vec().into(),
            homes: vec![HomeEntry::default()],
            versions: vec![
                version(Resource::ClientCredentials, 11),
                version(Resource::KeySet, 12),
                version(Resource::Homes, 13),
            ],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_delta_changes_only_what_it_names() {
        let mut wanted = Wanted::of(snapshot());
        assert_eq!(wanted.taken_back, [Resource::RenewalOrder], "all that there is, and no order");
        let changes = Snapshot {
            revision: 4,
            key_set: b"{\"keys\":[]}".to_vec().into(),
            versions: vec![version(Resource::KeySet, 22)],
            ..Snapshot::default()
        };
        assert_eq!(wanted.merge(Delta { changes: Some(changes), removed: Vec::new() }), [Resource::KeySet]);
        assert_eq!((wanted.revision, wanted.taken_back.len()), (4, 0));
        assert_eq!(wanted.version(Resource::KeySet), Some(22));
        assert_eq!(wanted.version(Resource::ClientCredentials), Some(11));
        assert_eq!(wanted.homes.as_ref().unwrap().content.len(), 1, "not named, so not emptied");
    }

    #[test]
    fn what_is_removed_is_wanted_no_more() {
        let mut wanted = Wanted::of(snapshot());
        let removed = vec![Resource::Homes.into(), Resource::KeySet.into(), 99];
        wanted.merge(Delta { changes: None, removed });
        assert_eq!(wanted.version(Resource::Homes), None);
        assert_eq!(wanted.version(Resource::KeySet), Some(12), "nobody can do without a key set");
        assert_eq!(wanted.taken_back, [Resource::Homes]);
    }

    #[test]
    fn a_broker_without_versions_gets_one_acknowledgement() {
        let wanted = Wanted::of(Snapshot { versions: Vec::new(), ..snapshot() });
        assert_eq!(wanted.acknowledgement, Acknowledgement::WholeRevision);
        assert!(wanted.credentials.is_some() && wanted.key_set.is_some() && wanted.renewal_order.is_none());
        assert_eq!(Wanted::of(snapshot()).acknowledgement, Acknowledgement::EachResource);
    }
}
