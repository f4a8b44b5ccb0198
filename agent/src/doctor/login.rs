//! How the application begins a login: whether it leads to the broker, and back to an address that the broker knows.
//!
//! Most of what goes wrong between reverse proxy and application shows here, in one parameter: an application that does
//! not know that browsers come over TLS, or by which host name, sends another `redirect_uri` than was registered, and the
//! broker sends nobody there (RFC 6749 3.1.2.3).

use url::Url;

use super::finding::Finding;
use super::{Enrolled, Patient};
use crate::config::Config;
use crate::conversation::Conversation;

const ABOUT: &str = "login";

/// What a login must be like.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Whom it goes to.
    pub(crate) issuer: String,
    /// Where it comes back to: any of these.
    pub(crate) redirect_uris: Vec<String>,
    /// Whose it is, if that is known yet.
    pub(crate) client_id: Option<String>,
    /// Whether the recipe says that it brings a PKCE challenge.
    pub(crate) pkce: bool,
}

impl Expected {
    /// By configuration and recipe; `None` if the application is no relying party.
    pub(crate) fn of(config: &Config, issuer: String, client_id: Option<String>) -> Option<Self> {
        let recipe = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref())?;
        let origin = config.public_url.origin();
        let redirect_uris = recipe.callback_paths.iter().map(|path| format!("{origin}{path}")).collect();
        Some(Self { issuer, redirect_uris, client_id, pkce: recipe.pkce })
    }
}

/// Begins a login that nobody finishes.
pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(Enrolled { identity, applied }) = &patient.enrolled else { return Vec::new() };
    // Without credentials the application has nothing to begin a login with.
    let Some(client_id) = applied.client_id.clone() else { return Vec::new() };
    let Some(expected) = Expected::of(patient.config, identity.issuer(), Some(client_id)) else { return Vec::new() };
    let probe = patient.config.recipe.relying_party.as_ref().and_then(|role| role.probe.as_ref());
    let Some(probe) = probe else { return Vec::new() };
    let mut conversation = Conversation::begin(&patient.application, None);
    let mut last = None;
    for step in &probe.steps {
        match conversation.take(step, &[]).await {
            Ok(answer) => last = Some(answer),
            // That it does not answer is said elsewhere.
            Err(_) => return Vec::new(),
        }
    }
    let Some(answer) = last else { return Vec::new() };
    let findings = judge(answer.status, answer.location.as_deref(), &expected);
    if findings.is_empty() {
        return vec![Finding::ok(ABOUT, "A login begins as it should, and comes back to a registered address.")];
    }
    findings
}

/// What is wrong with the answer that begins a login.
pub(crate) fn judge(status: u16, location: Option<&str>, expected: &Expected) -> Vec<Finding> {
    let issuer = expected.issuer.trim_end_matches('/');
    let Some(url) = location.and_then(|location| Url::parse(location).ok()).filter(|url| is_of(url, issuer)) else {
        let to = location.map_or_else(|| "nowhere".to_owned(), shown);
        let sentence = format!("A login is answered with {status} and leads to {to}, not to {issuer}.");
        let remedy = "see that the application reads what the agent writes, and that it reaches the broker: its own error log says which";
        return vec![Finding::error(ABOUT, sentence, remedy)];
    };
    let parameter =
        |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let mut findings = Vec::new();
    // A request that was pushed (RFC 9126) says the rest where it cannot be seen.
    if parameter("request_uri").is_none() {
        findings.extend(redirect_uri(&parameter("redirect_uri").unwrap_or_default(), expected));
        if expected.pkce && parameter("code_challenge").is_none() {
            let remedy = "correct the application's settings, or pkce = false in the recipe";
            findings.push(Finding::error(
                ABOUT,
                "A login has no PKCE challenge, and the recipe says that it has.",
                remedy,
            ));
        }
    }
    let client_id = parameter("client_id").unwrap_or_default();
    if let Some(wanted) = expected.client_id.as_ref().filter(|wanted| **wanted != client_id) {
        let sentence = format!("A login is that of the client {client_id:?}, and the agent wrote {wanted:?}.");
        findings.push(Finding::error(ABOUT, sentence, "take out what was configured by hand, and restart the agent"));
    }
    findings
}

