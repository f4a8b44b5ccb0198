//! A browser's way through a login: what the flows decide and write, put together.
//!
//! [`Provider::authorize`] begins, [`Provider::choose_home`] goes on when the user has chosen, [`Provider::come_back`]
//! ends it in one commit: handle used up, session begun, code issued.

use homeward_certs::identity::InstanceName;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::info;

use crate::clock::Timestamp;
use crate::grants::{CodeBinding, Grant};
use crate::login::{
    AuthorizationRequest, LoginError, Refusal, Reply, Returned, SignedIn, Step, Transaction, decide, judge,
};
use crate::oidc::Provider;
use crate::oidc::error::{self, BrowserError, OAuthError};
use crate::oidc::parameters::Parameters;
use crate::oidc::request::{self, Callback, CallbackError};
use crate::oidc::response;
use crate::registry::{Client, InstanceId, SessionId, Snapshot, Subject, UserId, VerifiedIdentity};
use crate::secret::{OpaqueSecret, SecretHash};
use crate::sessions::{FoundSession, Opened, Vouched};
use crate::storage::{StoreError, Write};
use crate::web::{PickerPage, Visitor};

/// How often a request looks at its session again when that changed in between.
const SESSION_TRIES: usize = 4;

/// Where a browser goes next, and the cookies that it takes along.
#[derive(Default)]
pub(super) struct Travel {
    /// Where.
    pub(super) to: String,
    /// A new binding.
    pub(super) browser: Option<String>,
    /// Cookie of a session that begins, or goes on under a new secret.
    pub(super) session: Option<String>,
    /// The home that was chosen.
    pub(super) home: Option<InstanceName>,
}

/// What a browser gets.
pub(super) enum Next {
    /// Sent on.
    Go(Travel),
    /// A question, and the binding of the browser that has to answer it.
    Choose(Box<PickerPage>, Option<String>),
}

/// A user who may be made known to a relying party.
struct Person<'a> {
    home: (&'a InstanceName, InstanceId),
    identity: &'a VerifiedIdentity,
    user: UserId,
    session: SessionId,
    subject: Subject,
}

impl Provider {
    /// Begins a login, or ends it at once with the session that the browser has.
    ///
    /// # Errors
    /// When nobody knows where the answer goes, or something failed.
    pub(super) async fn authorize(
        &self,
        parameters: &Parameters,
        visitor: Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let snapshot = self.registry.snapshot();
        let callback = Callback::of(parameters, &snapshot)?;
        let request = match request::parse(parameters, &callback, &self.hints, now) {
            Ok(request) => request,
            Err(cause) => {
                info!(relying_party = %callback.client.name, %cause, "an authorization request was refused");
                let to = self.answer(&callback.redirect_uri, callback.state.as_deref(), error::of_request(cause));
                return Ok(Next::Go(Travel { to, ..Travel::default() }));
            }
        };
        // One binding for all tabs: each tab's login is a transaction of its own.
        let browser = match visitor.browser.clone() {
            Some(browser) => browser,
            None => OpaqueSecret::generate().map_err(LoginError::from)?.expose().to_owned(),
        };
        let transaction = self.login.begin(request, SecretHash::of(&browser))?;
        let next = self.next(&transaction, &visitor, &snapshot, now).await?;
        Ok(match next {
            Next::Go(travel) => Next::Go(Travel { browser: Some(browser), ..travel }),
            Next::Choose(page, _) => Next::Choose(page, Some(browser)),
        })
    }

