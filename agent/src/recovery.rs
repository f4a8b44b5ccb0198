//! Coming back by the recovery key, when the certificate is no longer good: the broker sends a challenge, the agent signs
//! it together with a new key and the generation of the last certificate that it has. The broker is judged by the trust
//! bundle that was kept, as always; what is missing is only our own certificate.
//!
//! The generation is said truthfully: one that was followed already shows the broker that there are two agents with this
//! identity, and which of them is the thief it leaves to people.

use homeward_certs::proof::RecoveryTranscript;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::{BeginRecoveryRequest, RecoverRequest, RecoverResponse};

use crate::connection::Broker;
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::renewal::pending::{Answer, Pending, RequestError, in_time};

/// What is kept of a recovery that is under way.
const FILE: &str = "recovery.json";

/// Asks for a certificate over a new key, and uses it.
pub(crate) async fn recover(data: &PrivateDir, identity: &Identity, broker: &Broker) -> Result<(), RequestError> {
    let pending = Pending::resume_or_begin(data, FILE, identity)?;
    let mut client = EnrolmentServiceClient::new(broker.connect_without_certificate().await?);
    let request = BeginRecoveryRequest { instance: identity.instance().to_string() };
    let challenge = in_time(client.begin_recovery(request)).await?.challenge;
    let answer = in_time(client.recover(sign(identity, &pending, challenge)?)).await?;
    let RecoverResponse { certificate_chain: chain, trust_bundle: bundle, generation, .. } = answer;
    pending.complete(Answer { chain, generation, bundle }, identity)?;
    Ok(data.remove(FILE)?)
}

fn sign(identity: &Identity, pending: &Pending, challenge: Vec<u8>) -> Result<RecoverRequest, RequestError> {
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
