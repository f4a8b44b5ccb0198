//! GET and POST /account/link: two homes are linked.
//!
//! 1. The account page's form begins it ([`Provider::begin_link`]): the user signs in anew at his own home.
//! 2. [`Provider::prove_for_link`] takes what the home said; the page of this address sends him on to the other home.
//! 3. When he has signed in there too, the page says what a link means, and his yes makes it ([`Provider::link`]).
//!
//! None of the two logins changes who is signed in here: it is the session that began which is asked at the end, and its
//! form that answers. So nobody links an account of his own to a victim's, or a victim's to his own, without having the
//! victim sign in at a page of that home and say yes to a question that names both accounts.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use tracing::info;

use crate::audit::Kind;
use crate::clock::Timestamp;
use crate::login::{
    LinkOrder, LinkingError, LoginError, PendingLink, ProvenAccount, Refusal, Returned, Stage, vouched_for,
};
use crate::oidc::account::links::{applications, home_name, is_offered, noted, target};
use crate::oidc::authorization::{Next, Onward};
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::{LinkedAccount, VerifiedIdentity};
use crate::secret::OpaqueSecret;
use crate::sessions::FoundSession;
use crate::storage::{StoreError, Write};
use crate::web::{LinkPage, LinkQuestion, StrangerPage, Visitor};

/// How often the link is tried again when something changed in between.
const TRIES: usize = 4;

/// GET: what comes next.
pub(in crate::oidc) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    provider.show_link(&parameters, &Visitor::of(&headers), provider.clock.now()).await
}

/// POST: on to the other home, or yes, or no.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    provider.answer_link(&parameters, &Visitor::of(&headers), provider.clock.now()).await
}

impl Provider {
    /// Begins to link the user's home with another one.
    ///
    /// # Errors
    /// When no application would take the one's users for the other's, or the user's home is not ready.
    pub(super) async fn begin_link(
        &self,
        own: &FoundSession,
        other: &str,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let (snapshot, session) = (self.registry.snapshot(), &own.session);
        let same = snapshot.home_id(&session.home) == Some(session.home_id);
        let offered = snapshot.linkable(&session.home).into_iter().find(|(home, _)| home.name.as_str() == other);
        let (home, _) = offered.filter(|_| same).ok_or(LinkingError::NotOffered)?;
        // One binding for all tabs, as for logins.
        let browser = match visitor.browser.clone() {
            Some(browser) => browser,
            None => OpaqueSecret::generate().map_err(LoginError::from)?.expose().to_owned(),
        };
        let order = LinkOrder {
            session: &own.id,
            user: &session.user,
            home: &session.home,
            other: home.name,
            quarantines: [&session.home, home.name].map(|home| snapshot.quarantines(home)),
            browser: &browser,
        };
        let pending = PendingLink::begin(&order, now).map_err(LoginError::from)?;
        info!(session = %own.id, home = %session.home, other, "a user begins to link homes");
        self.sign_in_for_link(pending, &browser, visitor, now).await
    }

    /// Sends the browser to the home where the user has to sign in next.
    async fn sign_in_for_link(
        &self,
        pending: PendingLink,
        browser: &str,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let home = pending.next_home().cloned().ok_or(LinkingError::OtherSession)?;
        let transaction = self.login.begin_for_link(pending, browser, self.issuer.address(path::LINK), now)?;
        let mut next = self.set_out(&transaction, &home, visitor, now).await?;
        next.cookies.browser = Some(browser.to_owned());
        Ok(self.send(next))
    }

    /// Takes what a home said of who has just signed in there.
    ///
    /// # Errors
    /// When it is nobody, not fresh, or not the one who began in this session.
    pub(in crate::oidc) async fn prove_for_link(
        &self,
        pending: PendingLink,
        returned: Returned,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let Returned { transaction, home, home_id, outcome, cut_offs, finish } = returned;
        self.store.commit(finish).await?;
        let identity = match vouched_for(outcome) {
            Ok(identity) => identity,
            Err(Refusal::Cancelled) => return Ok(Onward::Address(self.issuer.address(path::ACCOUNT)).into()),
            Err(_) => return Err(LinkingError::NotLetIn.into()),
        };
        if !transaction.request.accepts(identity.auth_time) {
            return Err(LinkingError::NotFresh.into());
        }
        let (own, _) = self.signed_in(visitor, now).await?.ok_or(LinkingError::OtherSession)?;
        pending.check_session(&own.id, &own.session.user)?;
        let account = LinkedAccount {
            user: self.subjects.user(home_id, &identity.home_user_id),
            quarantines: pending.next_quarantines(),
            home,
            home_id,
            home_user_id: identity.home_user_id.clone(),
            username: identity.username.clone(),
        };
        info!(transaction = %transaction.id, home = %account.home, "an account that is to be linked was shown");
        let pending = pending.prove(ProvenAccount { account, cut_offs })?;
        let sealed = self.login.seal_link(&pending)?;
        Ok(Onward::Address(self.issuer.address(&format!("{}?link={sealed}", path::LINK))).into())
    }

