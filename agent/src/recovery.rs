//! Coming back by the recovery key, when the certificate is no longer good: the broker sends a challenge, the agent signs
//! it together with a new key and the generation of the last certificate that it has. The broker is judged by the trust
//! bundle that was kept, as always; what is missing is only our own certificate.
//!
//! The generation is said truthfully: one that was followed already shows the broker that there are two agents with this
//! identity, and which of them is the thief it leaves to people.

use std::time::Duration;

use homeward_certs::bundle::{BundleError, TrustBundle};
use homeward_certs::csr::KeyError;
use homeward_certs::proof::RecoveryTranscript;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::{BeginRecoveryRequest, RecoverRequest, RecoverResponse};
use thiserror::Error;
use tonic::{Response, Status};

use crate::clock;
use crate::connection::{Broker, DialError};
use crate::disk::{DiskError, PrivateDir};
use crate::identity::{Certificate, Identity, IdentityError};
use crate::renewal::pending::Pending;

/// What is kept of a recovery that is under way.
const FILE: &str = "recovery.json";
/// For each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the instance is not back.
#[derive(Debug, Error)]
pub(crate) enum RecoveryError {
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

/// Asks for a certificate over a new key, and uses it.
pub(crate) async fn recover(data: &PrivateDir, identity: &Identity, broker: &Broker) -> Result<(), RecoveryError> {
    let pending = Pending::resume_or_begin(data, FILE, identity)?;
    let mut client = EnrolmentServiceClient::new(broker.connect_without_certificate().await?);
    let request = BeginRecoveryRequest { instance: identity.instance().to_string() };
    let challenge = in_time(client.begin_recovery(request)).await?.challenge;
    let answer = in_time(client.recover(sign(identity, &pending, challenge)?)).await?;
    let RecoverResponse { certificate_chain, trust_bundle, generation, .. } = answer;
    let bundle = trust_bundle.ok_or(RecoveryError::Incomplete)?;
    let bundle = TrustBundle::new(bundle.version, bundle.certificates)?;
    let name = (&identity.instance(), &identity.trust_domain());
    let certificate = Certificate::accept(certificate_chain, generation, &pending.key()?, name, clock::now())?;
    identity.renew(certificate, bundle)?;
    Ok(data.remove(FILE)?)
}

fn sign(identity: &Identity, pending: &Pending, challenge: Vec<u8>) -> Result<RecoverRequest, RecoveryError> {
    let (key, request_id, generation) = (pending.key()?, pending.request_id(), identity.certificate_generation());
    let transcript = RecoveryTranscript::new(&challenge, request_id.as_bytes(), &key.pin(), generation);
    Ok(RecoverRequest {
        challenge,
        request_id: request_id.to_string(),
        csr: key.csr()?,
        generation,
        recovery_signature: identity.sign_by_recovery_key(transcript.as_bytes())?,
    })
}

async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, RecoveryError> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| RecoveryError::TimedOut)?;
    Ok(answer.map_err(Box::new)?.into_inner())
}
