//! What a simulated instance uses of what the broker sent, and the acknowledgement of it. Nothing here can fail to take
//! effect, so everything is acknowledged at once; each key of a key set counts as shown by the application.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use homeward_certs::bundle::TrustBundle;
use homeward_certs::tls::LiveBundle;
use homeward_proto::v1;
use serde_json::Value;

/// What one agent uses.
#[derive(Debug)]
pub(crate) struct InUse {
    revision: u64,
    versions: BTreeMap<i32, u64>,
    key_set: Option<Arc<KeySet>>,
    /// CAs that it accepts.
    pub(crate) bundle: Arc<LiveBundle>,
}

/// What a message of the broker brought, apart from what is acknowledged.
#[derive(Debug)]
pub(crate) struct Taken {
    /// To be sent.
    pub(crate) ack: v1::Ack,
    /// Set when the message had a key set.
    pub(crate) key_set: Option<Fingerprint>,
    /// Set when the message had a trust bundle.
    pub(crate) bundle_version: Option<u64>,
}

/// Tells one key set from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl InUse {
    /// Nothing but the trust bundle of the enrolment.
    pub(crate) fn nothing(bundle: Arc<LiveBundle>) -> Self {
        Self { revision: 0, versions: BTreeMap::new(), key_set: None, bundle }
    }

    /// What a stream begins with.
    pub(crate) fn hello(&self) -> v1::Hello {
        let version =
            |(resource, version): (&i32, &u64)| v1::ResourceVersion { resource: *resource, version: *version };
        v1::Hello {
            applied_revision: self.revision,
            agent_version: "fleet".to_owned(),
            state: Some(state()),
            resources: self.versions.iter().map(version).collect(),
            key_set_proof: self.key_set.as_deref().map(KeySet::proof),
        }
    }

    /// Uses what came from now on.
    ///
    /// # Errors
    /// When it cannot be used: a broker that sends such things has failed.
    pub(crate) fn take(&mut self, changes: v1::Snapshot, removed: &[i32], seen: &Seen) -> anyhow::Result<Taken> {
        let key_set = match changes.key_set.as_ref() {
            [] => None,
            text => Some(seen.key_set(text)?),
        };
        let bundle_version = changes.trust_bundle.as_ref().map(|bundle| bundle.version);
        if let Some(bundle) = changes.trust_bundle {
            self.bundle = seen.bundle(bundle)?;
        }
        self.key_set = key_set.clone().or(self.key_set.take());
        self.revision = changes.revision;
        self.versions.retain(|resource, _| !removed.contains(resource));
        self.versions.extend(changes.versions.iter().map(|version| (version.resource, version.version)));
        let key_set_proof = key_set.as_deref().map(KeySet::proof);
        let ack = v1::Ack { revision: changes.revision, resources: changes.versions, key_set_proof };
        Ok(Taken { ack, key_set: key_set.map(|key_set| key_set.fingerprint), bundle_version })
    }
}

/// An instance without worries.
pub(crate) fn state() -> v1::AgentState {
    v1::AgentState { application_healthy: true, home_ready: true, problem: String::new() }
}

/// What came last, read: all agents are sent the same, and reading it ten thousand times would take the time of the
/// broker, which has to do with the same processor.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    key_set: Mutex<Option<Arc<KeySet>>>,
    bundle: Mutex<Option<(v1::TrustBundle, Arc<LiveBundle>)>>,
}

#[derive(Debug)]
struct KeySet {
    text: Vec<u8>,
    fingerprint: Fingerprint,
    key_ids: Vec<String>,
}

impl Seen {
    fn key_set(&self, text: &[u8]) -> anyhow::Result<Arc<KeySet>> {
        let mut last = self.key_set.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(key_set) if key_set.text == text => Ok(key_set.clone()),
            _ => Ok(last.insert(Arc::new(KeySet::read(text)?)).clone()),
        }
    }

    fn bundle(&self, bundle: v1::TrustBundle) -> anyhow::Result<Arc<LiveBundle>> {
        let mut last = self.bundle.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((seen, live)) if *seen == bundle => Ok(live.clone()),
            _ => {
                let live = LiveBundle::new(&TrustBundle::new(bundle.version, bundle.certificates.clone())?)?;
                Ok(last.insert((bundle, live)).1.clone())
            }
        }
    }
}

impl KeySet {
    fn read(text: &[u8]) -> anyhow::Result<Self> {
        let jwks: Value = serde_json::from_slice(text).context("the key set is not JSON")?;
        let keys = jwks["keys"].as_array().context("the key set has no keys")?;
        let key_id = |key: &Value| Some(key["kid"].as_str()?.to_owned());
        let hash = digest(&SHA256, text);
        let first = hash.as_ref().first_chunk::<8>().context("SHA-256 is longer")?;
        Ok(Self {
            text: text.to_owned(),
            fingerprint: Fingerprint(u64::from_be_bytes(*first)),
            key_ids: keys.iter().filter_map(key_id).collect(),
        })
    }

    fn proof(&self) -> v1::KeySetProof {
        v1::KeySetProof { key_ids: self.key_ids.clone(), method: v1::KeySetProofMethod::Shown.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use homeward_certs::authority::CertificateAuthority;

    use super::*;

    const KEY_SET: i32 = v1::Resource::KeySet as i32;
    const HOMES: i32 = v1::Resource::Homes as i32;

    fn in_use() -> InUse {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ca = CertificateAuthority::generate("x.example".parse().unwrap(), now, Duration::from_secs(60)).unwrap();
        InUse::nothing(LiveBundle::new(&TrustBundle::new(1, vec![ca.certificate().to_vec()]).unwrap()).unwrap())
    }

    fn version(resource: i32, version: u64) -> v1::ResourceVersion {
        v1::ResourceVersion { resource, version }
    }

    fn changes(revision: u64, key_set: &'static str, versions: Vec<v1::ResourceVersion>) -> v1::Snapshot {
        v1::Snapshot { revision, key_set: key_set.as_bytes().into(), versions, ..v1::Snapshot::default() }
    }

    #[test]
    fn what_was_taken_is_acknowledged_and_said_in_the_next_hello() {
        let (mut in_use, seen) = (in_use(), Seen::default());
        assert_eq!(in_use.hello().resources, []);
        let all = vec![version(KEY_SET, 7), version(HOMES, 1)];
        let taken = in_use.take(changes(3, r#"{"keys":[{"kid":"a"}]}"#, all.clone()), &[], &seen).unwrap();
        assert_eq!((taken.ack.revision, &taken.ack.resources), (3, &all));
        assert_eq!(taken.ack.key_set_proof.unwrap().key_ids, ["a"]);

        let delta = changes(4, r#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#, vec![version(KEY_SET, 8)]);
        let next = in_use.take(delta, &[HOMES], &seen).unwrap();
        assert_ne!(next.key_set, taken.key_set);
        let hello = in_use.hello();
        assert_eq!((hello.applied_revision, hello.resources), (4, vec![version(KEY_SET, 8)]));
        assert_eq!(hello.key_set_proof.unwrap().key_ids, ["a", "b"]);

        let other = in_use.take(changes(5, "", vec![version(HOMES, 2)]), &[], &seen).unwrap();
        assert_eq!((other.key_set, other.ack.key_set_proof), (None, None));
        assert!(in_use.hello().key_set_proof.is_some());
    }

    #[test]
    fn a_key_set_that_is_none_is_refused() {
        assert!(in_use().take(changes(1, "{}", Vec::new()), &[], &Seen::default()).is_err());
    }
}
