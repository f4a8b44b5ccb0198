//! The end of a login: a code, or the reason why there is none, in one commit with all that comes of it.

use homeward_certs::identity::InstanceName;
use homeward_telemetry::traces;
use secrecy::ExposeSecret as _;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::grants::{CodeBinding, Grant};
use crate::login::{AuthorizationRequest, LoginError, Refusal, Reply, ResponseMode, Transaction};
use crate::oidc::Provider;
use crate::oidc::authorization::recognised::Recognised;
use crate::oidc::authorization::{Next, Onward};
use crate::oidc::error::{self, BrowserError, OAuthError};
use crate::oidc::request::{self, Callback};
use crate::oidc::response;
use crate::registry::{
    Asked, Claims, Client, ClientId, InstanceId, Person as Described, ReleaseTerms, SessionId, Snapshot, TrustEpoch,
    UserId, VerifiedIdentity,
};
use crate::sessions::Opened;
use crate::storage::Write;
use crate::web::FormPostPage;

/// A user who may be made known to a relying party.
pub(super) struct Person<'a> {
    pub(super) home: (&'a InstanceName, InstanceId),
    pub(super) identity: &'a VerifiedIdentity,
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) known: Recognised,
    pub(super) trust: TrustEpoch,
}

/// What a session notes of the client that is entered.
pub(super) fn opened(
    request: &AuthorizationRequest,
    (identity, known): (&VerifiedIdentity, &Recognised),
    terms: ReleaseTerms<'_>,
    now: Timestamp,
) -> (ClientId, Opened) {
    let who = Described { identity, subject: &known.subject };
    let asked = Asked { scopes: &request.scopes, claims: &request.claims };
    let released = Claims::in_all(who, terms, asked);
    let opened = Opened {
        relying_party: request.relying_party.clone(),
        subject: who.subject.clone(),
        username: Claims::username(who, terms),
        trust: terms.edge.epoch,
        since: now,
        link: known.kept(),
        released: Some(released.released().map(|(name, _)| name.to_owned()).collect()),
    };
    (request.client_id.clone(), opened)
}

/// The client of a request, if it still has the callback that the answer goes to.
pub(super) fn client_of<'a>(request: &AuthorizationRequest, snapshot: &'a Snapshot) -> Option<Client<'a>> {
    let client = snapshot.client(request.client_id.as_str())?;
    let good = match &request.reply {
        Reply::Callback { redirect_uri, .. } => request::is_registered(client, redirect_uri),
        Reply::Device { .. } => true,
    };
    good.then_some(client)
}

impl Provider {
    /// Gives the relying party what it asked for. The writes are those of the login that ends with it; what the request
    /// was pushed as is used up with them.
    ///
    /// # Errors
    /// When something changed meanwhile, or failed.
    pub(super) async fn give(
        &self,
        transaction: &Transaction,
        person: Person<'_>,
        mut writes: Vec<Write>,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let request = &transaction.request;
        let decided = decided(transaction).home(person.home.0).subject(&person.known.subject).session(&person.session);
        let decided = decided.user(&person.user);
        let grant = grant(transaction, person);
        writes.extend(self.pushed.use_up(request).await?);
        let (redirect_uri, mode, state) = match &request.reply {
            Reply::Callback { redirect_uri, mode, state } => (redirect_uri, *mode, state.as_deref()),
            Reply::Device { id } => {
                let next = self.approve_device(id, grant, writes, now).await?;
                self.audit.note(decided);
                traces::decided(transaction.id, transaction.began, "done");
                return Ok(next);
            }
        };
        let binding = CodeBinding {
            redirect_uri: redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            dpop_jkt: request.dpop_jkt.clone(),
        };
        let code = self.grants.issue_code(grant, binding, now)?;
        self.commit(writes).await?;
        self.audit.note(decided);
        traces::decided(transaction.id, transaction.began, "done");
        Ok(self.reply(redirect_uri, mode, &[("code", code.expose_secret())], state).into())
    }

    /// Tells the relying party why it gets nothing. The writes are those of the login that ends with it.
    ///
    /// # Errors
    /// When something changed meanwhile, or failed.
    pub(super) async fn refuse(
        &self,
        transaction: &Transaction,
        refusal: Refusal,
        mut writes: Vec<Write>,
    ) -> Result<Next, BrowserError> {
        let request = &transaction.request;
        let reason = error::of_refusal(refusal).code;
        let refused = decided(transaction).refused(reason).detail(format!("{refusal}"));
        writes.extend(self.pushed.use_up(request).await?);
        let (redirect_uri, mode, state) = match &request.reply {
            Reply::Callback { redirect_uri, mode, state } => (redirect_uri, *mode, state.as_deref()),
            Reply::Device { id } => {
                let next = self.refuse_device(id, refusal, writes).await?;
                self.audit.note(refused);
                traces::decided(transaction.id, transaction.began, reason);
                return Ok(next);
            }
        };
        self.commit(writes).await?;
        self.audit.note(refused);
        traces::decided(transaction.id, transaction.began, reason);
        Ok(self.error_reply(redirect_uri, mode, error::of_refusal(refusal), state).into())
    }

    /// Tells the relying party what is wrong with its request, of which nothing has come yet.
    pub(super) fn error_for(&self, callback: &Callback<'_>, error: OAuthError) -> Onward {
        self.error_reply(&callback.redirect_uri, callback.mode, error, callback.state.as_deref())
    }

    fn error_reply(&self, redirect_uri: &str, mode: ResponseMode, error: OAuthError, state: Option<&str>) -> Onward {
        let answer = [("error", error.code), ("error_description", error.description)];
        self.reply(redirect_uri, mode, &answer, state)
    }

    fn reply(&self, redirect_uri: &str, mode: ResponseMode, answer: &[(&str, &str)], state: Option<&str>) -> Onward {
        match mode {
            ResponseMode::Query => Onward::Address(response::address(redirect_uri, answer, state, &self.issuer)),
            ResponseMode::FormPost => Onward::Form(Box::new(FormPostPage {
                action: redirect_uri.to_owned(),
                fields: response::fields(answer, state, &self.issuer),
            })),
        }
    }

    /// An answer that changes nothing costs no commit.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), LoginError> {
        if !writes.is_empty() {
            self.store.commit(writes).await?;
        }
        Ok(())
    }
}

/// What is noted of the end of a login.
fn decided(transaction: &Transaction) -> Event {
    let request = &transaction.request;
    let kind = match &request.reply {
        Reply::Callback { .. } => Kind::LoginDecided,
        Reply::Device { .. } => Kind::DeviceDecided,
    };
    let decided = Event::new(kind).transaction(transaction.id).client(&request.client_id);
    decided.relying_party(&request.relying_party)
}

/// What the relying party holds from now on. Whether the user agrees, or ops have answered for it, is settled.
fn grant(Transaction { id, request, .. }: &Transaction, person: Person<'_>) -> Grant {
    let Person { home: (home, home_id), identity, user, session, known, trust } = person;
    let Recognised { subject, link, by_link, .. } = known;
    Grant {
        client_id: request.client_id.clone(),
        relying_party: request.relying_party.clone(),
        home: home.clone(),
        home_id,
        login: Some(*id),
        user,
        subject,
        session,
        trust,
        offline: None,
        scopes: request.scopes.clone(),
        claims: request.claims.clone(),
        resources: request.resources.clone(),
        nonce: request.nonce.clone(),
        auth_time: identity.auth_time,
        acr: identity.acr.clone(),
        amr: identity.amr.clone(),
        link,
        by_link,
    }
}
