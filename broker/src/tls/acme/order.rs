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
    HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
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

/// Before the name of a problem (RFC 8555 6.7).
const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// The account is none (any more), or was deactivated or revoked (RFC 8555 7.3.6).
const NO_ACCOUNT: &str = "accountDoesNotExist";
const UNAUTHORIZED: &str = "unauthorized";

/// What a CA says that came to the name and did not find us.
const NOT_FOUND_THERE: [&str; 6] = [UNAUTHORIZED, "caa", "connection", "dns", "incorrectResponse", "tls"];

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

/// Tells the CA where it reaches us from now on.
pub(super) async fn tell_contact(account: &Account, contact: &[String]) -> Result<(), instant_acme::Error> {
    account.update_contacts(&contact.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// The account that there is.
pub(super) async fn known(outbound: &Outbound, credentials: AccountCredentials) -> Result<Account, OrderError> {
    Ok(client(outbound).from_credentials(credentials).await?)
}

/// Orders a certificate for this host.
pub(super) async fn order(account: &Account, host: &str, challenges: &Challenges) -> Result<Ordered, OrderError> {
    let host_only = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&host_only)).await.map_err(refused)?;
    authorize(&mut order, challenges).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(why_not(&mut order).await),
        Err(error) => return Err(not_ready(error, order.state().error.is_some())),
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

/// An account that may not order is none.
fn refused(error: instant_acme::Error) -> OrderError {
    match error {
        instant_acme::Error::Api(problem) if name(&problem) == Some(UNAUTHORIZED) => OrderError::Refused(problem),
        error => error.into(),
    }
}

/// What a CA says while it is asked how an order is: about the name if the order itself carries it, or by what it is called.
/// Everything else is about the question: too many of them, or the CA is out of order.
fn not_ready(error: instant_acme::Error, carried: bool) -> OrderError {
    match error {
        instant_acme::Error::Api(problem)
            if carried || name(&problem).is_some_and(|name| NOT_FOUND_THERE.contains(&name)) =>
        {
            OrderError::NotOurs(problem.to_string())
        }
        error => error.into(),
    }
}

fn name(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.strip_prefix(PROBLEM)
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The CA did not find the answer.
    #[error("the CA does not find this broker at the public address, port 443: {0}")]
    NotOurs(String),
    /// Whose account it was.
    #[error("the CA does not take orders of this account any more: {0}")]
    Refused(Problem),
    /// The account was sealed by keys that are gone, or is none.
    #[error("the account at the CA cannot be used: {0}")]
    Account(#[source] crate::secret::SecretError),
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
    /// Whether the next try is better made with another account: pauses keep that from becoming many.
    pub(super) fn gives_up_account(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Account(_) => true,
            Self::Ca(instant_acme::Error::Api(problem)) => name(problem) == Some(NO_ACCOUNT),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretError;

    fn problem(name: &str) -> instant_acme::Error {
        let (r#type, detail) = (Some(format!("{PROBLEM}{name}")), Some("so it is".to_owned()));
        instant_acme::Error::Api(Problem { r#type, detail, status: None, subproblems: Vec::new() })
    }

    #[test]
    fn the_firewall_is_blamed_for_what_the_ca_met_at_the_name_only() {
        for name in NOT_FOUND_THERE {
            assert!(matches!(not_ready(problem(name), false), OrderError::NotOurs(_)), "{name}");
        }
        for name in ["rateLimited", "serverInternal", "badNonce", NO_ACCOUNT] {
            assert!(matches!(not_ready(problem(name), false), OrderError::Ca(_)), "{name}");
            assert!(matches!(not_ready(problem(name), true), OrderError::NotOurs(_)), "{name} of the order itself");
        }
        assert!(matches!(not_ready(instant_acme::Error::Str("no time"), true), OrderError::Ca(_)));
    }

    #[test]
    fn an_account_that_is_of_no_use_is_given_up_and_no_other() {
        assert!(refused(problem(UNAUTHORIZED)).gives_up_account());
        assert!(refused(problem(NO_ACCOUNT)).gives_up_account());
        assert!(not_ready(problem(NO_ACCOUNT), false).gives_up_account());
        assert!(OrderError::Account(SecretError::NotSealedForThis).gives_up_account());
        for name in ["rateLimited", "rejectedIdentifier", "userActionRequired", "serverInternal"] {
            assert!(!refused(problem(name)).gives_up_account(), "{name}");
        }
        // Of the name, that is.
        assert!(!not_ready(problem(UNAUTHORIZED), false).gives_up_account());
        assert!(!OrderError::Secret(SecretError::NotSealedForThis).gives_up_account());
        assert!(!OrderError::TimedOut.gives_up_account());
    }
}
