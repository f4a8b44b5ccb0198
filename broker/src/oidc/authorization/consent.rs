//! GET and POST /login/consent: the question whether the user agrees, what it says, and what comes of the answer.
//!
//! The question is sealed into the page's address and form, for the browser that began the login and the session that was
//! asked. Nobody else can answer it, and no other site can have it answered. It is answered once: who loads it again goes
//! on without being asked, as long as the answer stands.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use homeward_telemetry::traces;
use http::HeaderMap;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::login::{FoundConsent, LoginError, Question, Refusal, Reply, meets_demands};
use crate::oidc::authorization::answer::{Person, opened};
use crate::oidc::authorization::choice::host;
use crate::oidc::authorization::recognised::Recognised;
use crate::oidc::authorization::released;
use crate::oidc::authorization::{Next, Onward, SESSION_TRIES};
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::registry::{Asked, Claims, Client, Person as Described, ReleaseTerms, Scope, Snapshot};
use crate::sessions::FoundSession;
use crate::storage::StoreError;
use crate::web::{ConsentPage, Visitor};

/// The question.
pub(in crate::oidc) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let next = provider.show_question(&parameters, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}

/// The answer.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let next = provider.answer_question(&parameters, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}

/// A question that was brought back by the one who was asked.
struct Asking<'a> {
    question: Question,
    sealed: &'a str,
    found: FoundSession,
    known: Recognised,
    earlier: Option<FoundConsent>,
}

impl Asking<'_> {
    /// Whether the answer of this very login stands.
    fn is_answered(&self) -> bool {
        let earlier = self.earlier.as_ref();
        earlier.is_some_and(|found| found.consent.was_given_in(self.question.transaction.id))
    }
}

/// What the user says.
#[derive(Clone, Copy)]
enum Answer {
    Nothing,
    Agree,
    Refuse,
}

impl Answer {
    /// In the trace of the login.
    fn step(self) -> &'static str {
        match self {
            Self::Nothing => "the user is asked for consent",
            Self::Agree | Self::Refuse => "the user has answered",
        }
    }
}

impl Provider {
    /// Shows the question, or goes on if it was answered.
    ///
    /// # Errors
    /// When it is not ours, not this browser's or too old, or the user is not signed in any more.
    async fn show_question(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        self.go_on(parameters, visitor, Answer::Nothing, now).await
    }

    /// Takes the user's answer.
    ///
    /// # Errors
    /// As [`Provider::show_question`]; when there is no answer in the form.
    async fn answer_question(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let answer = match (parameters.get("agree"), parameters.get("refuse")) {
            (Ok(Some(_)), Ok(None)) => Answer::Agree,
            (Ok(None), Ok(Some(_))) => Answer::Refuse,
            _ => return Err(CallbackError::Parameters.into()),
        };
        self.go_on(parameters, visitor, answer, now).await
    }

