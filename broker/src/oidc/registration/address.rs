//! Addresses that a client may register.

use url::{Host, Url};

use crate::config::Issuer;
use crate::registry::RESPONSE_PARAMETERS;

/// Longest address, in bytes.
const MAX_LENGTH: usize = 1024;

/// What the client is (OpenID Connect Dynamic Client Registration 1.0 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApplicationType {
    Web,
    Native,
}

/// Which addresses are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressRules {
    /// The broker itself is an http one, for trying things out: so may be its clients, on loopback.
    trying_out: bool,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum AddressError {
    #[error("must be an absolute address of printable ASCII, of at most {MAX_LENGTH} characters")]
    Unreadable,
    #[error("must be https")]
    Scheme,
    #[error("must be https, or for a native client http on loopback or a private-use scheme with a dot")]
    RedirectScheme,
    #[error("must have no fragment")]
    Fragment,
    #[error("must have no user name, no password and no wildcard")]
    Ambiguous,
    #[error("must not have code, state, error or iss in its query")]
    ResponseParameter,
}

impl AddressRules {
    /// Those of a broker with this issuer.
    pub(super) fn new(issuer: &Issuer) -> Self {
        Self { trying_out: issuer.as_str().starts_with("http:") }
    }

    /// An address that browsers or the broker may be sent to: https.
    pub(super) fn check(self, address: &str) -> Result<Url, AddressError> {
        let url = readable(address)?;
        let plain = self.trying_out && url.scheme() == "http" && is_loopback(&url);
        if url.scheme() == "https" || plain { Ok(url) } else { Err(AddressError::Scheme) }
    }

    /// The same, without fragment.
    pub(super) fn check_whole(self, address: &str) -> Result<Url, AddressError> {
        let url = self.check(address)?;
        if address.contains('#') { Err(AddressError::Fragment) } else { Ok(url) }
    }

    /// A callback (RFC 6749 3.1.2, RFC 8252 7, RFC 9700 2.1 and 4.1). It is compared as text later, so that nothing is
    /// made of it here.
    pub(super) fn check_redirect(self, address: &str, application: ApplicationType) -> Result<(), AddressError> {
        let url = readable(address)?;
        if address.contains('#') {
            return Err(AddressError::Fragment);
        }
        let native = application == ApplicationType::Native;
        let allowed = match url.scheme() {
            "https" => url.host().is_some(),
            "http" => (native && is_loopback_literal(address, &url)) || (self.trying_out && is_loopback(&url)),
            // RFC 8252 7.1: a domain turned around. `javascript` and `data` have no dot.
            private => native && private.contains('.'),
        };
        if !allowed {
            return Err(AddressError::RedirectScheme);
        }
        // What is in there already could not be told from our answer (CVE-2026-9689).
        let ambiguous = url.query_pairs().any(|(name, _)| RESPONSE_PARAMETERS.contains(&&*name));
        if ambiguous { Err(AddressError::ResponseParameter) } else { Ok(()) }
    }
}

fn readable(address: &str) -> Result<Url, AddressError> {
    if address.len() > MAX_LENGTH || !address.bytes().all(|byte| byte.is_ascii_graphic()) || address.contains('\\') {
        return Err(AddressError::Unreadable);
    }
    let url = Url::parse(address).map_err(|_| AddressError::Unreadable)?;
    // Whoever writes a wildcard believes that it is one.
    let ambiguous = !url.username().is_empty() || url.password().is_some() || address.contains('*');
    if ambiguous { Err(AddressError::Ambiguous) } else { Ok(url) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// RFC 8252 7.3 and 8.3: the literals, written as they are; `127.1` is another way of writing, and a trick.
fn is_loopback_literal(address: &str, url: &Url) -> bool {
    let literal = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    literal && url.host_str().is_some_and(|host| address.starts_with(&format!("http://{host}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(issuer: &str) -> AddressRules {
        AddressRules::new(&Issuer::parse(issuer).unwrap())
    }

    // R4, R5
    #[test]
    fn callbacks_of_web_clients_are_https_and_unambiguous() {
        let rules = rules("https://login.example");
        for good in ["https://rp.example/cb", "https://rp.example:8443/cb?a=b", "https://[2001:db8::1]/cb"] {
            assert_eq!(rules.check_redirect(good, ApplicationType::Web), Ok(()), "{good}");
        }
        for bad in [
            "http://rp.example/cb",
            "http://127.0.0.1/cb",
            "http://localhost:8080/cb",
            "https://rp.example/cb#x",
            "https://rp.example/cb#",
            "https://rp.example/cb?code=1",
            "https://rp.example/cb?a=1&%73tate=1",
            "https://rp.example/cb?iss=x",
            "https://user@rp.example/cb",
            "https://*.rp.example/cb",
            "https://rp.example/*",
            "https://rp.example\\@evil.example/cb",
            "https://rp.example/c b",
            "https://rp.example/cb\0",
            "https://rp.example/é",
            "com.example.app:/cb",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "urn:ietf:wg:oauth:2.0:oob",
            "//rp.example/cb",
            "/cb",
            "rp.example",
            "",
        ] {
            assert!(rules.check_redirect(bad, ApplicationType::Web).is_err(), "{bad:?}");
        }
        assert!(
            rules.check_redirect(&format!("https://rp.example/{}", "x".repeat(1024)), ApplicationType::Web).is_err()
        );
    }

    // R3, R4
    #[test]
    fn native_clients_have_loopback_and_schemes_of_their_own() {
        let rules = rules("https://login.example");
        for good in [
            "http://127.0.0.1/cb",
            "http://127.0.0.1:8080/cb",
            "http://[::1]/cb",
            "http://localhost:1234/cb",
            "com.example.app:/cb",
            "com.example.app://cb",
            "https://rp.example/cb",
        ] {
            assert_eq!(rules.check_redirect(good, ApplicationType::Native), Ok(()), "{good}");
        }
        for bad in [
            "http://127.1/cb",
            "http://0x7f.1/cb",
            "http://127.0.0.2/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://localhost.evil.example/cb",
            "http://rp.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "app:/cb",
            "com.example.app:/cb#x",
            "com.example.app:/cb?code=1",
        ] {
            assert!(rules.check_redirect(bad, ApplicationType::Native).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn http_is_for_trying_things_out_on_loopback() {
        let (real, trial) = (rules("https://login.example"), rules("http://localhost:8080"));
        for (address, in_trial) in
            [("http://rp.localhost:8081/x", true), ("http://127.0.0.1:1/x", true), ("http://rp.example/x", false)]
        {
            assert_eq!(trial.check_redirect(address, ApplicationType::Web).is_ok(), in_trial, "{address}");
            assert_eq!(trial.check_whole(address).is_ok(), in_trial, "{address}");
            assert_eq!(real.check_whole(address), Err(AddressError::Scheme), "{address}");
        }
        assert!(real.check("https://rp.example/request.jwt#hash").is_ok());
        assert_eq!(real.check_whole("https://rp.example/logo#x"), Err(AddressError::Fragment));
    }
}
