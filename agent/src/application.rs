//! The HTTP client towards the application: always its own loopback address, always with the public host's name, so that
//! it sees what it would see behind its reverse proxy. Redirects are answers here and are not followed: a user's cookies
//! go nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, REFERER, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use thiserror::Error;
use url::{Url, form_urlencoded};

use crate::config::PublicUrl;
use crate::database::DatabaseError;
use crate::parameters::{ParameterError, Parameters};
use crate::provider::wire::{Wire, WireError};
use crate::recipe::AppPath;
use crate::recipe::path::UnfitSegment;
use crate::telemetry::Telemetry;

/// Longest answer that is read.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// An application that takes longer counts as down.
const TIMEOUT: Duration = Duration::from_secs(10);

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The application.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    parameters: Parameters,
    telemetry: Option<Telemetry>,
    public: Option<Wire>,
}

/// What to ask it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// HTTP method.
    pub(crate) method: Method,
    /// Where to.
    pub(crate) path: &'a AppPath,
    /// What stands after the question mark, to be encoded.
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// Cookies: the browser's, or those of this conversation.
    pub(crate) cookies: Option<HeaderValue>,
    /// Whom to ask for.
    pub(crate) client_address: Option<IpAddr>,
    /// What goes along.
    pub(crate) body: Option<Body>,
    /// Further headers.
    pub(crate) headers: HeaderMap,
}

/// What goes along with a request.
#[derive(Debug)]
pub(crate) enum Body {
    /// `application/json`
    Json(Value),
    /// `application/x-www-form-urlencoded`
    Form(Vec<(String, String)>),
}

/// What it said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body; null if it is no JSON.
    pub(crate) body: Value,
    /// `Location`, as it came.
    pub(crate) location: Option<String>,
    /// `Set-Cookie`, as they came.
    pub(crate) set_cookies: Vec<HeaderValue>,
    /// Whether a browser that gets it cuts its window off from the one that opened it.
    pub(crate) cuts_off: bool,
}

/// Why it said nothing that counts.
#[derive(Debug, Error)]
pub(crate) enum ApplicationError {
    /// The client cannot be made, or a header would not do.
    #[error("the client for the application cannot be made")]
    NotMade,
    /// No answer.
    #[error("the application does not answer: {}", cause(.0))]
    Unreachable(#[source] reqwest::Error),
    /// No answer at its public address.
    #[error("the application's public address does not answer: {0}")]
    Public(#[source] WireError),
    /// It answered with a failure of its own.
    #[error("the application fails with status {0}")]
    Failing(u16),
    /// More than a megabyte.
    #[error("the application's answer is too long")]
    TooLong,
    /// The operator has not said what the request needs.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A value is not there, or cannot stand where the recipe has it.
    #[error("a request of the recipe cannot be made: {0}")]
    Unfit(#[from] UnfitValue),
}

/// A value that a request of the recipe needs, and that cannot stand there.
#[derive(Debug, Error)]
pub(crate) enum UnfitValue {
    /// The application did not say it.
    #[error("the application's answers before it lack {0:?}")]
    Missing(String),
    /// In the path.
    #[error(transparent)]
    Segment(#[from] UnfitSegment),
    /// In a header.
    #[error("the value for the header {0} has characters that no header may have")]
    Header(String),
}

impl<'a> Question<'a> {
    /// A plain GET for nobody in particular.
    pub(crate) fn get(path: &'a AppPath) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            cookies: None,
            client_address: None,
            body: None,
            headers: HeaderMap::new(),
        }
    }
}

impl Body {
    fn encode(self) -> (&'static str, String) {
        match self {
            Self::Json(value) => ("application/json", value.to_string()),
            Self::Form(pairs) => {
                let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                ("application/x-www-form-urlencoded", text)
            }
        }
    }
}

/// Why nothing is known of what only the application, or its database, can say.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// The application.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// Its database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Application {
    /// The application at `url` (loopback, as the configuration demands), known to browsers as `public_url`.
    pub(crate) fn new(url: Url, public_url: &PublicUrl) -> Result<Self, ApplicationError> {
        let client = reqwest::Client::builder()
            // No proxy of the environment may see a user's cookies.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(15))
            .build()
            .map_err(ApplicationError::Unreachable)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ApplicationError::NotMade);
        let origin = public_url.origin();
        let headers = HeaderMap::from_iter([
            (HOST, value(&public_url.authority())?),
            (FORWARDED_PROTO, value(public_url.scheme())?),
            (ACCEPT, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("homeward-agent/", env!("CARGO_PKG_VERSION")))),
            // Django compares these with the host for every unsafe method over https.
            (ORIGIN, value(&origin)?),
            (REFERER, value(&format!("{origin}/"))?),
        ]);
        Ok(Self { client, url, headers, parameters: Parameters::default(), telemetry: None, public: None })
    }

