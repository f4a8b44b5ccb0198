//! Home method `password`: the application judges name and password, in a conversation of its own: cookies that live as
//! long as this call, and a session that is ended before it returns.

use std::net::IpAddr;

use secrecy::ExposeSecret;

use super::TypedCredentials;
use super::session::{self, Answers, Recognised};
use crate::application::{Application, ApplicationError};
use crate::conversation::Conversation;
use crate::recipe::home::{Home, Password, PasswordOutcome};

/// How the application judged.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// This is who it was.
    Ok(Answers),
    /// Not so.
    Refused(PasswordOutcome),
    /// The account's session is not this home's to vouch for.
    Foreign,
    /// It did not answer, or not as the recipe says.
    Unavailable,
}

/// Tries name and password.
pub(crate) async fn check(
    application: &Application,
    recipe: &Home,
    typed: &TypedCredentials,
    source: IpAddr,
) -> Verdict {
    let Some(password) = &recipe.password else { return Verdict::Unavailable };
    let mut conversation = Conversation::begin(application, Some(source));
    let verdict = match sign_in(&mut conversation, password, typed).await {
        Ok(Some(PasswordOutcome::Ok)) => who_am_i(&conversation, recipe, source).await,
        Ok(Some(outcome)) => Verdict::Refused(outcome),
        Ok(None) => Verdict::Unavailable,
        Err(error) => {
            tracing::warn!(%error, "the application cannot judge a password");
            Verdict::Unavailable
        }
    };
    // Also after a refusal: a half-finished login has a session too.
    if let Some(sign_out) = &password.sign_out
        && let Err(error) = conversation.take(sign_out, &[]).await
    {
        tracing::warn!(%error, "the session that checked a password could not be ended");
    }
    verdict
}

/// Takes the steps; `None` if an answer means nothing to the recipe.
async fn sign_in(
    conversation: &mut Conversation<'_>,
    password: &Password,
    typed: &TypedCredentials,
) -> Result<Option<PasswordOutcome>, ApplicationError> {
    let values = [("username", typed.username.as_str()), ("password", typed.password.expose_secret())];
    let mut outcome = None;
    for step in &password.steps {
        let answer = conversation.take(step, &values).await?;
        let rule = step.outcomes.iter().find(|rule| rule.when.holds(answer.status, &answer.body));
        outcome = rule.map(|rule| rule.outcome);
        match outcome {
            None if step.outcomes.is_empty() => {}
            None => {
                let (path, status) = (&step.path, answer.status);
                tracing::error!(%path, status, "the application's answer to a login means nothing to the recipe; check that public_url is the site's own and that its CSRF settings allow it");
                return Ok(None);
            }
            Some(PasswordOutcome::Ok) => {}
            Some(_) => return Ok(outcome),
        }
    }
    Ok(outcome)
}

async fn who_am_i(conversation: &Conversation<'_>, recipe: &Home, source: IpAddr) -> Verdict {
    let Some(cookies) = conversation.cookie_header() else { return Verdict::Unavailable };
    match session::ask(conversation.application(), recipe, cookies, source).await {
        Recognised::Somebody(answers) => Verdict::Ok(answers),
        Recognised::Foreign => Verdict::Foreign,
        Recognised::NotAsked | Recognised::Unavailable | Recognised::Nobody => Verdict::Unavailable,
    }
}
