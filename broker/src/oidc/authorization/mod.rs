//! A browser's way through a login: what the flows decide and write, put together.
//!
//! [`Provider::authorize`] begins, [`Provider::choose_home`] goes on when the user has chosen, [`Provider::come_back`] when
//! the home has spoken, [`Provider::answer_question`] when the user was asked for consent. Each of them can be the end:
//! `answer.rs` makes it in one commit.
//!
//! The endpoints are in the order of that way `par.rs`, `authorize.rs`, `choice.rs`, `provider.rs`, `comeback.rs` and
//! `consent.rs`.

mod answer;
mod arrivals;
pub(super) mod authorize;
pub(super) mod choice;
pub(super) mod comeback;
pub(super) mod consent;
mod device;
pub(super) mod par;
pub(super) mod provider;
mod recognised;
pub(super) mod released;

use homeward_certs::identity::InstanceName;
use homeward_telemetry::traces;
use tracing::{info, warn};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::login::{
    Agreement, AuthorizationRequest, CheckedOutcome, LoginError, PushedId, Question, Refusal, Returned, SignedIn, Step,
    Transaction, decide, meets_demands, vouched_for,
};
use crate::oidc::error::{self, BrowserError};
use crate::oidc::parameters::Parameters;
use crate::oidc::request::{self, CallbackError, Channel, Refused};
use crate::oidc::{Provider, path};
use crate::registry::{
    Client, ConsentPolicy, InstanceId, ReleaseTerms, SessionId, Snapshot, UserId, UserOfHome, VerifiedIdentity,
};
use crate::secret::{OpaqueSecret, SecretHash};
use crate::sessions::{FoundSession, Vouched};
use crate::storage::StoreError;
use crate::web::{ConsentPage, FormPostPage, PickerPage, UpstreamCookie, Visitor};

use answer::{Person, opened};
pub(super) use arrivals::ArrivalLimits;
use recognised::Recognised;

/// How often a request looks at its session again when that changed in between.
const SESSION_TRIES: usize = 4;

/// What a browser gets.
pub(super) struct Next {
    /// Where it goes, or what it shows.
    pub(super) onward: Onward,
    /// What it keeps.
    pub(super) cookies: NewCookies,
}

/// Where a browser goes, or what it shows.
pub(super) enum Onward {
    /// Sent to an address.
    Address(String),
    /// Sent to the relying party with a form (OAuth 2.0 Form Post Response Mode).
    Form(Box<FormPostPage>),
    /// Asked where the user's account is.
    Choose(Box<PickerPage>),
    /// Asked whether the user agrees.
    Consent(Box<ConsentPage>),
}

/// The cookies that a browser takes along.
#[derive(Default)]
pub(super) struct NewCookies {
    /// A new binding.
    pub(super) browser: Option<String>,
    /// Of a session that begins, or goes on under a new secret.
    pub(super) session: Option<String>,
    /// The home that was chosen.
    pub(super) home: Option<InstanceName>,
    /// Of logins that go to identity providers, or come back.
    pub(super) upstreams: Vec<UpstreamCookie>,
}

