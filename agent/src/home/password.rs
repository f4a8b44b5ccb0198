//! Home method `password`: the application judges name and password, in a conversation of its own: cookies that live as
//! long as this call, and a session that is ended before it returns.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cookie::Cookie;
use http::{HeaderName, HeaderValue, Method};
use secrecy::ExposeSecret;

use super::TypedCredentials;
use super::session::{self, Answers, Recognised};
use crate::application::{Answer, Application, ApplicationError, Question};
use crate::recipe::home::{Home, Password, PasswordOutcome, Step, StepMethod};

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
    let mut conversation = Conversation { application, source, cookies: BTreeMap::new() };
    let verdict = match conversation.sign_in(password, typed).await {
        Ok(Some(PasswordOutcome::Ok)) => conversation.who_am_i(recipe).await,
        Ok(Some(outcome)) => Verdict::Refused(outcome),
        Ok(None) => Verdict::Unavailable,
        Err(error) => {
            tracing::warn!(%error, "the application cannot judge a password");
            Verdict::Unavailable
        }
    };
    // Also after a refusal: a half-finished login has a session too.
    if let Some(sign_out) = &password.sign_out
        && let Err(error) = conversation.take(sign_out, None).await
    {
        tracing::warn!(%error, "the session that checked a password could not be ended");
    }
    verdict
}

/// A few requests with cookies in common.
struct Conversation<'a> {
    application: &'a Application,
    source: IpAddr,
    /// By hand: the application marks its cookies Secure, and this is plain HTTP on loopback, so no jar would send them.
    cookies: BTreeMap<String, String>,
}

impl Conversation<'_> {
    /// Takes the steps; `None` if an answer means nothing to the recipe.
    async fn sign_in(
        &mut self,
        password: &Password,
        typed: &TypedCredentials,
    ) -> Result<Option<PasswordOutcome>, ApplicationError> {
        let mut outcome = None;
        for step in &password.steps {
            let answer = self.take(step, Some(typed)).await?;
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

    async fn who_am_i(&self, recipe: &Home) -> Verdict {
        let Some(cookies) = self.cookie_header() else { return Verdict::Unavailable };
        match session::ask(self.application, recipe, cookies, self.source).await {
            Recognised::Somebody(answers) => Verdict::Ok(answers),
            Recognised::Foreign => Verdict::Foreign,
            Recognised::NotAsked | Recognised::Unavailable | Recognised::Nobody => Verdict::Unavailable,
        }
    }

    async fn take(&mut self, step: &Step, typed: Option<&TypedCredentials>) -> Result<Answer, ApplicationError> {
        let values =
            typed.map(|typed| [("username", typed.username.as_str()), ("password", typed.password.expose_secret())]);
        let json = step.json.as_ref().map(|json| json.render(values.as_ref().map_or(&[], |values| values.as_slice())));
        let csrf = step.csrf.as_ref().and_then(|csrf| {
            // The newest: applications change it when somebody signs in.
            let token = HeaderValue::from_str(self.cookies.get(&csrf.cookie)?).ok()?;
            Some((HeaderName::try_from(&csrf.header).ok()?, token))
        });
        let method = match step.method {
            StepMethod::Get => Method::GET,
            StepMethod::Post => Method::POST,
            StepMethod::Delete => Method::DELETE,
        };
        let cookies = self.cookie_header();
        let question = Question { method, path: &step.path, cookies, client_address: Some(self.source), json, csrf };
        let answer = self.application.ask(question).await?;
        keep(&mut self.cookies, &answer.set_cookies);
        Ok(answer)
    }

    fn cookie_header(&self) -> Option<HeaderValue> {
        if self.cookies.is_empty() {
            return None;
        }
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Takes over what the application sets, and forgets what it deletes.
fn keep(cookies: &mut BTreeMap<String, String>, set: &[HeaderValue]) {
    for header in set {
        let Some(cookie) = header.to_str().ok().and_then(|text| Cookie::parse(text).ok()) else { continue };
        let deleted = cookie.value().is_empty() || cookie.max_age().is_some_and(|age| !age.is_positive());
        if deleted {
            cookies.remove(cookie.name());
        } else {
            cookies.insert(cookie.name().to_owned(), cookie.value().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_whatever_their_attributes_and_forgotten_when_deleted() {
        let mut cookies = BTreeMap::new();
        let header = HeaderValue::from_static;
        keep(
            &mut cookies,
            &[header("csrftoken=one; Path=/; SameSite=Lax; Secure"), header("sessionid=s; HttpOnly; Secure")],
        );
        keep(&mut cookies, &[header("csrftoken=two; Path=/")]);
        assert_eq!(cookies.get("csrftoken").map(String::as_str), Some("two"));
        keep(&mut cookies, &[header("sessionid=\"\"; Max-Age=0"), header("nonsense"), header("empty=")]);
        assert_eq!(cookies.into_keys().collect::<Vec<_>>(), ["csrftoken"]);
    }
}