    /// And what the recipe's requests to it may need to know.
    #[must_use]
    pub(crate) fn with_parameters(self, parameters: Parameters) -> Self {
        Self { parameters, ..self }
    }

    /// The same, asked as browsers ask it: at its public address, through whatever stands before it. What the operator has
    /// told this machine of the application, nobody there is told.
    #[must_use]
    pub(crate) fn the_way_of_browsers(self, public_url: &PublicUrl, wire: Wire) -> Self {
        let url = Url::parse(&public_url.origin()).unwrap_or_else(|_| self.url.clone());
        let mut headers = self.headers;
        // That is for the reverse proxy to say.
        headers.remove(FORWARDED_PROTO);
        Self { url, headers, parameters: Parameters::default(), public: Some(wire), ..self }
    }

    /// And where it is counted how often it is reloaded.
    #[must_use]
    pub(crate) fn counted(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Some(telemetry), ..self }
    }

    /// It was reloaded, or was not.
    pub(crate) fn count_reload(&self, worked: bool) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.reloaded(worked);
        }
    }

    /// What the recipe's requests may need to know.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks. A status of 500 or more is an error; any other is an answer.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Answer, ApplicationError> {
        let mut url = self.url.clone();
        url.set_path(question.path.as_str());
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(question.query);
        }
        let mut headers = self.headers.clone();
        if let Some(cookies) = question.cookies {
            headers.insert(COOKIE, cookies);
        }
        if let Some(address) = question.client_address.filter(|_| self.public.is_none()) {
            let address = HeaderValue::from_str(&address.to_string()).map_err(|_| ApplicationError::NotMade)?;
            headers.insert(FORWARDED_FOR, address);
        }
        headers.extend(question.headers);
        let body = question.body.map(Body::encode);
        if let Some(wire) = &self.public {
            return ask_publicly(wire, (question.method, &url, headers), body).await;
        }
        let mut request = self.client.request(question.method, url).headers(headers);
        if let Some((kind, text)) = body {
            request = request.header(CONTENT_TYPE, kind).body(text);
        }
        let response = request.send().await.map_err(unreachable)?;
        read(response).await
    }

    /// Whether it answers at all, within two seconds.
    pub(crate) async fn is_up(&self, path: &AppPath) -> bool {
        let asked = tokio::time::timeout(Duration::from_secs(2), self.ask(Question::get(path)));
        matches!(asked.await, Ok(Ok(_)))
    }
}

/// Without the address: what stands after its question mark may be a code.
fn unreachable(error: reqwest::Error) -> ApplicationError {
    ApplicationError::Unreachable(error.without_url())
}

/// reqwest's own sentence says that something went wrong, and only the innermost one what.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

async fn ask_publicly(
    wire: &Wire,
    (method, url, mut headers): (Method, &Url, HeaderMap),
    body: Option<(&'static str, String)>,
) -> Result<Answer, ApplicationError> {
    let (kind, text) = body.unzip();
    headers.extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
    let mut request = http::Request::builder().method(method).uri(url.as_str());
    request.headers_mut().ok_or(ApplicationError::NotMade)?.extend(headers);
    let request = request.body(text.unwrap_or_default().into_bytes()).map_err(|_| ApplicationError::NotMade)?;
    let response = wire.send(request).await.map_err(ApplicationError::Public)?;
    works(response.status())?;
    Ok(answer(response.status(), response.headers(), response.body()))
}

async fn read(mut response: reqwest::Response) -> Result<Answer, ApplicationError> {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    works(status)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            return Err(ApplicationError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(answer(status, &headers, &bytes))
}

fn works(status: StatusCode) -> Result<(), ApplicationError> {
    if status.as_u16() >= 500 { Err(ApplicationError::Failing(status.as_u16())) } else { Ok(()) }
}

fn answer(status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> Answer {
    let location = headers.get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
    let set_cookies = headers.get_all(SET_COOKIE).iter().cloned().collect();
    let opener = headers.get("cross-origin-opener-policy");
    let cuts_off = opener.is_some_and(|policy| !policy.as_bytes().starts_with(b"unsafe-none"));
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body = if is_json { serde_json::from_slice(bytes).unwrap_or_default() } else { Value::Null };
    Answer { status: status.as_u16(), body, location, set_cookies, cuts_off }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_is_in_no_error() {
        let public_url = PublicUrl::try_from("https://beta.example".parse::<Url>().unwrap()).unwrap();
        let application = Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap();
        let path: AppPath = serde_json::from_str("\"/callback\"").unwrap();
        let query = [("code", "canary")];
        let error = application.ask(Question { query: &query, ..Question::get(&path) }).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}
