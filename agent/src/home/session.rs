//! Home method `session`: the application says whose browser this is, by the browser's own cookies. After a sign-in with a
//! password the same questions are asked, in the conversation of that sign-in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderValue;
use serde_json::Value;
use time::OffsetDateTime;

use super::Visit;
use super::decision::Note;
use super::vouching::{self, auth_time};
use crate::application::{Application, ApplicationError};
use crate::clock;
use crate::conversation::Conversation;
use crate::recipe::home::{Home, WhoAmI};

/// RFC 6585 4.
const TOO_MANY_REQUESTS: u16 = 429;

/// What the application says of a browser.
#[derive(Debug)]
pub(crate) enum Recognised {
    /// The method is off.
    NotAsked,
    /// It did not answer.
    Unavailable,
    /// Nobody is signed in.
    Nobody,
    /// Somebody is, whom this home does not vouch for, and why not.
    Refused(Note),
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

/// What came before the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: the browser brought these cookies.
    Nothing,
    /// A sign-in in the same conversation, which the application says has succeeded.
    SignIn,
}

/// Asks who the browser is.
pub(crate) async fn recognise(application: &Application, recipe: &Home, visit: &Visit) -> Recognised {
    match visit.cookies.clone() {
        Some(cookies) => {
            let mut conversation = Conversation::of_browser(application, visit.source, cookies);
            ask(&mut conversation, recipe, After::Nothing).await
        }
        // Without cookies it is nobody; whether the application is up, its login page will show.
        None => Recognised::Nobody,
    }
}

/// Asks whose conversation this is.
pub(super) async fn ask(conversation: &mut Conversation, recipe: &Home, after: After) -> Recognised {
    match ask_all(conversation, recipe, after).await {
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
    let mut conversation = Conversation::of_browser(application, source, cookies);
    let Some(request) = askable(recipe, &conversation).next() else { return Still::Unknown };
    match conversation.take(&request.step(), &[]).await {
        Ok(answer) if request.when.holds(answer.status, &answer.body) => {
            let documents = BTreeMap::from([(request.name.clone(), answer.body)]);
            // Some recipes learn who it is only from a later request.
            match vouching::home_user_id(recipe, &documents) {
                Some(other) if other != home_user_id => Still::Gone,
                Some(_) | None => Still::There,
            }
        }
        // A limit on requests is no logout.
        Ok(answer) if answer.status == TOO_MANY_REQUESTS => Still::Unknown,
        // Nor is a page of something in front of the application: to a question like this it answers in JSON.
        Ok(answer) if (200..300).contains(&answer.status) && answer.body.is_null() => Still::Unknown,
        Ok(_) => Still::Gone,
        Err(_) => Still::Unknown,
    }
}

async fn ask_all(conversation: &mut Conversation, recipe: &Home, after: After) -> Result<Recognised, ApplicationError> {
    let mut documents = BTreeMap::new();
    let requests: Vec<&WhoAmI> = askable(recipe, conversation).collect();
    for (position, request) in requests.into_iter().enumerate() {
        let answer = conversation.take(&request.step(), &[]).await?;
        let decides = position == 0;
        if request.when.holds(answer.status, &answer.body) {
            documents.insert(request.name.clone(), answer.body);
            continue;
        }
        match request.otherwise {
            // A limit on requests says nothing of the user.
            _ if answer.status == TOO_MANY_REQUESTS => return Ok(Recognised::Unavailable),
            // Somebody was signed in a moment ago: that the application shows nobody has this meaning.
            Some(meaning) if !decides || after == After::SignIn => return Ok(Recognised::Refused(meaning.into())),
            _ if decides => return Ok(Recognised::Nobody),
            Some(_) | None => {}
        }
    }
    if documents.is_empty() {
        return Ok(Recognised::Nobody);
    }
    let foreign = recipe.refuse_when.iter().any(|refusal| {
        // Answers are kept only when they were good; 200 unless the recipe says otherwise.
        let status = refusal.when.status.unwrap_or(200);
        documents.get(&refusal.answer).is_some_and(|document| refusal.when.holds(status, document))
    });
    if foreign {
        return Ok(Recognised::Refused(Note::Foreign));
    }
    Ok(Recognised::Somebody(Answers::new(recipe, documents, clock::now())))
}

/// The requests that can be made in this conversation: some need what only a sign-in brings.
fn askable<'a>(recipe: &'a Home, conversation: &Conversation) -> impl Iterator<Item = &'a WhoAmI> {
    recipe.who_am_i.iter().filter(|request| conversation.can_take(&request.step()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use http::StatusCode;
    use http::header::CONTENT_TYPE;
    use tokio::net::TcpListener;

    use super::*;
    use crate::recipe::Recipe;

    #[tokio::test]
    async fn only_the_applications_own_answer_is_a_logout() {
        let recipe = Recipe::embedded("django-allauth").unwrap().home.unwrap();
        let public_url = "https://alpha.example".parse::<url::Url>().unwrap().try_into().unwrap();
        for (status, body, expected) in [
            (200, r#"{"meta": {"is_authenticated": true}}"#, Still::There),
            (200, r#"{"meta": {"is_authenticated": false}}"#, Still::Gone),
            (401, "", Still::Gone),
            (200, "<html>Back soon</html>", Still::Unknown),
            (204, "", Still::Unknown),
            (429, "{}", Still::Unknown),
            (503, "{}", Still::Unknown),
        ] {
            let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
            let answer = async move || (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, kind)], body);
            let routes = Router::new().route("/_allauth/browser/v1/auth/session", get(answer));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
            let application = Application::new(url.parse().unwrap(), &public_url).unwrap();
            let browser = (HeaderValue::from_static("sessionid=s"), [127, 0, 0, 1].into());
            assert_eq!(still(&application, &recipe, browser, "1").await, expected, "{status} {body}");
        }
    }
}
