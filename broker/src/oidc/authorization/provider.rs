//! GET and POST /upstream/{name}/callback: the browser goes to the provider behind a home without agent, and comes back.
//!
//! The login flow makes and uses up the ticket, the upstream flow speaks to the provider; here they are put together.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use homeward_certs::identity::InstanceName;
use http::HeaderMap;
use tracing::info;

use crate::clock::Timestamp;
use crate::login::{Demand, LoginError, LoginFailure, Outcome, Transaction};
use crate::oidc::authorization::{Next, Onward};
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::{self, Parameters};
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::{Upstream, Way};
use crate::upstream::{Answer, Errand, UpstreamError, Upstreams, Why, Word};
use crate::web::{ClientAddress, UpstreamCookie, Visitor};

/// Most logins at providers that one browser has under way: more cookies would fill the head of its requests.
const UNDER_WAY: usize = 6;

impl Provider {
    /// Sends the browser home: to a portal with a ticket, or to a provider. A home that does not answer is shown on the
    /// picker as what it is.
    ///
    /// # Errors
    /// When the home is not accepted, or something failed.
    pub(super) async fn go_home(
        &self,
        transaction: &Transaction,
        home: &InstanceName,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        match self.set_out(transaction, home, visitor, now).await {
            Err(error) if error.is_home_not_ready() => {
                info!(transaction = %transaction.id, %home, cause = %error, "the home is not ready");
                Ok(self.ask(transaction, visitor, &self.registry.snapshot())?.into())
            }
            sent => sent,
        }
    }

    /// The same, to this home or to none.
    ///
    /// # Errors
    /// When the home is not accepted or not ready, or something failed.
    pub(in crate::oidc) async fn set_out(
        &self,
        transaction: &Transaction,
        home: &InstanceName,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        match self.registry.snapshot().home(home).map(|home| home.way) {
            Some(Way::Provider(upstream)) => self.depart(transaction, upstream, visitor, now).await,
            Some(Way::Portal(..)) | None => Ok(Onward::Address(self.login.ticket_address(transaction, home)?).into()),
        }
    }

    async fn depart(
        &self,
        transaction: &Transaction,
        upstream: &Upstream,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let (ticket, request) = (self.login.ticket(transaction, &upstream.name)?, &transaction.request);
        let demanded = [(Demand::Login, "login"), (Demand::SelectAccount, "select_account")];
        let demanded = demanded.into_iter().filter(|(demand, _)| request.prompt.demands(*demand));
        let prompts: Vec<&'static str> = demanded.map(|(_, prompt)| prompt).collect();
        let errand = Errand {
            transaction: &transaction.id.to_string(),
            ticket: &ticket,
            max_age: request.min_auth_time().map(|least| now.since(least).as_secs()),
            prompts: &prompts,
            login_hint: request.login_hint.as_deref(),
            acr_values: &request.wanted_classes(),
            ui_locales: request.ui_locales.as_deref(),
        };
        let departure = self.upstreams.depart(upstream, errand, now).await?;
        let mut next = Next::from(Onward::Address(departure.address));
        if visitor.upstreams.len() >= UNDER_WAY {
            next.cookies.upstreams = visitor.upstreams.iter().map(|cookie| UpstreamCookie::gone(&cookie.tag)).collect();
        }
        next.cookies.upstreams.push(UpstreamCookie { tag: departure.tag, value: departure.cookie });
        Ok(next)
    }

    /// Takes the answer of a provider, once, and goes on as if an agent had spoken.
    ///
    /// # Errors
    /// When it belongs to no login of this browser, was given before, or breaks a rule.
    async fn arrive(
        &self,
        home: &str,
        parameters: &Parameters,
        (visitor, address): (&Visitor, ClientAddress),
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let field = |name| parameters.get(name).map_err(|_| CallbackError::Parameters);
        let name: InstanceName = home.parse().map_err(|_| UpstreamError::StateUnknown)?;
        let upstream = self.registry.snapshot().upstream(&name).cloned().ok_or(UpstreamError::StateUnknown)?;
        let answer = Answer {
            state: field("state")?.unwrap_or_default(),
            issuer: field("iss")?,
            // DingTalk's word for it.
            code: field("code")?.or(field("authCode")?),
            error: field("error")?,
        };
        let tag = Upstreams::tag(answer.state).ok_or(UpstreamError::StateUnknown)?;
        let cookie = visitor.upstreams.iter().find(|cookie| cookie.tag == tag).ok_or(UpstreamError::StateUnknown)?;
        let heard = (&name, upstream.id);
        let recognised = self.upstreams.recognise(upstream, &answer, &cookie.value, now).await?;
        if !self.arrival_limits.admits(address.0) {
            return Err(BrowserError::TooManyArrivals);
        }
        let ticket = recognised.ticket.clone();
        let opened = self.login.claim_ticket(&name, &ticket, now).await?;
        info!(transaction = %opened.transaction, home = %name, "back from an identity provider");
        let outcome = match self.upstreams.hear(recognised, &answer, now).await? {
            Word::User(identity) => Outcome::Identity(identity),
            // An application that hears of it says that the user has cancelled.
            Word::Nobody(Why::Denied) if !opened.silent => return Err(UpstreamError::UserRefused.into()),
            Word::Nobody(why) => Outcome::Failure(failure(why)),
        };
        let back = self.login.complete_ticket(heard, &ticket, outcome, now).await?;
        let mut next = Next::from(Onward::Address(back));
        next.cookies.upstreams.push(UpstreamCookie::gone(tag));
        Ok(next)
    }
}

impl BrowserError {
    /// Whether another home, or a later try, may help.
    fn is_home_not_ready(&self) -> bool {
        matches!(
            self,
            Self::Login(LoginError::HomeNotReady)
                | Self::Upstream(UpstreamError::NotKnown | UpstreamError::Fetch(..) | UpstreamError::Answer(..))
                | Self::Upstream(UpstreamError::Metadata(_))
        )
    }
}

fn failure(why: Why) -> LoginFailure {
    match why {
        Why::LoginRequired => LoginFailure::LoginRequired,
        Why::Cancelled => LoginFailure::Cancelled,
        Why::Denied => LoginFailure::Denied,
        Why::Unavailable => LoginFailure::Unavailable,
    }
}

/// With the answer in the query.
pub(in crate::oidc) async fn get(
    State(provider): State<Arc<Provider>>,
    Path(home): Path<String>,
    Extension(address): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let visitor = (&Visitor::of(&headers), address);
    let next = provider.arrive(&home, &parameters, visitor, provider.clock.now()).await?;
    Ok(provider.send(next))
}

/// With the answer in a form (OAuth 2.0 Form Post Response Mode). The provider's page posts it, so that the browser keeps
/// its cookies back: it comes again as a GET, and brings them along.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    Path(home): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let name: InstanceName = home.parse().map_err(|_| UpstreamError::StateUnknown)?;
    let address = provider.issuer.address(&path::UPSTREAM_CALLBACK.replace("{name}", name.as_str()));
    let again = parameters::as_get(&address, &body).ok_or(CallbackError::Parameters)?;
    Ok(provider.send(Onward::Address(again).into()))
}