impl From<Onward> for Next {
    fn from(onward: Onward) -> Self {
        Self { onward, cookies: NewCookies::default() }
    }
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
        let named = parameters.get("client_id").ok().flatten().unwrap_or_default();
        let snapshot = self.registry.snapshot_with_client(named).await;
        let nowhere = |cause| BrowserError::unanswerable(cause, parameters);
        let client = request::client(parameters, &snapshot).map_err(|cause| nowhere(cause.into()))?;
        let pushed = parameters.get("request_uri").ok().flatten().and_then(PushedId::of);
        let request = match pushed {
            // RFC 9126 4: all of it was checked when it was pushed, and nothing beside it counts.
            Some(id) => self.pushed.find(id, &client.relying_party.client_id, now).await?,
            None => match self.read_request(parameters, client, Channel::Browser, &snapshot, now).await {
                Ok(request) => request,
                Err(Refused { callback: None, cause }) => return Err(nowhere(cause)),
                Err(Refused { callback: Some(callback), cause }) => {
                    info!(relying_party = %client.name, %cause, "an authorization request was refused");
                    return Ok(self.error_for(&callback, error::of_request(cause)).into());
                }
            },
        };
        self.check_callback(&request, &snapshot)?;
        if self.challenges.is_reused(&request) {
            warn!(relying_party = %client.name, "a PKCE challenge came again: the client must make one for each login");
        }
        self.begin(request, &visitor, &snapshot, now).await
    }

    /// Begins the login that a checked request asks for.
    ///
    /// # Errors
    /// When something failed.
    pub(super) async fn begin(
        &self,
        request: AuthorizationRequest,
        visitor: &Visitor,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        // One binding for all tabs: each tab's login is a transaction of its own.
        let browser = match visitor.browser.clone() {
            Some(browser) => browser,
            None => OpaqueSecret::generate().map_err(LoginError::from)?.expose().to_owned(),
        };
        let transaction = self.login.begin(request, SecretHash::of(&browser))?;
        let begun = Event::new(Kind::LoginBegun).transaction(transaction.id).client(&transaction.request.client_id);
        self.audit.note(begun.relying_party(&transaction.request.relying_party));
        let step = traces::step("the broker decides", transaction.id);
        let mut next = traces::during(step, self.next(&transaction, visitor, snapshot, now)).await?;
        next.cookies.browser = Some(browser);
        Ok(next)
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
            let step = decide(request, found.as_ref().map(|(_, who, _)| who), &homes);
            info!(transaction = %transaction.id, relying_party = %request.relying_party, %step, "next step of a login");
            let ended = match (step, found) {
                (Step::ChooseHome, _) => return Ok(self.ask(transaction, visitor, snapshot)?.into()),
                (Step::GoHome(home), _) => return self.go_home(transaction, &home, visitor, now).await,
                (Step::AskConsent, Some((found, ..))) => {
                    return Ok(self.question(transaction.clone(), found.id)?.into());
                }
                (Step::IssueCode, Some((found, _, known))) => {
                    self.end_with_session(transaction, (found, known), snapshot, now).await
                }
                (Step::Refuse(refusal), _) => self.refuse(transaction, refusal, Vec::new()).await,
                (Step::IssueCode | Step::AskConsent, None) => {
                    self.refuse(transaction, Refusal::LoginRequired, Vec::new()).await
                }
            };
            match ended {
                // The session changed: another tab used it, or it has ended. Look again.
                Err(BrowserError::Login(LoginError::Store(StoreError::Conflict))) => {}
                done => return done,
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Goes on with the home that the user chose on the picker.
    ///
    /// # Errors
    /// When the form is not ours, not this browser's or too old, or the home is not accepted.
    pub(super) async fn choose_home(
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
            let step = traces::step("the user has cancelled", transaction.id);
            return traces::during(step, self.refuse(&transaction, Refusal::Cancelled, Vec::new())).await;
        }
        let home: InstanceName =
            field("home")?.and_then(|name| name.parse().ok()).ok_or(LoginError::HomeNotAccepted)?;
        info!(transaction = %transaction.id, %home, "the user chose a home");
        // If it went away while the user was reading, the picker says so.
        let step = traces::step("the user has chosen a home", transaction.id);
        let mut next = traces::during(step, self.go_home(&transaction, &home, visitor, now)).await?;
        if matches!(next.onward, Onward::Address(_)) {
            next.cookies.home = Some(home);
        }
        Ok(next)
    }

    /// Ends a login with what the home said, or asks the user for consent. All that comes of it is one commit.
    ///
    /// # Errors
    /// When handle or browser are wrong, or something failed.
    pub(super) async fn come_back(
        &self,
        handle: &str,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        for _ in 0..SESSION_TRIES {
            let returned = self.login.read_return(handle, browser, now).await?;
            let transaction = returned.transaction.id;
            let step = traces::step("back from the home", transaction);
            let ended = match returned.transaction.link.clone() {
                Some(pending) => traces::during(step, self.prove_for_link(*pending, returned, visitor, now)).await,
                None => traces::during(step, self.end_with_home(returned, visitor, now)).await,
            };
            match ended {
                // The session changed under this login, or the handle was used: looking again tells which.
                Err(BrowserError::Login(LoginError::Store(StoreError::Conflict))) => {}
                Err(error) => return Err(error),
                Ok(next) => {
                    info!(%transaction, signed_in = next.cookies.session.is_some(), "back from home");
                    return Ok(next);
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn end_with_home(&self, returned: Returned, visitor: &Visitor, now: Timestamp) -> Result<Next, BrowserError> {
        let Returned { transaction, home, home_id: id, outcome, finish, .. } = returned;
        let request = &transaction.request;
        let snapshot = self.registry.snapshot();
        let client = self.check_callback(request, &snapshot)?;
        let mut writes = finish;
        let (identity, mut known) = match self.judge_home(request, client, (&home, id), outcome, &snapshot).await? {
            Ok(judged) => judged,
            Err(refusal) => {
                info!(transaction = %transaction.id, %refusal, "the home's answer is no login");
                return self.refuse(&transaction, refusal, writes).await;
            }
        };
        let (_, edge) = snapshot.vouching(&request.relying_party, &home, id).ok_or(LoginError::HomeNotAccepted)?;
        // Nobody unlinks him between here and the commit.
        writes.extend(known.unchanged.take());
        let user = self.subjects.user(id, &identity.home_user_id);
        let agreement = self.agreement(request, &user, edge.consent).await?;
        let current = match &visitor.session {
            Some(cookie) => self.sessions.find(cookie, now).await?,
            None => None,
        };
        let vouched = Vouched { home: home.clone(), home_id: id, user: user.clone(), identity: identity.clone() };
        // A client that learns nothing yet was not entered: no logout is ever told to it.
        let terms = ReleaseTerms { edge, policy: &client.relying_party.policy };
        let entered = (agreement == Agreement::Given).then(|| opened(request, (&identity, &known), terms, now));
        if let (Some(found), Some(entered)) = (&current, &entered)
            && found.session.user == user
        {
            writes.extend(self.sessions.leave_replaced(found, entered, &snapshot, now)?);
        }
        let begun = self.sessions.begin(current, vouched, entered, now)?;
        let new = begun.is_new.then(|| (user.clone(), begun.id.clone()));
        writes.extend(begun.writes);
        let mut next = match agreement {
            Agreement::Given => {
                let (home, session, trust) = ((&home, id), begun.id, edge.epoch);
                let person = Person { home, identity: &identity, user, session, known, trust };
                self.give(&transaction, person, writes, now).await?
            }
            Agreement::Wanted => {
                self.store.commit(writes).await?;
                self.question(transaction, begun.id)?.into()
            }
        };
        next.cookies.session = Some(begun.cookie);
        // The login is done, whatever becomes of others.
        if let Some((user, id)) = new
            && let Err(error) = self.sessions.make_room(&user, &id, &snapshot, now).await
        {
            warn!(%error, "it could not be seen how many sessions a user has");
        }
        Ok(next)
    }

    /// Who it is by what the home said, as the relying party knows him: the demands of the request hold at the end as at the
    /// beginning, whatever the home made of them.
    async fn judge_home(
        &self,
        request: &AuthorizationRequest,
        client: Client<'_>,
        (home, home_id): (&InstanceName, InstanceId),
        outcome: CheckedOutcome,
        snapshot: &Snapshot,
    ) -> Result<Result<(VerifiedIdentity, Recognised), Refusal>, BrowserError> {
        if snapshot.vouching(&request.relying_party, home, home_id).is_none() {
            return Ok(Err(Refusal::HomeNotAccepted));
        }
        let identity = match vouched_for(outcome) {
            Ok(identity) => identity,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let person = UserOfHome { home, home_id, home_user_id: &identity.home_user_id };
        let user = self.subjects.user(home_id, &identity.home_user_id);
        let known = self.recognise(client, person, &user, snapshot).await?;
        Ok(meets_demands(request, &identity, &known.subject).map(|()| (identity, known)))
    }

    /// The session of the browser, if the home behind it may vouch to this relying party.
    async fn find_session(
        &self,
        visitor: &Visitor,
        request: &AuthorizationRequest,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Option<(FoundSession, SignedIn, Recognised)>, BrowserError> {
        let Some(cookie) = &visitor.session else { return Ok(None) };
        let Some(found) = self.sessions.find(cookie, now).await? else { return Ok(None) };
        let session = &found.session;
        let Some((_, edge)) = snapshot.vouching(&request.relying_party, &session.home, session.home_id) else {
            return Ok(None);
        };
        let client = snapshot.client(request.client_id.as_str()).ok_or(LoginError::RelyingPartyGone)?;
        let identity = &session.identity;
        let known = self.recognise(client, session.person(), &session.user, snapshot).await?;
        let who = SignedIn {
            home: session.home.clone(),
            subject: known.subject.clone(),
            auth_time: identity.auth_time,
            acr: identity.acr.clone(),
            agreement: self.agreement(request, &session.user, edge.consent).await?,
        };
        Ok(Some((found, who, known)))
    }

    async fn end_with_session(
        &self,
        transaction: &Transaction,
        (found, known): (FoundSession, Recognised),
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let request = &transaction.request;
        let session = found.session.clone();
        let vouching = snapshot.vouching(&request.relying_party, &session.home, session.home_id);
        let (_, edge) = vouching.ok_or(LoginError::HomeNotAccepted)?;
        let client = self.check_callback(request, snapshot)?;
        let terms = ReleaseTerms { edge, policy: &client.relying_party.policy };
        let entered = opened(request, (&session.identity, &known), terms, now);
        let person = Person {
            home: (&session.home, session.home_id),
            identity: &session.identity,
            user: session.user.clone(),
            session: found.id.clone(),
            known,
            trust: edge.epoch,
        };
        let mut writes = self.sessions.leave_replaced(&found, &entered, snapshot, now)?;
        writes.extend(self.sessions.enter(found, entered, now)?);
        self.give(transaction, person, writes, now).await
    }

    /// Whether the user has to be asked. What he agreed to before is read only where it matters.
    async fn agreement(
        &self,
        request: &AuthorizationRequest,
        user: &UserId,
        policy: ConsentPolicy,
    ) -> Result<Agreement, BrowserError> {
        let earlier = match policy {
            ConsentPolicy::FirstTime => self.consents.find(user, &request.client_id).await?,
            ConsentPolicy::None | ConsentPolicy::Always => None,
        };
        Ok(Agreement::of(request, policy, earlier.as_ref().map(|found| &found.consent)))
    }

    /// A callback may have been given up, or its owner cut off, since the request: then nobody is sent there.
    fn check_callback<'a>(
        &self,
        request: &AuthorizationRequest,
        snapshot: &'a Snapshot,
    ) -> Result<Client<'a>, LoginError> {
        answer::client_of(request, snapshot).ok_or(LoginError::RelyingPartyGone)
    }

    /// Sends the browser to the consent page of this login.
    fn question(&self, transaction: Transaction, session: SessionId) -> Result<Onward, LoginError> {
        let sealed = self.login.seal_question(&Question { transaction, session })?;
        Ok(Onward::Address(self.issuer.address(&format!("{}?question={sealed}", path::CONSENT))))
    }
}
