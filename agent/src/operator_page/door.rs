//! Who comes in. The page asks nobody for a password: whoever reaches its address may read it. That must stay true of people
//! and programs on this machine only (and of those whom a reverse proxy has asked), so three things are looked at that a
//! page of somebody else's in the operator's browser cannot choose:
//!
//! * the name under which it was asked for: a stranger's name that leads to this machine (DNS rebinding) would let the
//!   stranger's page read everything;
//! * what the browser says of where a request comes from (Fetch Metadata): other pages may lead here by a link, whose
//!   outcome they do not see, and may do nothing else. Another port of this machine is another page;
//! * with a form, the token that stands in the page, which only who has read the page can know.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri};
use thiserror::Error;
use url::Host;

use crate::random::{self, NoRandomness};

/// Lets requests in, or does not.
#[derive(Debug)]
pub(super) struct Door {
    hosts: BTreeSet<String>,
    token: FormToken,
}

/// Stands in every form; as good as the process is old. It is bound to no browser: there is no session here, and whoever can
/// read it can send the form.
pub(super) struct FormToken(String);

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Shut {
    #[error(
        "the request was for the host {0:?}: if that is a name of your reverse proxy's, [operator_page] hosts has to have it"
    )]
    OtherHost(String),
    #[error("the request was sent by a page of another site, or of another port")]
    OtherSite,
    #[error("the form has not the token of this page")]
    ForgedForm,
}

impl Door {
    /// For requests to this machine, and to `hosts`.
    pub(super) fn new(hosts: BTreeSet<String>) -> Result<Self, NoRandomness> {
        Ok(Self { hosts, token: FormToken(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?)) })
    }

    /// For the form.
    pub(super) fn token(&self) -> &str {
        &self.token.0
    }

    /// Looks at a request before anything is done about it.
    pub(super) fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Shut> {
        let asked = authority(uri, headers).ok_or_else(|| Shut::OtherHost("none, or several".to_owned()))?;
        if !self.is_ours(asked.host()) {
            return Err(Shut::OtherHost(asked.to_string()));
        }
        if is_of_this_page(method, headers, &asked) { Ok(()) } else { Err(Shut::OtherSite) }
    }

    /// Whether a form was made by this page.
    pub(super) fn takes(&self, token: &str) -> Result<(), Shut> {
        let same = constant_time::verify_slices_are_equal(self.token.0.as_bytes(), token.as_bytes());
        same.map_err(|_| Shut::ForgedForm)
    }

    /// Whether it is an address or a name of this machine (RFC 6761 6.3), or one that is configured. The port is of no
    /// matter: `ssh -L` gives it another one, and a stranger's name is a stranger's with every port.
    fn is_ours(&self, host: &str) -> bool {
        match Host::parse(host) {
            Ok(Host::Ipv4(address)) if address.is_loopback() => true,
            Ok(Host::Ipv6(address)) if address.is_loopback() => true,
            Ok(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => true,
            Ok(host) => self.hosts.contains(&host.to_string()),
            Err(_) => false,
        }
    }
}

/// What the request is for: the target's own authority, or else the only `Host` (RFC 9112 3.2).
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    let (host, further) = (named.next(), named.next());
    let of_header = || host.filter(|_| further.is_none())?.to_str().ok()?.parse::<Authority>().ok();
    let found = uri.authority().cloned().or_else(of_header)?;
    // What stands before an @ is no part of a name, and no browser sends it.
    (!found.as_str().contains('@')).then_some(found)
}

fn is_of_this_page(method: &Method, headers: &HeaderMap, asked: &Authority) -> bool {
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|said| said == value);
    let looks = method == Method::GET || method == Method::HEAD;
    if headers.contains_key("sec-fetch-site") {
        // Typed, or from a bookmark: nobody sends a form so.
        let own = says("sec-fetch-site", "same-origin") || (looks && says("sec-fetch-site", "none"));
        let link = looks && says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
        return own || link;
    }
    // Older browsers, plain HTTP under another name than this machine's, and curl. The page sends no referrer, and so the
    // origin `null`, which others can make their browser send, too: the form's token is what counts then.
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes).filter(|origin| *origin != b"null");
    origin.is_none_or(|origin| {
        let origin = std::str::from_utf8(origin).unwrap_or_default();
        let of_host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        of_host.is_some_and(|of_host| of_host.eq_ignore_ascii_case(asked.as_str()))
    })
}

