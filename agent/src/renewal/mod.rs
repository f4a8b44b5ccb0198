//! The renewal loop: wait for the moment that was drawn for this certificate, ask for the next one over a new key, use
//! it, repeat. Key and request id are kept until the answer is, so that a lost answer is asked for again.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::{BundleError, TrustBundle};
use homeward_certs::csr::{InstanceKey, KeyError};
use homeward_proto::v1::RenewRequest;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tonic::Status;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::connection::{Broker, DialError};
use crate::disk::{DiskError, PrivateDir};
use crate::identity::{Certificate, Identity, IdentityError, SecretBytes};
use crate::{clock, random};

/// What is kept of a renewal that is under way.
const FILE: &str = "renewal.json";
/// Longest sleep: a machine that was suspended, or whose clock was set, looks at the clock again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// For the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
enum RenewalError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the broker refused the renewal: {0}")]
    Refused(#[from] Box<Status>),
    #[error("the broker did not answer the renewal in time")]
    TimedOut,
    #[error("the broker's answer is incomplete")]
    Incomplete,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    request_id: Uuid,
    key: SecretBytes,
}

/// Renews for ever.
pub(crate) async fn run(data: PrivateDir, identity: Arc<Identity>, broker: Arc<Broker>) {
    let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
    loop {
        let wait = identity.renew_at() - clock::now();
        if wait.is_positive() {
            tokio::time::sleep(wait.unsigned_abs().min(LONGEST_SLEEP)).await;
            continue;
        }
        match renew(&data, &identity, &broker).await {
            Ok(()) => {
                backoff.reset();
                let (generation, expires_at) =
                    (identity.certificate_generation(), clock::rfc3339(identity.expires_at()));
                tracing::info!(generation, expires_at, "the instance has a new certificate");
            }
            Err(error) => {
                let pause = backoff.next(random::fraction());
                let expires_at = clock::rfc3339(identity.expires_at());
                tracing::warn!(%error, expires_at, retry_in = ?pause, "the certificate could not be renewed");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn renew(data: &PrivateDir, identity: &Identity, broker: &Broker) -> Result<(), RenewalError> {
    let pending = Pending::resume_or_begin(data, identity)?;
    let key = InstanceKey::from_pkcs8(&pending.key.0)?;
    let request =
        RenewRequest { request_id: pending.request_id.to_string(), csr: key.csr()?, ..RenewRequest::default() };
    let channel = broker.connect().await?;
    let call = async { EnrolmentServiceClient::new(channel).renew(request).await };
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| RenewalError::TimedOut)?;
    let answer = answer.map_err(Box::new)?.into_inner();
    let bundle = answer.trust_bundle.ok_or(RenewalError::Incomplete)?;
    let bundle = TrustBundle::new(bundle.version, bundle.certificates)?;
    let name = (&identity.instance(), &identity.trust_domain());
    let certificate = Certificate::accept(answer.certificate_chain, answer.generation, &key, name, clock::now())?;
    identity.renew(certificate, bundle)?;
    data.remove(FILE)?;
    Ok(())
}

impl Pending {
    /// A renewal whose key is in use already was finished but for the removal of its file.
    fn resume_or_begin(data: &PrivateDir, identity: &Identity) -> Result<Self, RenewalError> {
        let unfinished = |pending: &Self| {
            InstanceKey::from_pkcs8(&pending.key.0).is_ok_and(|key| Some(key.pin()) != identity.key_pin())
        };
        if let Some(pending) = data.load::<Self>(FILE)?.filter(unfinished) {
            return Ok(pending);
        }
        let pending = Self { request_id: Uuid::new_v4(), key: SecretBytes(InstanceKey::generate()?.to_pkcs8()) };
        data.store(FILE, &pending)?;
        Ok(pending)
    }
}
