//! A request for a certificate that is under way: key and request id are on disk before they are sent, so that a lost
//! answer is asked for again and not a second certificate.

use homeward_certs::csr::{InstanceKey, KeyError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::PrivateDir;
use crate::identity::{Identity, IdentityError, SecretBytes};

/// A request under way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pending {
    request_id: Uuid,
    key: SecretBytes,
    /// Generation of the certificate that is to be followed; 0 in files of agents that did not say it.
    #[serde(default)]
    generation: u64,
}

impl Pending {
    /// The one that is kept in `file`, unless it was finished but for the removal of its file (its key is in use), or
    /// another request has overtaken it (another generation is).
    pub(crate) fn resume_or_begin(data: &PrivateDir, file: &str, identity: &Identity) -> Result<Self, IdentityError> {
        let generation = identity.certificate_generation();
        let unfinished = |pending: &Self| {
            let key = pending.key().map(|key| key.pin()).ok();
            key.is_some() && key != identity.key_pin() && pending.generation == generation
        };
        if let Some(pending) = data.load::<Self>(file)?.filter(unfinished) {
            return Ok(pending);
        }
        let key = SecretBytes(InstanceKey::generate()?.to_pkcs8());
        let pending = Self { request_id: Uuid::new_v4(), key, generation };
        data.store(file, &pending)?;
        Ok(pending)
    }

    /// The same in every retry.
    pub(crate) fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// The key to be certified.
    pub(crate) fn key(&self) -> Result<InstanceKey, KeyError> {
        InstanceKey::from_pkcs8(&self.key.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::test_authority::TestAuthority;

    #[test]
    fn a_lost_answer_is_asked_for_again_and_an_old_request_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let identity = authority.enrol(folder.path(), "https://login.example:8443".to_owned());
        let data = PrivateDir::open(&folder.path().join("agent")).unwrap();
        let resume = || Pending::resume_or_begin(&data, "renewal.json", &identity).unwrap().request_id();
        let first = resume();
        assert_eq!(resume(), first);
        identity.renew(authority.certify("alpha", 2), authority.bundle()).unwrap();
        assert_ne!(resume(), first, "it asked for the successor of another certificate");
    }
}
