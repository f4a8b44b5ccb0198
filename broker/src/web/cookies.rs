//! The cookies of users and of ops, and one for each login that is at an identity provider. All are `__Host-` cookies: set by this host
//! for itself, over TLS, out of reach of scripts and of neighbouring sub-domains. (Browsers accept `Secure` from
//! http://localhost too.)

use std::time::Duration;

use cookie::{Cookie, SameSite};
use homeward_certs::identity::InstanceName;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// What the names of cookies begin with that wait for an identity provider.
const UPSTREAM: &str = "__Host-homeward-upstream-";

/// Most of them that are looked at.
const MAX_UPSTREAMS: usize = 16;

/// Length of a session's name.
const SESSION_ID_LENGTH: usize = 22;

/// Length of an opaque secret's text.
const SECRET_LENGTH: usize = 43;

/// Which cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieName {
    /// Binds logins to this browser.
    Browser,
    /// Says who is signed in.
    Session,
    /// The home that was chosen last: a convenience, no authority.
    Home,
    /// Says who of ops is signed in to the web console.
    Console,
    /// Binds a login at the web console to this browser.
    ConsoleWay,
}

impl CookieName {
    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "__Host-homeward-browser",
            Self::Session => "__Host-homeward-session",
            Self::Home => "__Host-homeward-home",
            Self::Console => "__Host-homeward-console",
            Self::ConsoleWay => "__Host-homeward-console-way",
        }
    }
}

/// What a browser's cookies say. Each is what some browser sent: only a look-up makes anything of it.
#[derive(Clone, Default)]
pub struct Visitor {
    /// The browser's binding.
    pub browser: Option<String>,
    /// The session's name and secret.
    pub session: Option<String>,
    /// The home that was chosen last.
    pub home: Option<InstanceName>,
    /// The console session's name and secret.
    pub console: Option<String>,
    /// What binds a login at the console.
    pub console_way: Option<String>,
    /// Logins that are at identity providers.
    pub upstreams: Vec<UpstreamCookie>,
}

/// What a browser keeps of a login while its user is at an identity provider.
#[derive(Clone)]
pub struct UpstreamCookie {
    /// End of its name: tells the logins of one browser apart.
    pub tag: String,
    /// Sealed.
    pub value: String,
}

impl UpstreamCookie {
    /// In place of one that is to go.
    pub fn gone(tag: &str) -> Self {
        Self { tag: tag.to_owned(), value: String::new() }
    }

    /// Adds it to a response, or removes it from the browser.
    pub fn set(&self, headers: &mut HeaderMap, lifetime: Duration) {
        let lifetime = if self.value.is_empty() { Duration::ZERO } else { lifetime };
        add(headers, &format!("{UPSTREAM}{}", self.tag), &self.value, Some(lifetime));
    }
}

impl Visitor {
    /// Reads the headers of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let headers = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let cookies: Vec<Cookie<'_>> = headers.flat_map(Cookie::split_parse).filter_map(Result::ok).collect();
        let value = |name: CookieName| cookies.iter().find(|c| c.name() == name.as_str()).map(Cookie::value);
        let upstreams = cookies.iter().filter_map(|cookie| {
            let tag = cookie.name().strip_prefix(UPSTREAM)?;
            Some(UpstreamCookie { tag: tag.to_owned(), value: cookie.value().to_owned() })
        });
        let known = |name, form: fn(&str) -> bool| value(name).filter(|value| form(value)).map(str::to_owned);
        Self {
            browser: known(CookieName::Browser, is_secret),
            session: known(CookieName::Session, is_session),
            home: value(CookieName::Home).and_then(|value| value.parse().ok()),
            console: known(CookieName::Console, is_session),
            console_way: known(CookieName::ConsoleWay, is_secret),
            upstreams: upstreams.take(MAX_UPSTREAMS).collect(),
        }
    }
}

/// What no broker has set is not looked up, and not bound to.
fn is_secret(value: &str) -> bool {
    value.len() == SECRET_LENGTH && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The session's name and its secret.
fn is_session(value: &str) -> bool {
    value.split_once('.').is_some_and(|(id, secret)| id.len() == SESSION_ID_LENGTH && is_secret(secret))
}

/// Adds a cookie to a response; until the browser is closed if no lifetime is given.
pub fn set_cookie(headers: &mut HeaderMap, name: CookieName, value: &str, lifetime: Option<Duration>) {
    add(headers, name.as_str(), value, lifetime);
}

fn add(headers: &mut HeaderMap, name: &str, value: &str, lifetime: Option<Duration>) {
    let mut cookie = Cookie::build((name, value)).secure(true).http_only(true).same_site(SameSite::Lax).path("/");
    if let Some(lifetime) = lifetime.and_then(|lifetime| lifetime.try_into().ok()) {
        cookie = cookie.max_age(lifetime);
    }
    if let Ok(header) = HeaderValue::from_str(&cookie.to_string()) {
        headers.append(SET_COOKIE, header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S5
    #[test]
    fn cookies_are_bound_to_this_host_and_hidden_from_scripts() {
        let mut headers = HeaderMap::new();
        set_cookie(&mut headers, CookieName::Session, "x", None);
        set_cookie(&mut headers, CookieName::Browser, "y", Some(Duration::from_secs(600)));
        let set: Vec<&str> = headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(set[0], "__Host-homeward-session=x; HttpOnly; SameSite=Lax; Secure; Path=/");
        assert_eq!(set[1], "__Host-homeward-browser=y; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600");
    }

    #[test]
    fn cookies_are_read_from_all_headers_and_rubbish_is_left() {
        let secret = format!("{}.{}", "B".repeat(22), "A".repeat(43));
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; ;; __Host-homeward-home=UPPER".parse().unwrap());
        headers.append(COOKIE, format!("__Host-homeward-session={secret}; c").parse().unwrap());
        headers.append(COOKIE, HeaderValue::from_bytes(b"\xff=1").unwrap());
        let visitor = Visitor::of(&headers);
        assert_eq!((visitor.browser, visitor.session, visitor.home), (None, Some(secret), None));
    }
}
