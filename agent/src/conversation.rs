//! A few requests to the application with cookies in common, which live as long as the conversation.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cookie::Cookie;
use http::{HeaderName, HeaderValue, Method};

use crate::application::{Answer, Application, ApplicationError, Question};
use crate::recipe::AppPath;
use crate::recipe::step::{Step, StepMethod};

/// A conversation.
#[derive(Debug)]
pub(crate) struct Conversation<'a> {
    application: &'a Application,
    /// The browser that it is held for, if there is one.
    source: Option<IpAddr>,
    /// By hand: the application marks its cookies Secure, and this is plain HTTP on loopback, so no jar would send them.
    cookies: BTreeMap<String, String>,
}

impl<'a> Conversation<'a> {
    /// Without cookies.
    pub(crate) fn begin(application: &'a Application, source: Option<IpAddr>) -> Self {
        Self { application, source, cookies: BTreeMap::new() }
    }

    /// With whom.
    pub(crate) fn application(&self) -> &Application {
        self.application
    }

    /// Takes a step, whose placeholders get these values.
    pub(crate) async fn take(&mut self, step: &Step, values: &[(&str, &str)]) -> Result<Answer, ApplicationError> {
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
        let json = step.json.as_ref().map(|json| json.render(values));
        self.ask(Question { method, csrf, json, ..Question::get(&step.path) }).await
    }

    /// Follows a redirect that somebody would have brought here.
    pub(crate) async fn arrive(&mut self, path: &AppPath, query: &[(&str, &str)]) -> Result<Answer, ApplicationError> {
        self.ask(Question { query, ..Question::get(path) }).await
    }

    /// The cookies, for a request outside the conversation.
    pub(crate) fn cookie_header(&self) -> Option<HeaderValue> {
        if self.cookies.is_empty() {
            return None;
        }
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    async fn ask(&mut self, question: Question<'_>) -> Result<Answer, ApplicationError> {
        let question = Question { cookies: self.cookie_header(), client_address: self.source, ..question };
        let answer = self.application.ask(question).await?;
        keep(&mut self.cookies, &answer.set_cookies);
        Ok(answer)
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