/// Whether an address is the issuer's: of its very origin, and below it. Nobody else's name that begins likewise is.
pub(crate) fn is_of(url: &Url, issuer: &str) -> bool {
    let Ok(issuer) = Url::parse(issuer) else { return false };
    let below = url.path().strip_prefix(issuer.path().trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    let anonymous = url.username().is_empty() && url.password().is_none();
    below && anonymous && url.origin() == issuer.origin()
}

fn redirect_uri(sent: &str, expected: &Expected) -> Option<Finding> {
    if expected.redirect_uris.iter().any(|registered| registered == sent) {
        return None;
    }
    let only_scheme = |registered: &&String| after_scheme(registered) == after_scheme(sent);
    let remedy = match expected.redirect_uris.iter().find(only_scheme) {
        Some(_) => {
            "tell the application that browsers come over TLS: the proxy passes X-Forwarded-Proto on, and the application believes it (Django: SECURE_PROXY_SSL_HEADER; allauth: ACCOUNT_DEFAULT_HTTP_PROTOCOL; InvenTree: INVENTREE_SITE_URL)".to_owned()
        }
        None => format!(
            "correct public_url, or the address that the application takes for its own (site_url, Host header); registered: {}",
            expected.redirect_uris.join(", ")
        ),
    };
    Some(Finding::error(ABOUT, format!("A login wants to come back to {sent}, which is not registered."), remedy))
}

fn after_scheme(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// Without what stands after the question mark: it may have a state or a code.
fn shown(location: &str) -> String {
    location.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn judge_location(location: Option<&str>) -> Vec<Finding> {
        let expected = Expected {
            issuer: "https://login.example".to_owned(),
            redirect_uris: vec!["https://beta.example/cb/".to_owned(), "https://beta.example/cb?m=x".to_owned()],
            client_id: Some("beta-1".to_owned()),
            pkce: true,
        };
        judge(302, location, &expected)
    }

    fn at(redirect_uri: &str, rest: &str) -> String {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("redirect_uri", redirect_uri).finish();
        format!("https://login.example/authorize?{query}{rest}")
    }

    #[test]
    fn a_login_comes_back_to_a_registered_address() {
        let good = "&client_id=beta-1&code_challenge=x&state=y";
        for address in ["https://beta.example/cb/", "https://beta.example/cb?m=x"] {
            assert_eq!(judge_location(Some(&at(address, good))), []);
        }
        let [finding] = &judge_location(Some(&at("http://beta.example/cb/", good)))[..] else { panic!("one") };
        assert!(finding.remedy.as_ref().unwrap().contains("X-Forwarded-Proto"), "{finding:?}");
        let [finding] = &judge_location(Some(&at("https://other.example/cb/", good)))[..] else { panic!("one") };
        assert!(finding.verdict == Verdict::Error && finding.remedy.as_ref().unwrap().contains("registered: "));
        assert_eq!(judge_location(Some("https://login.example/authorize?client_id=beta-1&request_uri=urn:x")), []);
    }

    #[test]
    fn nobody_else_is_the_issuer() {
        let is_of = |url: &str, issuer| is_of(&Url::parse(url).unwrap(), issuer);
        for issuer in ["https://login.example", "https://login.example/"] {
            assert!(is_of("https://login.example/authorize?x", issuer));
            for other in [
                "https://login.example.evil.example/authorize",
                "https://login.example@evil.example/authorize",
                "https://evil@login.example/authorize",
                "http://login.example/authorize",
                "https://login.example:444/authorize",
                "data:https://login.example/",
            ] {
                assert!(!is_of(other, issuer), "{other}");
            }
        }
        assert!(is_of("https://login.example/sso/authorize", "https://login.example/sso"));
        assert!(!is_of("https://login.example/ssoelse/authorize", "https://login.example/sso"));
    }

    #[test]
    fn a_login_that_is_none_is_told_without_its_secrets() {
        for location in [None, Some("/accounts/login/?state=canary"), Some("https://evil.example/?code=canary")] {
            let findings = judge_location(location);
            assert!(findings.len() == 1 && !format!("{findings:?}").contains("canary"), "{findings:?}");
        }
        let without = judge_location(Some(&at("https://beta.example/cb/", "&client_id=alpha-1")));
        assert_eq!(without.len(), 2, "no challenge, and another client");
    }
}
