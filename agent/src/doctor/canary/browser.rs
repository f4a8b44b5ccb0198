//! A browser of the doctor's own: a jar of cookies, pages one at a time, and no redirect that nobody has looked at.
//!
//! What is asked and read is bounded, in number, size and time. Whose certificates count is as for the agent's other requests to
//! public addresses ([`Wire`]).

use std::time::Duration;

use cookie_store::CookieStore;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, DATE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use url::{Origin, Url, form_urlencoded};
use zeroize::Zeroizing;

use super::page::Page;
use crate::clock;
use crate::config::Config;
use crate::doctor::public_address::here;
use crate::provider::wire::{Wire, WireError};

/// For one answer: a home may ask a directory that takes its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// More requests than any login takes.
const MOST: usize = 40;

/// The browser.
pub(super) struct Browser {
    public: Wire,
    beside: Beside,
    jar: CookieStore,
    left: usize,
    /// The names of cookies that a browser takes no notice of, as they are set.
    pub(super) dropped: Vec<String>,
}

/// The instance's own origin, where its public address does not lead back to this machine.
struct Beside {
    origin: Origin,
    portal_path: String,
    application: Option<Wire>,
    portal: Option<Wire>,
    is_taken: bool,
}

/// What came of a request.
pub(super) struct Answer {
    /// Where it was sent.
    pub(super) url: Url,
    /// HTTP status.
    pub(super) status: u16,
    /// Where it leads; nobody has gone there yet.
    pub(super) next: Option<Url>,
    /// What it shows.
    pub(super) page: Page,
    /// Further headers.
    pub(super) headers: HeaderMap,
    /// When it was asked, and when it was answered.
    pub(super) at: (OffsetDateTime, OffsetDateTime),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Stuck {
    /// Too many requests for one login.
    InCircles,
    /// This address, without what may be secret of it.
    NoAnswer(String, WireError),
}

impl Browser {
    /// Without cookies.
    pub(super) fn new(wire: &Wire, config: &Config) -> Result<Self, WireError> {
        let origin = Url::parse(&config.public_url.origin()).map_err(|_| WireError::Address)?.origin();
        let portal = format!("http://{}/", here(config.portal.listen));
        let at = |url: &Url| wire.clone().beside(&config.public_url, url).ok().map(|wire| wire.within(PATIENCE));
        let beside = Beside {
            origin,
            portal_path: config.portal.path.clone(),
            application: at(&config.app_url),
            portal: Url::parse(&portal).ok().filter(|_| config.portal.listen.port() != 0).and_then(|url| at(&url)),
            is_taken: false,
        };
        let public = wire.clone().within(PATIENCE);
        Ok(Self { public, beside, jar: CookieStore::default(), left: MOST, dropped: Vec::new() })
    }

    /// From now on goes to application and portal on this machine, past the reverse proxy.
    pub(super) fn go_beside(&mut self) {
        self.beside.is_taken = true;
    }

    /// As many requests again as at the beginning: whatever led in circles, the way out is another one.
    pub(super) fn begin_anew(&mut self) {
        self.left = MOST;
    }

    /// Opens an address.
    pub(super) async fn get(&mut self, url: &Url) -> Result<Answer, Stuck> {
        self.ask(Method::GET, url, None).await
    }

    /// Sends a form. Where the answer leads, nothing of it goes.
    pub(super) async fn post(&mut self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Stuck> {
        let body = Zeroizing::new(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
        self.ask(Method::POST, url, Some(body)).await
    }

    /// Asks the portal itself, past the reverse proxy.
    pub(super) async fn get_of_portal(&mut self, url: &Url) -> Result<Answer, Stuck> {
        let before = std::mem::replace(&mut self.beside.is_taken, true);
        let answer = self.get(url).await;
        self.beside.is_taken = before;
        answer
    }

    async fn ask(&mut self, method: Method, url: &Url, body: Option<Zeroizing<String>>) -> Result<Answer, Stuck> {
        self.left = self.left.checked_sub(1).ok_or(Stuck::InCircles)?;
        let mut url = url.clone();
        url.set_fragment(None);
        let wrong = |error| Stuck::NoAnswer(shown(&url), error);
        let mut request = Request::builder().method(method).uri(url.as_str()).header(ACCEPT, "text/html");
        if let Some(cookies) = self.cookies(&url) {
            request = request.header(COOKIE, cookies);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = body.map(|body| body.as_bytes().to_vec()).unwrap_or_default();
        let request = request.body(body).map_err(|_| wrong(WireError::Address))?;
        let asked = clock::now();
        let answer = self.wire(&url).send(request).await.map_err(wrong)?;
        let (head, body) = answer.into_parts();
        self.keep(&url, head.headers.get_all(SET_COOKIE));
        let location = head.headers.get(LOCATION).filter(|_| head.status.is_redirection());
        let next = location.and_then(|to| url.join(to.to_str().ok()?).ok());
        let page = Page::read(&String::from_utf8_lossy(&body));
        Ok(Answer { status: head.status.as_u16(), next, page, headers: head.headers, at: (asked, clock::now()), url })
    }

    fn wire(&self, url: &Url) -> &Wire {
        let Beside { origin, portal_path, application, portal, is_taken } = &self.beside;
        let beside = if url.path().starts_with(portal_path) { portal } else { application };
        beside.as_ref().filter(|_| *is_taken && url.origin() == *origin).unwrap_or(&self.public)
    }

    /// Takes over cookies that an address has set.
    pub(super) fn keep<'a>(&mut self, url: &Url, set: impl IntoIterator<Item = &'a HeaderValue>) {
        for text in set.into_iter().filter_map(|header| header.to_str().ok()) {
            if self.jar.parse(text, url).is_err() {
                let name = text.split('=').next().unwrap_or_default();
                self.dropped.push(name.chars().filter(|c| c.is_ascii_graphic()).take(60).collect());
            }
        }
    }

    /// What is sent to an address.
    pub(super) fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        let pairs: Vec<String> =
            self.jar.get_request_values(url).map(|(name, value)| format!("{name}={value}")).collect();
        let mut header = (!pairs.is_empty()).then(|| HeaderValue::from_str(&pairs.join("; ")).ok()).flatten()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl Answer {
    /// What time the other side has.
    pub(super) fn date(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.headers.get(DATE)?.to_str().ok()?, &Rfc2822).ok()
    }
}

impl std::fmt::Debug for Answer {
    /// Tickets, codes and cookies are in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("at", &shown(&self.url)).field("status", &self.status).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Browser {
    /// Cookies are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("left", &self.left).field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// An address as findings name it: host and path. What stands behind may be a ticket, a state or a code.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{port}{}", url.path()).chars().filter(|c| !c.is_control()).take(120).collect()
}
