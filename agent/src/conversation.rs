//! A few requests to the application with cookies in common, which live as long as the conversation.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use cookie::Cookie;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::application::{Answer, Application, ApplicationError, Body, Question, UnfitValue};
use crate::recipe::AppPath;
use crate::recipe::content::fill;
use crate::recipe::pointer::Pointer;
use crate::recipe::step::{Csrf, Step, StepMethod};

/// A conversation.
pub(crate) struct Conversation {
    application: Application,
    /// The browser that it is held for, if there is one.
    source: Option<IpAddr>,
    cookies: Cookies,
    /// What steps took from answers for later ones.
    captured: BTreeMap<String, SecretString>,
}

/// Cookies of a conversation.
enum Cookies {
    /// What the application has set in it. By hand: the application marks its cookies Secure, and this is plain HTTP on
    /// loopback, so no jar would send them.
    Own(BTreeMap<String, String>),
    /// What a browser brought. What the application sets meanwhile, the browser does not get.
    OfBrowser(HeaderValue),
}

/// A step with its values.
struct Request {
    path: AppPath,
    query: Vec<(String, String)>,
    body: Option<Body>,
    headers: HeaderMap,
}

impl Conversation {
    /// Without cookies.
    pub(crate) fn begin(application: &Application, source: Option<IpAddr>) -> Self {
        let cookies = Cookies::Own(BTreeMap::new());
        Self { application: application.clone(), source, cookies, captured: BTreeMap::new() }
    }

    /// With the cookies of a browser, for the application and for nobody else.
    pub(crate) fn of_browser(application: &Application, source: IpAddr, cookies: HeaderValue) -> Self {
        let cookies = Cookies::OfBrowser(cookies);
        Self { application: application.clone(), source: Some(source), cookies, captured: BTreeMap::new() }
    }

    /// Whether a step that needs no values but captured ones and parameters can be taken here.
    pub(crate) fn can_take(&self, step: &Step) -> bool {
        let parameters = self.application.parameters();
        // One that cannot be read is one all the same.
        let is_known = |name: &str| self.captured.contains_key(name) || !matches!(parameters.value(name), Ok(None));
        step.placeholders().all(is_known)
    }

    /// Takes a step. Its placeholders get these values, or what earlier steps captured, or the operator's parameters.
    pub(crate) async fn take(&mut self, step: &Step, values: &[(&str, &str)]) -> Result<Answer, ApplicationError> {
        if let (Some(Csrf { cookie, if_unset: Some(token), .. }), Cookies::Own(cookies)) =
            (&step.csrf, &mut self.cookies)
        {
            cookies.entry(cookie.clone()).or_insert_with(|| token.clone());
        }
        let request = self.request(step, values)?;
        self.send(step, request).await
    }

    /// Takes a step with this body, in which nothing is a placeholder.
    pub(crate) async fn deliver(&mut self, step: &Step, body: Value) -> Result<Answer, ApplicationError> {
        let request = Request { body: Some(Body::Json(body)), ..self.request(step, &[])? };
        self.send(step, request).await
    }

    async fn send(&mut self, step: &Step, request: Request) -> Result<Answer, ApplicationError> {
        let Request { path, query, body, headers } = request;
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let method = method(step.method);
        let answer = self.ask(Question { method, query: &query, headers, body, ..Question::get(&path) }).await?;
        self.capture(&step.capture, &answer.body);
        Ok(answer)
    }

    fn request(&self, step: &Step, values: &[(&str, &str)]) -> Result<Request, ApplicationError> {
        let parameters = self.application.parameters().values(step.placeholders())?;
        let captured = self.captured.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
        let values: Vec<(&str, &str)> = values.iter().copied().chain(captured).chain(parameters.pairs()).collect();
        if let Some(missing) = step.placeholders().find(|name| !values.iter().any(|(known, _)| known == name)) {
            return Err(UnfitValue::Missing(missing.to_owned()).into());
        }
        let pairs = |texts: &BTreeMap<String, String>| {
            texts.iter().map(|(name, value)| (name.clone(), fill(value, &values).to_owned())).collect()
        };
        let body = match (&step.json, &step.form) {
            (Some(json), _) => Some(Body::Json(json.render(&values))),
            (None, form) => form.as_ref().map(|form| Body::Form(pairs(form))),
        };
        let path = step.path.fill(&values).map_err(UnfitValue::Segment)?;
        Ok(Request { path, query: pairs(&step.query), body, headers: self.headers(step, &values)? })
    }

    fn headers(&self, step: &Step, values: &[(&str, &str)]) -> Result<HeaderMap, UnfitValue> {
        let mut headers = HeaderMap::new();
        for (name, text) in &step.headers {
            let unfit = || UnfitValue::Header(name.as_str().to_owned());
            let value = text.fill(values);
            let mut value = HeaderValue::from_str(&value).map_err(|_| unfit())?;
            value.set_sensitive(text.placeholder().is_some());
            headers.insert(HeaderName::try_from(name.as_str()).map_err(|_| unfit())?, value);
        }
        let csrf = step.csrf.as_ref().and_then(|csrf| {
            // The newest: applications change it when somebody signs in.
            let token = HeaderValue::from_str(&self.cookies.value(&csrf.cookie)?).ok()?;
            Some((HeaderName::try_from(&csrf.header).ok()?, token))
        });
        headers.extend(csrf);
        Ok(headers)
    }

    /// What is not in the answer is not known any more: an old token is not for a new sign-in.
    fn capture(&mut self, wanted: &BTreeMap<String, Pointer>, body: &Value) {
        for (name, pointer) in wanted {
            let found = pointer.select(body).into_iter().find_map(|value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            });
            match found {
                Some(value) => self.captured.insert(name.clone(), value.into()),
                None => self.captured.remove(name),
            };
        }
    }

    /// Follows a redirect that somebody would have brought here.
    pub(crate) async fn arrive(&mut self, path: &AppPath, query: &[(&str, &str)]) -> Result<Answer, ApplicationError> {
        self.ask(Question { query, ..Question::get(path) }).await
    }

    async fn ask(&mut self, question: Question<'_>) -> Result<Answer, ApplicationError> {
        let question = Question { cookies: self.cookies.header(), client_address: self.source, ..question };
        let answer = self.application.ask(question).await?;
        if let Cookies::Own(cookies) = &mut self.cookies {
            keep(cookies, &answer.set_cookies);
        }
        Ok(answer)
    }
}

impl Cookies {
    fn header(&self) -> Option<HeaderValue> {
        let cookies = match self {
            Self::OfBrowser(header) => return Some(header.clone()),
            Self::Own(cookies) if cookies.is_empty() => return None,
            Self::Own(cookies) => cookies,
        };
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn value(&self, name: &str) -> Option<String> {
        match self {
            Self::Own(cookies) => cookies.get(name).cloned(),
            Self::OfBrowser(header) => {
                let mut cookies = Cookie::split_parse(header.to_str().ok()?).flatten();
                cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
            }
        }
    }
}

impl fmt::Debug for Conversation {
    /// Cookies and tokens are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("source", &self.source).finish_non_exhaustive()
    }
}

fn method(method: StepMethod) -> Method {
    match method {
        StepMethod::Get => Method::GET,
        StepMethod::Post => Method::POST,
        StepMethod::Put => Method::PUT,
        StepMethod::Patch => Method::PATCH,
        StepMethod::Delete => Method::DELETE,
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
