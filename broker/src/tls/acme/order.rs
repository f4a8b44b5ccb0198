//! One order, from the account to the certificate (RFC 8555 7.1), over the broker's own way out.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use homeward_certs::csr::KeyError;
use homeward_certs::public::ServerKey;
use http::Request;
use http::header::USER_AGENT;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use zeroize::Zeroizing;

use crate::config::AcmeSettings;
use crate::outbound::Outbound;
use crate::storage::StoreError;
use crate::tls::acme::challenge::Challenges;

/// Largest answer, in bytes: a chain is the longest.
const LIMIT: usize = 256 * 1024;

/// How long the CA may take to check the name, and then to sign.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(120));

/// The problem of an account that the CA does not know (RFC 8555 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// What an order brings: the chain as PEM, and the key as PKCS#8.
pub(super) struct Ordered {
    pub(super) chain: String,
    pub(super) private_key: Zeroizing<Vec<u8>>,
}

/// The broker's way out, as the library wants it.
struct Way(Outbound);

impl HttpClient for Way {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let outbound = self.0.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            // The way out says it itself.
            head.headers.remove(USER_AGENT);
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(head, body.to_bytes().to_vec());
            let answered = outbound.ask(request, LIMIT).await;
            let answered = answered.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(answered.map(|body| Full::new(Bytes::from(body))).into())
        })
    }
}

fn client(outbound: &Outbound) -> AccountBuilder {
    Account::builder_with_http(Box::new(Way(outbound.clone())))
}

/// A new account at the CA.
pub(super) async fn register(
    outbound: &Outbound,
    settings: &AcmeSettings,
) -> Result<(Account, AccountCredentials), OrderError> {
    let contact: Vec<_> = settings.contact.iter().map(String::as_str).collect();
    // The configuration has accepted them.
    let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    Ok(client(outbound).create(&account, settings.directory.to_string(), None).await?)
}

/// The account that there is.
pub(super) async fn known(outbound: &Outbound, credentials: AccountCredentials) -> Result<Account, OrderError> {
    Ok(client(outbound).from_credentials(credentials).await?)
}

/// Orders a certificate for this host.
pub(super) async fn order(account: &Account, host: &str, challenges: &Challenges) -> Result<Ordered, OrderError> {
    let host_only = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&host_only)).await?;
    authorize(&mut order, challenges).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(why_not(&mut order).await),
        Err(instant_acme::Error::Api(problem)) => return Err(OrderError::NotOurs(problem.to_string())),
        Err(error) => return Err(error.into()),
    }
    let key = ServerKey::generate()?;
    order.finalize_csr(&key.csr(host)?).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Ordered { chain, private_key: key.to_pkcs8() })
}

/// Has the CA ask, for each name that it has not asked for lately.
async fn authorize(order: &mut Order, challenges: &Challenges) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(ChallengeType::TlsAlpn01).ok_or(OrderError::NoChallenge)?;
        challenges.put(challenge.key_authorization().digest().as_ref()).await?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the CA says about a name that it did not find to be ours.
async fn why_not(order: &mut Order) -> OrderError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let mut problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problems.next() {
            return OrderError::NotOurs(problem.detail.clone().unwrap_or_else(|| problem.to_string()));
        }
    }
    OrderError::NotOurs("it does not say why".to_owned())
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The CA did not find the answer.
    #[error("the CA does not find this broker at the public address, port 443: {0}")]
    NotOurs(String),
    /// Only by means that are not ours.
    #[error("the CA does not offer the challenge tls-alpn-01, which is the only one that a broker answers")]
    NoChallenge,
    /// The CA refuses, or does not answer.
    #[error("{0}")]
    Ca(#[from] instant_acme::Error),
    /// Not in the time that an order may take.
    #[error("the order did not come to an end in time")]
    TimedOut,
    /// The certificate's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The chain is none, or is for another key.
    #[error("what the CA gave is no certificate for the key: {0}")]
    Certificate(#[from] crate::tls::Unusable),
    /// What is sealed.
    #[error(transparent)]
    Secret(#[from] crate::secret::SecretError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OrderError {
    /// Whether the CA does not know the account (any more).
    pub(super) fn is_unknown_account(&self) -> bool {
        matches!(self, Self::Ca(instant_acme::Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
    }
}
