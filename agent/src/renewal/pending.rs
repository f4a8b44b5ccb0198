//! A request for the next certificate that is under way, by renewal or by recovery: key and request id are on disk before
//! they are sent, so that a lost answer is asked for again and not a second certificate.

use std::time::Duration;

use homeward_certs::bundle::{BundleError, TrustBundle};
use homeward_certs::csr::{InstanceKey, KeyError};
use homeward_proto::v1;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::clock;
use crate::connection::DialError;
use crate::disk::{DiskError, PrivateDir};
use crate::identity::{Certificate, Identity, IdentityError, SecretBytes};

/// For each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

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

/// What the broker answers to such a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Leaf first, DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Of the leaf.
    pub(crate) generation: u64,
    /// What to trust.
    pub(crate) bundle: Option<v1::TrustBundle>,
}

/// Why the instance has no next certificate.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The broker said no.
    #[error("the broker refused ({code:?}: {message})", code = .0.code(), message = .0.message())]
    Refused(#[from] Box<Status>),
    /// No answer.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// No bundle in the answer.
    #[error("the broker's answer is incomplete")]
    Incomplete,
    /// What was asked for is no longer wanted.
    #[error("a recovery has brought another certificate meanwhile")]
    Overtaken,
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The answer's bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The answer's certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
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

    /// Uses the certificate that was asked for.
    pub(crate) fn complete(&self, answer: Answer, identity: &Identity) -> Result<(), RequestError> {
        let bundle = answer.bundle.ok_or(RequestError::Incomplete)?;
        let bundle = TrustBundle::new(bundle.version, bundle.certificates)?;
        let name = (&identity.instance(), &identity.trust_domain());
        let certificate = Certificate::accept(answer.chain, answer.generation, &self.key()?, name, clock::now())?;
        Ok(identity.renew(certificate, bundle)?)
    }
}

/// The broker's answer, if it comes soon.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, RequestError> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| RequestError::TimedOut)?;
    Ok(answer.map_err(Box::new)?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
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