    async fn next(
        &self,
        transaction: &Transaction,
        visitor: &Visitor,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let request = &transaction.request;
        let homes = self.login.homes(snapshot, &request.relying_party);
        for _ in 0..SESSION_TRIES {
            let found = self.find_session(visitor, request, snapshot, now).await?;
            let step = decide(request, found.as_ref().map(|(_, who)| who), &homes);
            info!(transaction = %transaction.id, relying_party = %request.relying_party, ?step, "next step of a login");
            match (step, found) {
                (Step::Refuse(refusal), _) => return Ok(self.refuse(request, refusal)?),
                (Step::ChooseHome, _) => return Ok(self.ask(transaction, visitor, snapshot)?),
                (Step::GoHome(home), _) => {
                    let to = self.login.ticket_address(transaction, &home)?;
                    return Ok(Next::Go(Travel { to, ..Travel::default() }));
                }
                (Step::IssueCode, None) => return Ok(self.refuse(request, Refusal::LoginRequired)?),
                (Step::IssueCode, Some((found, who))) => {
                    match self.end_with_session(request, (found, who.subject), snapshot, now).await {
                        // The session changed: another tab used it, or it has ended. Look again.
                        Err(BrowserError::Login(LoginError::Store(StoreError::Conflict))) => {}
                        done => return done,
                    }
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Goes on with the home that the user chose on the picker.
    ///
    /// # Errors
    /// When the form is not ours, not this browser's or too old, or the home is not accepted.
    pub(super) fn choose_home(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let field = |name| parameters.get(name).map_err(|_| CallbackError::Parameters);
        let sealed = field("transaction")?.ok_or(LoginError::Unreadable)?;
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        let transaction = self.login.reopen(sealed, browser, now)?;
        if field("cancel")?.is_some() {
            info!(transaction = %transaction.id, "the user cancelled");
            let snapshot = self.registry.snapshot();
            self.check_callback(&transaction.request, &snapshot)?;
            return Ok(self.refuse(&transaction.request, Refusal::Cancelled)?);
        }
        let home = field("home")?.and_then(|name| name.parse().ok()).ok_or(LoginError::HomeNotAccepted)?;
        info!(transaction = %transaction.id, %home, "the user chose a home");
        match self.login.ticket_address(&transaction, &home) {
            Ok(to) => Ok(Next::Go(Travel { to, home: Some(home), ..Travel::default() })),
            // It went away while the user was reading: the picker says so.
            Err(LoginError::HomeNotReady) => Ok(self.ask(&transaction, visitor, &self.registry.snapshot())?),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a login with what the home said. All that comes of it is one commit.
    ///
    /// # Errors
    /// When handle or browser are wrong, or something failed.
    pub(super) async fn come_back(
        &self,
        handle: &str,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Travel, BrowserError> {
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        for _ in 0..SESSION_TRIES {
            let returned = self.login.read_return(handle, browser, now).await?;
            let transaction = returned.transaction.id;
            let (travel, writes) = self.end_with_home(returned, visitor, now).await?;
            match self.store.commit(writes).await {
                // The session changed under this login, or the handle was used: looking again tells which.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    info!(%transaction, signed_in = travel.session.is_some(), "back from home");
                    return Ok(travel);
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn end_with_home(
        &self,
        returned: Returned,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<(Travel, Vec<Write>), BrowserError> {
        let (request, home, id) = (&returned.transaction.request, &returned.home, returned.home_id);
        let snapshot = self.registry.snapshot();
        let client = self.check_callback(request, &snapshot)?;
        let subject_type = &client.relying_party.policy.subject_type;
        let judged = match snapshot.vouching(&request.relying_party, home, id) {
            Some(_) => {
                judge(request, returned.outcome, |who| self.subjects.subject_for(subject_type, id, &who.home_user_id))
            }
            None => Err(Refusal::HomeNotAccepted),
        };
        let mut writes = vec![returned.finish];
        let travel = match judged {
            Ok((identity, subject)) => {
                let user = self.subjects.user(id, &identity.home_user_id);
                let current = match &visitor.session {
                    Some(cookie) => self.sessions.find(cookie, now).await?,
                    None => None,
                };
                let opened =
                    Opened { relying_party: request.relying_party.clone(), subject: subject.clone(), since: now };
                let vouched =
                    Vouched { home: home.clone(), home_id: id, user: user.clone(), identity: identity.clone() };
                let begun = self.sessions.begin(current, vouched, (request.client_id.clone(), opened), now)?;
                let person = Person { home: (home, id), identity: &identity, user, session: begun.id, subject };
                let code = self.issue_code(request, person, &snapshot, now)?;
                writes.extend(begun.writes);
                Travel { to: self.success(request, &code)?, session: Some(begun.cookie), ..Travel::default() }
            }
            Err(refusal) => {
                info!(transaction = %returned.transaction.id, ?refusal, "the home's answer is no login");
                Travel { to: self.refusal(request, refusal)?, ..Travel::default() }
            }
        };
        Ok((travel, writes))
    }

    /// The session of the browser, if the home behind it may vouch to this relying party.
    async fn find_session(
        &self,
        visitor: &Visitor,
        request: &AuthorizationRequest,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Option<(FoundSession, SignedIn)>, BrowserError> {
        let Some(cookie) = &visitor.session else { return Ok(None) };
        let Some(found) = self.sessions.find(cookie, now).await? else { return Ok(None) };
        let session = &found.session;
        if snapshot.vouching(&request.relying_party, &session.home, session.home_id).is_none() {
            return Ok(None);
        }
        let client = snapshot.client(request.client_id.as_str()).ok_or(LoginError::RelyingPartyGone)?;
        let subject_type = &client.relying_party.policy.subject_type;
        let subject = self.subjects.subject_for(subject_type, session.home_id, &session.identity.home_user_id);
        let who = SignedIn { home: session.home.clone(), subject, auth_time: session.identity.auth_time };
        Ok(Some((found, who)))
    }

    async fn end_with_session(
        &self,
        request: &AuthorizationRequest,
        (found, subject): (FoundSession, Subject),
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let session = &found.session;
        let opened = Opened { relying_party: request.relying_party.clone(), subject: subject.clone(), since: now };
        let (user, id) = (session.user.clone(), found.id.clone());
        let home = (&session.home, session.home_id);
        let person = Person { home, identity: &session.identity, user, session: id, subject };
        let code = self.issue_code(request, person, snapshot, now)?;
        if let Some(write) = self.sessions.enter(found, (request.client_id.clone(), opened), now)? {
            self.store.commit(vec![write]).await?;
        }
        Ok(Next::Go(Travel { to: self.success(request, &code)?, ..Travel::default() }))
    }

    fn issue_code(
        &self,
        request: &AuthorizationRequest,
        Person { home: (home, home_id), identity, user, session, subject }: Person<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<SecretString, BrowserError> {
        if snapshot.vouching(&request.relying_party, home, home_id).is_none() {
            return Err(LoginError::HomeNotAccepted.into());
        }
        let Reply::Callback { redirect_uri, .. } = &request.reply else {
            return Err(LoginError::Unreadable.into());
        };
        let grant = Grant {
            client_id: request.client_id.clone(),
            relying_party: request.relying_party.clone(),
            home: home.clone(),
            home_id,
            user,
            subject,
            session,
            offline: None,
            scopes: request.scopes.clone(),
            claims: request.claims.clone(),
            resources: request.resources.clone(),
            nonce: request.nonce.clone(),
            auth_time: identity.auth_time,
            acr: identity.acr.clone(),
            amr: identity.amr.clone(),
        };
        let code_challenge = request.code_challenge.clone();
        let binding = CodeBinding { redirect_uri: redirect_uri.clone(), code_challenge, dpop_jkt: None };
        Ok(self.grants.issue_code(grant, binding, now)?)
    }

    /// A callback may have been given up, or its owner cut off, since the request: then nobody is sent there.
    fn check_callback<'a>(
        &self,
        request: &AuthorizationRequest,
        snapshot: &'a Snapshot,
    ) -> Result<Client<'a>, LoginError> {
        let client = snapshot.client(request.client_id.as_str()).ok_or(LoginError::RelyingPartyGone)?;
        let good = match &request.reply {
            Reply::Callback { redirect_uri, .. } => request::is_registered(client, redirect_uri),
            Reply::Device { .. } => true,
        };
        if good { Ok(client) } else { Err(LoginError::RelyingPartyGone) }
    }

    fn success(&self, request: &AuthorizationRequest, code: &SecretString) -> Result<String, LoginError> {
        self.reply(request, &[("code", code.expose_secret())])
    }

    fn refuse(&self, request: &AuthorizationRequest, refusal: Refusal) -> Result<Next, LoginError> {
        Ok(Next::Go(Travel { to: self.refusal(request, refusal)?, ..Travel::default() }))
    }

    fn refusal(&self, request: &AuthorizationRequest, refusal: Refusal) -> Result<String, LoginError> {
        let error = error::of_refusal(refusal);
        self.reply(request, &[("error", error.code), ("error_description", error.description)])
    }

    fn reply(&self, request: &AuthorizationRequest, answer: &[(&str, &str)]) -> Result<String, LoginError> {
        match &request.reply {
            Reply::Callback { redirect_uri, mode: _, state } => {
                Ok(response::address(redirect_uri, answer, state.as_deref(), &self.issuer))
            }
            Reply::Device { .. } => Err(LoginError::Unreadable),
        }
    }

    fn answer(&self, redirect_uri: &str, state: Option<&str>, error: OAuthError) -> String {
        let answer = [("error", error.code), ("error_description", error.description)];
        response::address(redirect_uri, &answer, state, &self.issuer)
    }
}
