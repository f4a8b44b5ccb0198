//! The renewal loop: wait for the moment that was drawn for this certificate, or for the one within the broker's order
//! ([`order`]), ask for the next certificate over a new key, use it, repeat. Key and request id are kept until the answer
//! is ([`pending`]), so that a lost answer is asked for again. The recovery key signs which certificate is to be followed.

pub(crate) mod order;
pub(crate) mod pending;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::proof::RenewalTranscript;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::{RenewRequest, RenewResponse};
use time::OffsetDateTime;
use tonic::Code;

use self::order::Orders;
use self::pending::{Answer, Pending, RequestError, in_time};
use crate::backoff::Backoff;
use crate::connection::Broker;
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::{clock, random, refusal};

/// What is kept of a renewal that is under way.
const FILE: &str = "renewal.json";
/// Longest sleep: a machine that was suspended, or whose clock was set, looks at the clock again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Why there is to be another certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Half its life is over.
    HalfLife,
    /// The broker has ordered it.
    Order,
}

/// Renews for ever.
pub(crate) async fn run(data: PrivateDir, identity: Arc<Identity>, broker: Arc<Broker>, orders: Arc<Orders>) {
    let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
    let mut ordered = orders.watch();
    loop {
        let (moment, occasion) = next(&identity, &orders);
        let wait = moment - clock::now();
        if wait.is_positive() {
            tokio::select! {
                () = tokio::time::sleep(wait.unsigned_abs().min(LONGEST_SLEEP)) => {}
                // The other end lives as long as `orders`.
                _ = ordered.changed() => {}
            }
            continue;
        }
        let Err(error) = renew(&data, &identity, &broker).await else {
            backoff.reset();
            let (generation, expires_at) = (identity.certificate_generation(), clock::rfc3339(identity.expires_at()));
            tracing::info!(generation, expires_at, "the instance has a new certificate");
            continue;
        };
        let expires_at = clock::rfc3339(identity.expires_at());
        if occasion == Occasion::Order && is_want_of_room(&error) && postpone(&orders) {
            tracing::info!(%error, expires_at, "the broker has no room for this renewal now; another moment is drawn");
            continue;
        }
        let pause = backoff.next(random::fraction()).max(retry_after(&error));
        tracing::warn!(%error, expires_at, retry_in = ?pause, "the certificate could not be renewed");
        tokio::time::sleep(pause).await;
    }
}

/// When, and why.
fn next(identity: &Identity, orders: &Orders) -> (OffsetDateTime, Occasion) {
    let by_life = identity.renew_at();
    match orders.due(identity.authority_pin()) {
        Some(by_order) if by_order < by_life => (by_order, Occasion::Order),
        _ => (by_life, Occasion::HalfLife),
    }
}

fn postpone(orders: &Orders) -> bool {
    let postponed = orders.postpone(clock::now(), random::fraction());
    postponed.inspect_err(|error| tracing::error!(%error, "the next moment for a renewal cannot be kept")).is_ok()
}

async fn renew(data: &PrivateDir, identity: &Identity, broker: &Broker) -> Result<(), RequestError> {
    let pending = Pending::resume_or_begin(data, FILE, identity)?;
    let key = pending.key()?;
    let generation = identity.certificate_generation();
    let transcript = RenewalTranscript::new(pending.request_id().as_bytes(), &key.pin(), generation);
    let request = RenewRequest {
        request_id: pending.request_id().to_string(),
        csr: key.csr()?,
        generation,
        recovery_signature: identity.sign_by_recovery_key(transcript.as_bytes())?,
    };
    let channel = broker.connect().await?;
    // The connection shows the certificate of the moment at which it came about. To follow an older one over it is what a
    // copy of this machine would do: it would raise the alarm.
    if identity.certificate_generation() != generation {
        return Err(RequestError::Overtaken);
    }
    let answer = in_time(async { EnrolmentServiceClient::new(channel).renew(request).await }).await?;
    let RenewResponse { certificate_chain: chain, trust_bundle: bundle, generation } = answer;
    pending.complete(Answer { chain, generation, bundle }, identity)?;
    Ok(data.remove(FILE)?)
}

fn is_want_of_room(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused(status) if status.code() == Code::ResourceExhausted)
}

fn retry_after(error: &RequestError) -> Duration {
    let RequestError::Refused(status) = error else { return Duration::ZERO };
    refusal::retry_after(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use homeward_proto::v1::sync_service_server::SyncServiceServer;
    use tonic::transport::Server;

    use super::*;
    use crate::test_authority::TestAuthority;
    use crate::test_broker::TestBroker;

    /// After an outage both are under way: a renewal that waits for the broker, and a recovery.
    #[tokio::test]
    async fn a_renewal_that_a_recovery_has_overtaken_names_no_older_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let (url, incoming) = authority.listen().await;
        let identity = Arc::new(authority.enrol(folder.path(), url));
        let broker = Broker::new(identity.clone()).unwrap();
        let data = PrivateDir::open(&folder.path().join("agent")).unwrap();
        let renewing = tokio::spawn({
            let identity = identity.clone();
            async move { renew(&data, &identity, &broker).await }
        });
        // It has begun, and nobody has answered its handshake.
        while !folder.path().join("agent").join(FILE).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        identity.renew(authority.certify("alpha", 2), authority.bundle()).unwrap();
        let server = Server::builder().add_service(SyncServiceServer::new(TestBroker::default()));
        tokio::spawn(server.serve_with_incoming(incoming));
        let renewed = renewing.await.unwrap();
        assert!(matches!(renewed, Err(RequestError::Overtaken)), "{renewed:?}");
    }
}
