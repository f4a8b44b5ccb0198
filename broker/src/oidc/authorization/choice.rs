//! POST /login/home: the home picker and its answer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use url::Url;

use crate::login::{HomeChoice, LoginError, Reply, Transaction};
use crate::oidc::authorization::Onward;
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::{HomeStatus, Snapshot, Way};
use crate::web::{ANY_HTTPS, HomeButton, PickerPage, Visitor};

impl Provider {
    /// The question which home it shall be.
    ///
    /// # Errors
    /// When the relying party is gone, or the transaction cannot be sealed.
    pub(in crate::oidc) fn ask(
        &self,
        transaction: &Transaction,
        visitor: &Visitor,
        snapshot: &Snapshot,
    ) -> Result<Onward, LoginError> {
        let request = &transaction.request;
        let relying_party = snapshot.client(request.client_id.as_str()).ok_or(LoginError::RelyingPartyGone)?;
        let homes = self.login.homes(snapshot, &request.relying_party);
        let callback = match &request.reply {
            Reply::Callback { redirect_uri, .. } => redirect_uri.as_str(),
            Reply::Device { .. } => relying_party.public_url,
        };
        // Browsers hold every redirect after the form against form-action: to the home and, for someone who is signed
        // in there already, on to the relying party.
        // An identity provider goes where it likes before its user is back.
        let anywhere = snapshot.homes_for(&request.relying_party).into_iter();
        let anywhere = anywhere.filter(|home| matches!(home.way, Way::Provider(_))).map(|_| ANY_HTTPS);
        let form_targets = homes
            .iter()
            .map(|home| home.public_url.as_str())
            .chain(anywhere)
            .chain([relying_party.public_url, callback])
            .map(str::to_owned)
            .collect();
        let pages = &relying_party.relying_party.pages;
        let last_used = |home: &HomeChoice| visitor.home.as_ref() == Some(&home.name);
        let mut buttons: Vec<HomeButton> = homes.iter().map(|home| button(home, last_used(home))).collect();
        // Stable: by name, behind the one that was used last, and those that cannot be chosen at the end.
        buttons.sort_by_key(|button| (button.hindrance.is_some(), !button.last_used));
        let page = PickerPage {
            relying_party: relying_party.display_name.to_owned(),
            relying_party_host: host(relying_party.public_url),
            action: path::CHOOSE_HOME,
            transaction: self.login.seal(transaction)?,
            homes: buttons,
            policy: pages.policy.clone(),
            terms: pages.terms.clone(),
            form_targets,
        };
        Ok(Onward::Choose(Box::new(page)))
    }
}

fn button(home: &HomeChoice, last_used: bool) -> HomeButton {
    HomeButton {
        name: home.name.to_string(),
        display_name: home.display_name.clone(),
        host: host(&home.public_url),
        hindrance: match home.status {
            HomeStatus::Ready => None,
            HomeStatus::Offline => Some("Not connected right now. Try again later."),
            HomeStatus::NotReady => Some("Cannot log anybody in right now. Try again later."),
        },
        last_used,
    }
}

/// Host and port of an address, as people know it; its scheme where it has neither.
pub(in crate::oidc) fn host(public_url: &str) -> String {
    let url = Url::parse(public_url).ok();
    let named = url.map(|url| if url.has_host() { url.authority().to_owned() } else { format!("{}:", url.scheme()) });
    named.unwrap_or_default()
}

/// The user's answer.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let next = provider.choose_home(&parameters, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}
