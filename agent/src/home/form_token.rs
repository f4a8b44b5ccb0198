//! Against forged forms: a token that is bound to the browser (a cookie that only this portal's host can set) and to the
//! ticket. Without it, a stranger's page could log a victim in as the stranger (RFC 6819 4.4.1.8).

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ticket::Ticket;
use crate::random::{self, NoRandomness};

/// Makes and checks tokens, with a key that lives as long as the process.
pub(crate) struct FormTokens(hmac::Key);

/// What tells one browser from another: 32 random bytes in a cookie.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Browser(String);

impl Browser {
    /// One that was not here before.
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?)))
    }

    /// One that was, by its cookie.
    pub(crate) fn known(cookie: &str) -> Option<Self> {
        let legal = URL_SAFE_NO_PAD.decode(cookie).is_ok_and(|bytes| bytes.len() == 32);
        legal.then(|| Self(cookie.to_owned()))
    }

    /// For the cookie.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FormTokens {
    pub(super) fn new() -> Result<Self, NoRandomness> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?)))
    }

    pub(super) fn issue(&self, browser: &Browser, ticket: &Ticket) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &bound_to(browser, ticket)))
    }

    pub(super) fn verify(&self, browser: &Browser, ticket: &Ticket, token: &str) -> bool {
        let token = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        hmac::verify(&self.0, &bound_to(browser, ticket), &token).is_ok()
    }
}

fn bound_to(browser: &Browser, ticket: &Ticket) -> Vec<u8> {
    // Neither part can contain the separator.
    [browser.0.as_bytes(), b"|", ticket.as_str().as_bytes()].concat()
}

impl fmt::Debug for FormTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormTokens(…)")
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Browser(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_browser_and_one_ticket() {
        let tokens = FormTokens::new().unwrap();
        let (browser, other) = (Browser::new().unwrap(), Browser::new().unwrap());
        let ticket: Ticket = "one".parse().unwrap();
        let token = tokens.issue(&browser, &ticket);
        assert!(tokens.verify(&browser, &ticket, &token));
        assert!(!tokens.verify(&other, &ticket, &token));
        assert!(!tokens.verify(&browser, &"two".parse().unwrap(), &token));
        assert!(!tokens.verify(&browser, &ticket, ""));
        assert!(!FormTokens::new().unwrap().verify(&browser, &ticket, &token));
    }

    #[test]
    fn only_what_this_portal_could_have_set_is_a_known_browser() {
        let browser = Browser::new().unwrap();
        assert!(Browser::known(browser.as_str()) == Some(browser));
        assert!(Browser::known("").is_none() && Browser::known("short").is_none());
    }
}