    async fn go_on(
        &self,
        parameters: &Parameters,
        visitor: &Visitor,
        answer: Answer,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        for _ in 0..SESSION_TRIES {
            let snapshot = self.registry.snapshot();
            let (asking, client) = self.asking(parameters, visitor, &snapshot, now).await?;
            let step = traces::step(answer.step(), asking.question.transaction.id);
            match traces::during(step, self.hear(asking, client, answer, &snapshot, now)).await {
                // Another tab used the session, or answered: look again.
                Err(BrowserError::Login(LoginError::Store(StoreError::Conflict))) => {}
                done => return done,
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn hear(
        &self,
        asking: Asking<'_>,
        client: Client<'_>,
        answer: Answer,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let (transaction, session) = (&asking.question.transaction, &asking.found.session);
        let request = &transaction.request;
        let vouching = snapshot.vouching(&request.relying_party, &session.home, session.home_id);
        let judged = match (vouching, meets_demands(request, &session.identity, &asking.known.subject)) {
            (None, _) => Err(Refusal::HomeNotAccepted),
            (Some(_), Err(refusal)) => Err(refusal),
            (Some((_, edge)), Ok(())) => Ok(ReleaseTerms { edge, policy: &client.relying_party.policy }),
        };
        match (judged, answer) {
            (Err(refusal), _) => self.refuse(transaction, refusal, Vec::new()).await,
            (Ok(_), Answer::Refuse) => self.refuse(transaction, Refusal::ConsentRefused, Vec::new()).await,
            (Ok(_), Answer::Nothing) if !asking.is_answered() => {
                Ok(self.consent_page(&asking, client, snapshot)?.into())
            }
            (Ok(terms), Answer::Agree | Answer::Nothing) => self.agree(asking, terms, now).await,
        }
    }

    /// The question that a browser brings back, with all that it is about.
    async fn asking<'a, 's>(
        &self,
        parameters: &'a Parameters,
        visitor: &Visitor,
        snapshot: &'s Snapshot,
        now: Timestamp,
    ) -> Result<(Asking<'a>, Client<'s>), BrowserError> {
        let sealed = parameters.get("question").map_err(|_| CallbackError::Parameters)?;
        let sealed = sealed.ok_or(LoginError::Unreadable)?;
        let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
        let question = self.login.reopen_question(sealed, browser, now)?;
        let request = &question.transaction.request;
        let client = self.check_callback(request, snapshot)?;
        let cookie = visitor.session.as_deref().ok_or(LoginError::SignedOut)?;
        let found = self.sessions.find(cookie, now).await?.filter(|found| found.id == question.session);
        let found = found.ok_or(LoginError::SignedOut)?;
        let session = &found.session;
        let known = self.recognise(client, session.person(), &session.user, snapshot).await?;
        let earlier = self.consents.find(&session.user, &request.client_id).await?;
        Ok((Asking { question, sealed, found, known, earlier }, client))
    }

    /// Ends the login with the user's yes, which is written with it.
    async fn agree(&self, asking: Asking<'_>, terms: ReleaseTerms<'_>, now: Timestamp) -> Result<Next, BrowserError> {
        let answered = asking.is_answered();
        let Asking { question: Question { transaction, session: id }, found, known, earlier, .. } = asking;
        let (request, session) = (&transaction.request, found.session.clone());
        info!(transaction = %transaction.id, relying_party = %request.relying_party, "the user agreed");
        let mut writes = Vec::new();
        if !answered {
            writes.push(self.consents.give(&session.user, request, transaction.id, earlier, now)?);
        }
        let entered = opened(request, (&session.identity, &known), terms, now);
        writes.extend(self.sessions.leave_replaced(&found, &entered, &self.registry.snapshot(), now)?);
        writes.extend(self.sessions.enter(found, entered, now)?);
        let home = (&session.home, session.home_id);
        let (identity, user, trust) = (&session.identity, session.user, terms.edge.epoch);
        let person = Person { home, identity, user, session: id, known, trust };
        let given = Event::new(Kind::ConsentGiven).transaction(transaction.id).client(&request.client_id);
        let given = given.relying_party(&request.relying_party).user(&person.user);
        let next = self.give(&transaction, person, writes, now).await?;
        if !answered {
            self.audit.note(given);
        }
        Ok(next)
    }

    /// The question as the user reads it.
    fn consent_page(&self, asking: &Asking<'_>, client: Client<'_>, snapshot: &Snapshot) -> Result<Onward, LoginError> {
        let (request, session) = (&asking.question.transaction.request, &asking.found.session);
        let vouching = snapshot.vouching(&request.relying_party, &session.home, session.home_id);
        let (home, edge) = vouching.ok_or(LoginError::HomeNotAccepted)?;
        let person = Described { identity: &session.identity, subject: &asking.known.subject };
        let asked = Asked { scopes: &request.scopes, claims: &request.claims };
        let terms = ReleaseTerms { edge, policy: &client.relying_party.policy };
        let apis = request.resources.iter().map(|resource| released::api(resource, snapshot));
        let (callback, device) = match &request.reply {
            Reply::Callback { redirect_uri, .. } => (redirect_uri.as_str(), false),
            // No answer goes anywhere: where a registered client says that it is, is a name that it chose.
            Reply::Device { .. } => (if client.enrolled { client.public_url } else { "" }, true),
        };
        Ok(Onward::Consent(Box::new(ConsentPage {
            relying_party: client.display_name.to_owned(),
            relying_party_host: host(callback),
            self_registered: !client.enrolled,
            device,
            username: session.identity.username.clone(),
            home: home.display_name.to_owned(),
            home_host: host(&home.public_url()),
            released: released::lines(&Claims::in_all(person, terms, asked)),
            offline: request.scopes.has(Scope::OfflineAccess),
            apis: apis.collect(),
            policy: client.relying_party.pages.policy.clone(),
            terms: client.relying_party.pages.terms.clone(),
            action: path::CONSENT,
            question: asking.sealed.to_owned(),
            form_targets: vec![callback.to_owned()],
        })))
    }
}