impl fmt::Debug for FormToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAVIGATES: [(&str, &str); 2] = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

    fn door() -> Door {
        Door::new(BTreeSet::from(["beta.example".to_owned()])).unwrap()
    }

    fn admitted(method: &Method, said: &[(&'static str, &str)]) -> Result<(), Shut> {
        let mut all = HeaderMap::new();
        for (name, value) in said {
            all.append(*name, value.parse().unwrap());
        }
        door().admit(method, &Uri::from_static("/"), &all)
    }

    #[test]
    fn a_strangers_name_that_leads_to_this_machine_opens_nothing() {
        for own in
            ["127.0.0.1:9446", "127.0.0.1", "127.3.2.1:1", "localhost:9446", "LOCALHOST", "x.localhost", "[::1]:9446"]
        {
            admitted(&Method::GET, &[("host", own)]).unwrap();
        }
        for configured in ["beta.example", "BETA.example", "beta.example:8443"] {
            admitted(&Method::GET, &[("host", configured)]).unwrap();
        }
        for stranger in [
            "evil.example",
            "evil.example:9446",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "beta.example.evil.example",
            "not-beta.example",
            "beta.example@evil.example",
            "192.0.2.7:9446",
            "0.0.0.0:9446",
            "[::]:9446",
            "",
        ] {
            let refused = admitted(&Method::GET, &[("host", stranger)]).unwrap_err();
            assert!(matches!(refused, Shut::OtherHost(_)), "{stranger}");
        }
        assert!(admitted(&Method::GET, &[]).is_err(), "no name at all");
        assert!(admitted(&Method::GET, &[("host", "127.0.0.1"), ("host", "127.0.0.1")]).is_err(), "two of them");
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1"))]);
        let target = Uri::from_static("http://evil.example/");
        assert!(door().admit(&Method::GET, &target, &headers).is_err(), "the target goes before the header");
    }

    #[test]
    fn another_page_may_lead_here_and_nothing_else() {
        let host = ("host", "127.0.0.1:9446");
        for site in ["same-origin", "none", "same-site", "cross-site"] {
            let own = matches!(site, "same-origin" | "none");
            let site = ("sec-fetch-site", site);
            assert_eq!(admitted(&Method::GET, &[host, site]).is_ok(), own, "{site:?}");
            let [mode, document] = NAVIGATES;
            admitted(&Method::GET, &[host, site, mode, document]).unwrap();
            let framed = admitted(&Method::GET, &[host, site, mode, ("sec-fetch-dest", "iframe")]);
            assert_eq!(framed.is_ok(), own, "{site:?}");
            let sent = admitted(&Method::POST, &[host, site, mode, document]);
            assert_eq!(sent.is_ok(), site.1 == "same-origin", "{site:?}");
        }
    }

    #[test]
    fn who_says_no_site_is_judged_by_the_origin_to_the_port() {
        let host = ("host", "127.0.0.1:9446");
        let judged = |origin| admitted(&Method::POST, &[host, ("origin", origin)]).is_ok();
        assert!(judged("http://127.0.0.1:9446") && judged("null"));
        for foreign in ["http://127.0.0.1:3000", "http://localhost:9446", "https://evil.example", "127.0.0.1:9446", ""]
        {
            assert!(!judged(foreign), "{foreign}");
        }
        admitted(&Method::POST, &[host]).unwrap();
    }

    #[test]
    fn a_form_counts_by_the_token_of_this_process_only() {
        let (door, other) = (door(), door());
        door.takes(door.token()).unwrap();
        for forged in [other.token(), "", &door.token()[1..]] {
            assert_eq!(door.takes(forged), Err(Shut::ForgedForm));
        }
        assert!(!format!("{door:?}").contains(door.token()));
    }
}
