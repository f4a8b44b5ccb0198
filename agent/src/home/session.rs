//! Home method `session`: the application says whose browser this is, by the browser's own cookies.

use std::collections::BTreeMap;

use http::HeaderValue;
use serde_json::Value;
use time::OffsetDateTime;

use super::Visit;
use super::vouching::{self, auth_time};
use crate::application::{Application, ApplicationError, Question};
use crate::clock;
use crate::recipe::home::Home;
use std::net::IpAddr;

/// What the application says of a browser.
#[derive(Debug)]
pub(crate) enum Recognised {
    /// The method is off.
    NotAsked,
    /// It did not answer.
    Unavailable,
    /// Nobody is signed in.
    Nobody,
    /// Somebody is, whom this home does not vouch for.
    Foreign,
    /// Somebody is.
    Somebody(Answers),
}

/// The answers to a recipe's who_am_i requests, by name.
pub(crate) struct Answers {
    documents: BTreeMap<String, Value>,
    auth_time: Option<OffsetDateTime>,
}

impl std::fmt::Debug for Answers {
    /// What the application says of a user is for the broker, not for the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.documents.keys()).finish()
    }
}

impl Answers {
    pub(super) fn new(recipe: &Home, documents: BTreeMap<String, Value>, now: OffsetDateTime) -> Self {
        let auth_time = auth_time(recipe, &documents, now);
        Self { documents, auth_time }
    }

    /// What was said, by name of the request.
    pub(super) fn documents(&self) -> &BTreeMap<String, Value> {
        &self.documents
    }

    /// When the user authenticated last, if the application says so.
    pub(super) fn auth_time(&self) -> Option<OffsetDateTime> {
        self.auth_time
    }
}

/// Asks who the browser is.
pub(crate) async fn recognise(application: &Application, recipe: &Home, visit: &Visit) -> Recognised {
    match visit.cookies.clone() {
        Some(cookies) => ask(application, recipe, cookies, visit.source).await,
        // Without cookies it is nobody; whether the application is up, its login page will show.
        None => Recognised::Nobody,
    }
}

/// Asks whose cookies these are.
pub(super) async fn ask(application: &Application, recipe: &Home, cookies: HeaderValue, source: IpAddr) -> Recognised {
    match ask_all(application, recipe, &cookies, source).await {
        Ok(recognised) => recognised,
        Err(error) => {
            tracing::warn!(%error, "the application cannot say who is signed in");
            Recognised::Unavailable
        }
    }
}

/// Whether somebody is still signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Still {
    /// As before.
    There,
    /// Nobody, or somebody else.
    Gone,
    /// The application does not say.
    Unknown,
}

/// Asks whether these cookies are still this user's. Only the request that decides it is made.
pub(super) async fn still(
    application: &Application,
    recipe: &Home,
    (cookies, source): (HeaderValue, IpAddr),
    home_user_id: &str,
) -> Still {
    let Some(request) = recipe.who_am_i.first() else { return Still::Unknown };
    let question = Question { cookies: Some(cookies), client_address: Some(source), ..Question::get(&request.path) };
    match application.ask(question).await {
        Ok(answer) if request.when.holds(answer.status, &answer.body) => {
            let documents = BTreeMap::from([(request.name.clone(), answer.body)]);
            // Some recipes learn who it is only from a later request.
            match vouching::home_user_id(recipe, &documents) {
                Some(other) if other != home_user_id => Still::Gone,
                Some(_) | None => Still::There,
            }
        }
        // A limit on requests is no logout (RFC 6585 4).
        Ok(answer) if answer.status == 429 => Still::Unknown,
        Ok(_) => Still::Gone,
        Err(_) => Still::Unknown,
    }
}

async fn ask_all(
    application: &Application,
    recipe: &Home,
    cookies: &HeaderValue,
    source: IpAddr,
) -> Result<Recognised, ApplicationError> {
    let mut documents = BTreeMap::new();
    for (position, request) in recipe.who_am_i.iter().enumerate() {
        let question =
            Question { cookies: Some(cookies.clone()), client_address: Some(source), ..Question::get(&request.path) };
        let answer = application.ask(question).await?;
        let holds = request.when.holds(answer.status, &answer.body);
        if position == 0 && !holds {
            return Ok(Recognised::Nobody);
        }
        if holds {
            documents.insert(request.name.clone(), answer.body);
        }
    }
    let foreign = recipe.refuse_when.iter().any(|refusal| {
        // Answers are kept only when they were good; 200 unless the recipe says otherwise.
        let status = refusal.when.status.unwrap_or(200);
        documents.get(&refusal.answer).is_some_and(|document| refusal.when.holds(status, document))
    });
    if foreign {
        return Ok(Recognised::Foreign);
    }
    Ok(Recognised::Somebody(Answers::new(recipe, documents, clock::now())))
}
