//! How an agent that slept through a change of the CA finds its broker again.
//!
//! `follow`: every trust bundle comes with a statement by a CA that the one before it trusts. They are fetched over a
//! connection that verifies nobody, because whoever answers cannot forge them; they lead from the bundle that was kept to
//! the newest, or nowhere. [`rebootstrap`] is for when they lead nowhere: the operator says which CA to trust, by its pin,
//! which he has from ops. The agent never trusts what merely happens to answer.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::{BundleError, BundleStatement, TrustBundle};
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::enrolment_config;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::{ListTrustBundlesRequest, TrustBundleStatement};
use thiserror::Error;
use tonic::Status;
use tonic::transport::Channel;

use crate::connection::{Address, Broker, DialError};
use crate::identity::{Identity, IdentityError};

/// For the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the broker's CA is still not trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The broker said no.
    #[error("the broker does not tell its trust bundles ({code:?}: {message})", code = .0.code(), message = .0.message())]
    Refused(#[from] Box<Status>),
    /// No answer.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// The statements lead nowhere.
    #[error(
        "no chain of signed statements leads from trust bundle {version}, which this agent has, to the broker's CA ({cause}); if ops have replaced the CA, ask them for its pin (homeward-broker ca show) and run: homeward-agent rebootstrap --pin sha256/…"
    )]
    Cut {
        /// What the agent has.
        version: u64,
        /// Where it ends.
        cause: Gap,
    },
    /// The operator's pin is of no CA there.
    #[error("the broker has no trust bundle with a CA of the pin {0}; check the pin with ops")]
    NoBundleOfPin(SpkiPin),
    /// The bundle, or where it is kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Where a chain of statements ends.
#[derive(Debug, Error)]
pub enum Gap {
    /// At its beginning.
    #[error("the broker knows none")]
    NoStatements,
    /// A statement that does not follow.
    #[error(transparent)]
    Wrong(#[from] BundleError),
}

/// Trusts the newest bundle that the statements lead to; its version.
pub(crate) async fn follow(identity: &Identity, broker: &Broker) -> Result<u64, TrustError> {
    let held = identity.trust_bundle();
    let version = held.version;
    let cut = |cause| TrustError::Cut { version, cause };
    let channel = broker.connect_unverified_for_bundle_statements().await?;
    let statements = list(channel, version).await?;
    if statements.is_empty() {
        return Err(cut(Gap::NoStatements));
    }
    let statements =
        statements.into_iter().map(read).collect::<Result<Vec<_>, _>>().map_err(|error| cut(error.into()))?;
    let newest = held.follow(&statements).map_err(|error| cut(error.into()))?;
    let version = newest.version;
    identity.trust(newest)?;
    Ok(version)
}

/// Trusts the newest bundle with a CA of this pin, in place of whatever is trusted now; its version. The connection itself
/// is judged by the pin.
pub async fn rebootstrap(identity: &Identity, pin: SpkiPin) -> Result<u64, TrustError> {
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let tls = enrolment_config(vec![pin], identity.trust_domain(), clock).map_err(DialError::from)?;
    let address = Address::parse(&identity.agent_url())?;
    let channel = address.channel(address.dial(Arc::new(tls)).await?).await?;
    let statements = list(channel, 0).await?;
    let bundles = statements.into_iter().filter_map(|statement| read(statement).ok()).map(|statement| statement.bundle);
    let newest = bundles.filter(|bundle| bundle.trusts(&pin)).max_by_key(|bundle| bundle.version);
    let newest = newest.ok_or(TrustError::NoBundleOfPin(pin))?;
    let version = newest.version;
    identity.trust_instead(newest)?;
    Ok(version)
}

async fn list(channel: Channel, from_version: u64) -> Result<Vec<TrustBundleStatement>, TrustError> {
    let request = ListTrustBundlesRequest { from_version };
    let call = async { EnrolmentServiceClient::new(channel).list_trust_bundles(request).await };
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| TrustError::TimedOut)?;
    Ok(answer.map_err(Box::new)?.into_inner().statements)
}

fn read(statement: TrustBundleStatement) -> Result<BundleStatement, BundleError> {
    let TrustBundleStatement { trust_bundle, signer_pin, signature } = statement;
    let bundle = trust_bundle.ok_or(BundleError::Empty)?;
    let signer = signer_pin.try_into().map_err(|_| BundleError::StrangeSigner)?;
    let bundle = TrustBundle::new(bundle.version, bundle.certificates)?;
    Ok(BundleStatement { bundle, signer: SpkiPin::from_bytes(signer), signature })
}
