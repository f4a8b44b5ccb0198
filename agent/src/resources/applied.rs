//! What the instance uses, as far as it may lie on disk: everything but the client secret, which is in the application's
//! files only. With the broker down, and after a restart, this is what the instance goes on with.

use homeward_proto::v1::{ClientCredentials, KeySetProof, KeySetProofMethod, Resource, ResourceVersion};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::RESOURCES;
use crate::disk::{DiskError, PrivateDir};

/// The file.
const FILE: &str = "applied.json";

/// What the instance uses. Files of agents that knew no versions of resources still load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last revision of which everything was in effect; 0 for none.
    pub revision: u64,
    /// Since when, in seconds since 1970.
    #[serde(default)]
    pub revision_at: Option<i64>,
    /// The revision that was in effect before the agent looked again, and since when: it may turn out to be still.
    #[serde(default)]
    pub(crate) looked_at: Option<(u64, i64)>,
    /// OAuth client id, if the instance is a relying party.
    pub client_id: Option<String>,
    /// Issuer of its tokens.
    pub issuer: Option<String>,
    /// Version of its secret or key.
    pub secret_version: u64,
    /// Whether the application has shown that it uses them.
    pub proved: bool,
    /// When it has shown so last, in seconds since 1970; unset if an agent saw it that did not note the time yet.
    #[serde(default)]
    pub proved_at: Option<i64>,
    /// What the agent has taken out of the application's own files because it breaks the application, and why.
    #[serde(default)]
    pub removed: Vec<String>,
    /// The broker's JWKS, as it came last.
    pub key_set: String,
    /// The homes whose users it accepts: name, and the name people read.
    pub homes: Vec<(String, String)>,
    /// Which version of each resource is in effect.
    #[serde(default)]
    pub versions: Versions,
    /// Which keys the application is known to verify with.
    #[serde(default)]
    pub proved_keys: ProvedKeys,
    /// When that was known first, in seconds since 1970.
    #[serde(default)]
    pub keys_proved_at: Option<i64>,
    /// The wait for caches to expire, when nothing better shows that the application has the key set.
    #[serde(default)]
    pub(crate) key_set_wait: Option<KeySetWait>,
}

/// Opaque versions of the resources in effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Versions {
    client_credentials: Option<u64>,
    key_set: Option<u64>,
    trust_bundle: Option<u64>,
    homes: Option<u64>,
    renewal_order: Option<u64>,
}

/// Keys that the application is known to verify with, and how that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvedKeys {
    /// Their ids.
    pub key_ids: Vec<String>,
    /// The proto's name of the method; empty as long as nothing was proved.
    pub method: String,
}

/// A wait for caches, which a restart neither shortens nor begins again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeySetWait {
    /// Version of the key set.
    pub(crate) version: u64,
    /// Seconds since 1970.
    pub(crate) over_at: i64,
}

/// When an application has shown that it uses its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proved {
    /// Just now.
    Now(OffsetDateTime),
    /// Before, or there is none that could.
    Before,
}

impl Applied {
    /// Takes over which credentials are in effect, and that the application has shown it: now, or before.
    pub(crate) fn use_credentials(&mut self, credentials: &ClientCredentials, version: u64, proved: Proved) {
        if let Proved::Now(now) = proved {
            self.proved_at = Some(now.unix_timestamp());
        }
        self.client_id = Some(credentials.client_id.clone());
        self.issuer = Some(credentials.issuer.clone());
        self.secret_version = credentials.secret_version;
        self.proved = true;
        self.versions.set(Resource::ClientCredentials, Some(version));
    }

    /// Whether the application has shown that it uses these very credentials.
    pub(crate) fn proves(&self, credentials: &ClientCredentials) -> bool {
        self.proved
            && self.client_id.as_ref() == Some(&credentials.client_id)
            && self.issuer.as_ref() == Some(&credentials.issuer)
            && self.secret_version == credentials.secret_version
    }

    /// The broker is to send the credentials again: whether they are in place, only they can tell.
    pub(crate) fn ask_for_credentials(&mut self) {
        self.look_again();
        self.versions.set(Resource::ClientCredentials, None);
    }

    /// Nothing is known of the credentials any more: the broker is to send them again.
    pub(crate) fn forget_credentials(&mut self) {
        self.proved = false;
        self.proved_at = None;
        (self.revision, self.revision_at, self.looked_at) = (0, None, None);
        self.versions.set(Resource::ClientCredentials, None);
    }

    /// All of a revision is in effect: since now, unless it was before the agent looked again.
    pub(crate) fn complete(&mut self, revision: u64, now: OffsetDateTime) {
        let before = self.looked_at.take().filter(|(known, _)| *known == revision).map(|(_, at)| at);
        (self.revision, self.revision_at) = (revision, Some(before.unwrap_or_else(|| now.unix_timestamp())));
    }

    fn look_again(&mut self) {
        if let (1.., Some(at)) = (self.revision, self.revision_at) {
            self.looked_at = Some((self.revision, at));
        }
        (self.revision, self.revision_at) = (0, None);
    }

    /// What was applied last.
    pub fn load(data: &PrivateDir) -> Result<Self, DiskError> {
        Ok(data.load(FILE)?.unwrap_or_default())
    }

    /// Nothing, as after an enrolment: what another identity had does not count.
    pub(crate) fn forget(data: &PrivateDir) -> Result<(), DiskError> {
        data.remove(FILE)
    }