    async fn show_link(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let Some((own, token)) = self.signed_in(visitor, now).await? else {
            return Ok(StrangerPage {}.into_response());
        };
        let (pending, sealed) = self.pending(parameters, &own, visitor, now)?;
        let snapshot = self.registry.snapshot();
        let (question, form_targets) = match (&pending.stage, pending.link()) {
            (Stage::Primary(proven), _) => {
                let next = pending.next_home().and_then(|name| snapshot.home(name)).ok_or(LinkingError::NotOffered)?;
                let (home, to) = (home_name(&proven.account, &snapshot), next.display_name.to_owned());
                (LinkQuestion::GoOn { home, username: proven.account.username.clone(), to }, vec![target(&next)])
            }
            (Stage::Both(..), Some(link)) => {
                // What would not be made is not asked.
                self.registry.links.make(&link).await?;
                let question = LinkQuestion::Link {
                    primary_home: home_name(&link.primary, &snapshot),
                    alias_home: home_name(&link.alias, &snapshot),
                    applications: applications(&link, &snapshot),
                    primary_username: link.primary.username,
                    alias_username: link.alias.username,
                };
                (question, Vec::new())
            }
            (Stage::Begun | Stage::Both(..), _) => return Err(LinkingError::OtherSession.into()),
        };
        let (action, account, form_token) = (path::LINK, path::ACCOUNT, token.as_str().to_owned());
        Ok(LinkPage { question, action, account, form_token, link: sealed.to_owned(), form_targets }.into_response())
    }

    async fn answer_link(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Response, BrowserError> {
        let Some((own, token)) = self.signed_in(visitor, now).await? else {
            return Ok(StrangerPage {}.into_response());
        };
        self.check_form(&token, parameters)?;
        let (pending, _) = self.pending(parameters, &own, visitor, now)?;
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        match (parameters.get("go_on"), parameters.get("yes")) {
            (Ok(Some(_)), Ok(None)) => self.sign_in_for_link(pending, browser, visitor, now).await,
            (Ok(None), Ok(Some(_))) => self.link(&pending, &own, now).await,
            _ => Err(CallbackError::Parameters.into()),
        }
    }

    /// The link that a browser brings back, if it belongs to its session.
    fn pending<'a>(
        &self,
        parameters: &'a Parameters,
        own: &FoundSession,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<(PendingLink, &'a str), BrowserError> {
        let sealed = parameters.get("link").map_err(|_| CallbackError::Parameters)?.ok_or(LoginError::Unreadable)?;
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        let pending = self.login.reopen_link(sealed, browser, now)?;
        pending.check_session(&own.id, &own.session.user)?;
        Ok((pending, sealed))
    }

    /// Makes the link: one commit, in which all that was shown still holds.
    async fn link(&self, pending: &PendingLink, own: &FoundSession, now: Timestamp) -> Result<Response, BrowserError> {
        let snapshot = self.registry.snapshot();
        let (Stage::Both(primary, alias), Some(link)) = (&pending.stage, pending.link()) else {
            return Err(LinkingError::OtherSession.into());
        };
        if snapshot.judge_link(&link).is_err() || !is_offered(&link, &snapshot) {
            return Err(LinkingError::NotOffered.into());
        }
        let mut attempt = 1;
        loop {
            if self.login.is_spent(pending).await? {
                return Err(LinkingError::Spent.into());
            }
            let mut writes = self.registry.links.make(&link).await?;
            writes.push(self.login.spend_link(pending)?);
            for proven in [primary, alias] {
                writes.push(self.still_vouched(proven).await?);
            }
            match self.store.commit(writes).await {
                // One of the two was linked, or taken back, or this was answered twice: looking again tells which.
                Err(StoreError::Conflict) if attempt < TRIES => attempt += 1,
                done => break done.map(drop)?,
            }
        }
        info!(session = %own.id, link = %link.id, "homes are linked");
        self.audit.note(noted(Kind::HomesLinked, &link).session(&own.id));
        self.end_all_of(&link.alias.user, &snapshot, now).await?;
        Ok((StatusCode::SEE_OTHER, [(LOCATION, path::ACCOUNT)]).into_response())
    }

    /// The write that makes a commit rest on a home not having taken back its word of a user since he signed in there.
    async fn still_vouched(&self, proven: &ProvenAccount) -> Result<Write, BrowserError> {
        let (users, account) = (&self.registry.home_users, &proven.account);
        let id = VerifiedIdentity::part_of_home(&account.home_user_id);
        let standing = users.standing(account.home_id, id).await?;
        if standing.cut_offs() != proven.cut_offs {
            return Err(LoginError::TakenBack.into());
        }
        Ok(users.unchanged(&standing)?)
    }
}
