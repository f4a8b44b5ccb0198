//! A browser of the doctor's own: a jar of cookies, pages one at a time, and no redirect that nobody has looked at.
//!
//! What is asked and read is bounded, in number, size and time. Whose certificates count is as for the agent's other requests to
//! public addresses ([`Wire`]).

use std::time::Duration;

use cookie_store::{CookieDomain, CookieError, CookieStore, RawCookie};
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
    /// The names of the application's cookies that a browser takes no notice of, as they are set.
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

    /// Whether it goes to this address past the reverse proxy.
    pub(super) fn is_beside(&self, url: &Url) -> bool {
        self.beside.is_taken && url.origin() == self.beside.origin
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
        let Beside { portal_path, application, portal, .. } = &self.beside;
        let beside = if url.path().starts_with(portal_path) { portal } else { application };
        beside.as_ref().filter(|_| self.is_beside(url)).unwrap_or(&self.public)
    }

    /// Takes over cookies that an address has set.
    pub(super) fn keep<'a>(&mut self, url: &Url, set: impl IntoIterator<Item = &'a HeaderValue>) {
        for text in set.into_iter().filter_map(|header| header.to_str().ok()) {
            let is_kept = RawCookie::parse(text).is_ok_and(|cookie| {
                // What is gone already can be taken back, too.
                !breaks_rules(&cookie, url)
                    && matches!(self.jar.insert_raw(&cookie, url), Ok(_) | Err(CookieError::Expired))
            });
            // What others set is not the application's to mend.
            if !is_kept && url.origin() == self.beside.origin {
                let name = text.split('=').next().unwrap_or_default();
                self.dropped.push(name.chars().filter(|c| c.is_ascii_graphic()).take(60).collect());
            }
        }
    }

    /// What is sent to an address. Broker and portals elsewhere get only what they have set themselves: no cookie that the
    /// application has set for a whole domain is to count for one of theirs.
    pub(super) fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        let is_own = url.origin() == self.beside.origin;
        let all = self.jar.matches(url).into_iter();
        let fit = all.filter(|cookie| is_own || matches!(cookie.domain, CookieDomain::HostOnly(_)));
        let pairs: Vec<String> = fit.map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
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

/// Whether browsers refuse a cookie for its name (RFC 6265bis 4.1.3), or because it is for a whole top-level domain.
fn breaks_rules(cookie: &RawCookie<'_>, url: &Url) -> bool {
    let name = cookie.name().to_ascii_lowercase();
    let is_secure = cookie.secure() == Some(true);
    let domain = cookie.domain().map(|domain| domain.trim_start_matches('.')).filter(|domain| !domain.is_empty());
    let is_for_all =
        domain.is_some_and(|domain| !domain.contains('.') && url.host_str().is_none_or(|host| host != domain));
    let is_host_only = domain.is_none() && cookie.path() == Some("/");
    is_for_all
        || (name.starts_with("__secure-") && !is_secure)
        || (name.starts_with("__host-") && !(is_secure && is_host_only))
}

/// An address as findings name it: host and path. What stands behind may be a ticket, a state or a code.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{port}{}", url.path()).chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_refuse_what_is_not_for_whoever_sets_it() {
        let url: Url = "https://beta.example/".parse().unwrap();
        let breaks = |text: &str| breaks_rules(&RawCookie::parse(text).unwrap(), &url);
        for good in [
            "a=b",
            "a=b; Domain=beta.example",
            "__Host-a=b; Secure; Path=/",
            "__Secure-a=b; Secure; Domain=beta.example",
        ] {
            assert!(!breaks(good), "{good}");
        }
        for bad in [
            "a=b; Domain=example",
            "__Host-a=b; Secure; Path=/; Domain=beta.example",
            "__host-a=b; Secure; Path=/x",
            "__Host-a=b; Path=/",
            "__Secure-a=b",
        ] {
            assert!(breaks(bad), "{bad}");
        }
    }
}