    pub(crate) fn store(&self, data: &PrivateDir) -> Result<(), DiskError> {
        data.store(FILE, self)
    }
}

impl Versions {
    /// The version in effect.
    pub(crate) fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::ClientCredentials => self.client_credentials,
            Resource::KeySet => self.key_set,
            Resource::TrustBundle => self.trust_bundle,
            Resource::Homes => self.homes,
            Resource::RenewalOrder => self.renewal_order,
            Resource::Unspecified => None,
        }
    }

    /// Another one, or none.
    pub(crate) fn set(&mut self, resource: Resource, version: Option<u64>) {
        match resource {
            Resource::ClientCredentials => self.client_credentials = version,
            Resource::KeySet => self.key_set = version,
            Resource::TrustBundle => self.trust_bundle = version,
            Resource::Homes => self.homes = version,
            Resource::RenewalOrder => self.renewal_order = version,
            Resource::Unspecified => {}
        }
    }

    /// As the broker hears them.
    pub(crate) fn to_wire(self) -> Vec<ResourceVersion> {
        let one = |resource| self.of(resource).map(|version| ResourceVersion { resource: resource.into(), version });
        RESOURCES.into_iter().filter_map(one).collect()
    }
}

impl ProvedKeys {
    /// These keys, known in this way.
    pub(crate) fn new(key_ids: Vec<String>, method: KeySetProofMethod) -> Self {
        Self { key_ids, method: method.as_str_name().to_owned() }
    }

    /// Whether all of them are among those proved in this way.
    pub(crate) fn cover(&self, key_ids: &[String], method: KeySetProofMethod) -> bool {
        self.method == method.as_str_name() && key_ids.iter().all(|id| self.key_ids.contains(id))
    }

    /// As the broker hears it; `None` as long as nothing was proved.
    pub(crate) fn to_wire(&self) -> Option<KeySetProof> {
        let method = KeySetProofMethod::from_str_name(&self.method)?;
        Some(KeySetProof { key_ids: self.key_ids.clone(), method: method.into() })
    }
}

impl KeySetWait {
    /// How long it still takes. A clock that was set back does not make it longer than it was at first.
    pub(crate) fn remaining(&self, whole: std::time::Duration, now: OffsetDateTime) -> std::time::Duration {
        let seconds = self.over_at.saturating_sub(now.unix_timestamp());
        std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(whole)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_without_versions_loads_and_asks_for_everything() {
        let text = r#"{"revision":7,"client_id":"beta","issuer":"https://login.example","secret_version":1,"proved":true,
            "key_set":"{}","homes":[["alpha","Alpha"]]}"#;
        let applied: Applied = serde_json::from_str(text).unwrap();
        assert_eq!((applied.revision, applied.versions.to_wire()), (7, Vec::new()));
        assert!(applied.proved && applied.proved_keys.to_wire().is_none());
        assert_eq!((applied.proved_at, applied.keys_proved_at, applied.revision_at), (None, None, None));
    }

    #[test]
    fn the_last_proof_is_that_of_the_credentials_in_use() {
        let (mut applied, credentials) = (Applied::default(), ClientCredentials::default());
        let at = OffsetDateTime::from_unix_timestamp(1000).unwrap();
        applied.use_credentials(&credentials, 1, Proved::Now(at));
        applied.use_credentials(&credentials, 1, Proved::Before);
        assert_eq!(applied.proved_at, Some(1000), "looked at again, and not proved again");
        applied.forget_credentials();
        assert_eq!(applied.proved_at, None);
    }

    #[test]
    fn a_revision_is_in_effect_since_it_was_so_first() {
        let (mut applied, at) = (Applied::default(), |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        applied.complete(7, at(1000));
        for now in [2000, 3000] {
            applied.ask_for_credentials();
            applied.ask_for_credentials();
            assert_eq!((applied.revision, applied.revision_at), (0, None));
            applied.complete(7, at(now));
            assert_eq!((applied.revision, applied.revision_at), (7, Some(1000)));
        }
        applied.ask_for_credentials();
        applied.complete(8, at(4000));
        assert_eq!(applied.revision_at, Some(4000));
        applied.forget_credentials();
        applied.complete(8, at(5000));
        assert_eq!(applied.revision_at, Some(5000), "nothing was known of it meanwhile");
    }

    #[test]
    fn versions_are_told_as_they_were_set() {
        let mut versions = Versions::default();
        for (number, resource) in RESOURCES.into_iter().enumerate() {
            versions.set(resource, Some(number as u64));
            assert_eq!(versions.of(resource), Some(number as u64));
        }
        assert_eq!(versions.to_wire().len(), 5);
        let kept: Versions = serde_json::from_str(&serde_json::to_string(&versions).unwrap()).unwrap();
        assert_eq!(kept, versions);
    }

    #[test]
    fn a_wait_ends_and_never_grows() {
        let wait = KeySetWait { version: 1, over_at: 1000 };
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let whole = Duration::from_secs(120);
        assert_eq!(wait.remaining(whole, at(940)), Duration::from_secs(60));
        assert_eq!(wait.remaining(whole, at(2000)), Duration::ZERO);
        assert_eq!(wait.remaining(whole, at(-5000)), whole, "the clock was set back");
    }
}
