//! Whether the cookies that the application sets reach the portal: a home that recognises its users by their session sees
//! them only if they do (RFC 6265 5.4).
//!
//! The session's own cookie is set when somebody signs in, so `recipe test --username` judges that one; here it is those
//! that everybody gets, which as a rule have the same attributes.

use cookie::{Cookie, SameSite};

use super::finding::Finding;
use crate::application::{Application, Question};
use crate::config::Config;
use crate::config::home::HomeMethod;

const ABOUT: &str = "cookies";

/// Asks for the pages that set cookies.
pub(super) async fn check(config: &Config, application: &Application) -> Vec<Finding> {
    let by_session = config.home.as_ref().is_some_and(|home| home.methods.contains(&HomeMethod::Session));
    let Some(home) = config.recipe.home.as_ref().filter(|_| by_session) else { return Vec::new() };
    let login = home.login.iter().map(|page| page.path.clone());
    let who_am_i = home.who_am_i.iter().take(1).filter_map(|request| request.path.fill(&[]).ok());
    let mut found = Vec::new();
    for path in login.chain(who_am_i) {
        let Ok(answer) = application.ask(Question::get(&path)).await else { continue };
        found.extend(answer.set_cookies.iter().filter_map(|value| value.to_str().ok().map(str::to_owned)));
    }
    let mut findings: Vec<Finding> = found.iter().flat_map(|set| judge(set, config)).collect();
    findings.dedup();
    if findings.is_empty() {
        let sentence = match found.iter().find_map(|set| Cookie::parse(set.as_str()).ok()) {
            Some(cookie) => format!("What the application sets ({}) reaches the portal.", cookie.name()),
            None => "The application sets none before somebody signs in; `recipe test --username NAME` looks at those."
                .to_owned(),
        };
        findings.push(Finding::ok(ABOUT, sentence));
    }
    findings
}

/// What is wrong with a `Set-Cookie` of the application.
pub(crate) fn judge(set_cookie: &str, config: &Config) -> Vec<Finding> {
    let Ok(cookie) = Cookie::parse(set_cookie) else { return Vec::new() };
    let (name, host, portal) = (cookie.name(), config.public_url.host(), &config.portal.path);
    let mut findings = Vec::new();
    if let Some(domain) = cookie.domain().filter(|domain| !is_within(&host, domain)) {
        let sentence = format!("The cookie {name} is for {domain}, and browsers come by {host}: they drop it.");
        let remedy = format!(
            "correct public_url, or the application's cookie domain (Django: SESSION_COOKIE_DOMAIN, now {domain})"
        );
        findings.push(Finding::error(ABOUT, sentence, remedy));
    }
    if let Some(path) = cookie.path().filter(|path| !leads_to(path, portal)) {
        let sentence = format!("The cookie {name} is for {path} only, so that the portal at {portal} never sees it.");
        let remedy = "set the application's cookie path to / (Django: SESSION_COOKIE_PATH), or [portal] path below it, or [home] methods = [\"password\"]";
        findings.push(Finding::warning(ABOUT, sentence, remedy));
    }
    if cookie.same_site() == Some(SameSite::Strict) {
        let sentence =
            format!("The cookie {name} is SameSite=Strict: a browser that the broker sends here does not bring it.");
        let remedy = "set it to Lax (Django: SESSION_COOKIE_SAMESITE), or users who are signed in are asked again";
        findings.push(Finding::warning(ABOUT, sentence, remedy));
    }
    if config.public_url.is_https() && cookie.secure() != Some(true) {
        let sentence = format!("The cookie {name} is not Secure: browsers send it over plain http too.");
        let remedy = "mark it so (Django: SESSION_COOKIE_SECURE and CSRF_COOKIE_SECURE; InvenTree: INVENTREE_SESSION_COOKIE_SECURE)";
        findings.push(Finding::warning(ABOUT, sentence, remedy));
    }
    findings
}

/// RFC 6265 5.1.3.
fn is_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.trim_start_matches('.').to_ascii_lowercase());
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// RFC 6265 5.1.4.
fn leads_to(cookie_path: &str, portal: &str) -> bool {
    // 5.2.4: what does not begin with a slash is the folder of the page that set it, which is the application's to know.
    !cookie_path.starts_with('/')
        || portal == cookie_path
        || portal.strip_prefix(cookie_path).is_some_and(|rest| cookie_path.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_cookie_reaches_the_portal_or_it_is_said_why_not() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/agent.toml"));
        let config = Config::load(file).unwrap();
        for (set_cookie, expected) in [
            ("sessionid=x; Path=/; Secure; HttpOnly; SameSite=Lax", &[][..]),
            ("sessionid=x; Path=/; Secure; Domain=example.org", &[]),
            ("sessionid=x; Path=/homeward; Secure", &[]),
            ("sessionid=x; Path=/home; Secure", &[Verdict::Warning]),
            ("sessionid=x; Path=/app; Secure", &[Verdict::Warning]),
            ("sessionid=x; Path=/; Secure; Domain=other.example.org", &[Verdict::Error]),
            ("sessionid=x; Path=/; Secure; Domain=pha.example.org", &[Verdict::Error]),
            ("sessionid=x; Path=/; SameSite=Strict", &[Verdict::Warning, Verdict::Warning]),
            ("nonsense", &[]),
        ] {
            let found: Vec<Verdict> = judge(set_cookie, &config).iter().map(|finding| finding.verdict).collect();
            assert_eq!(found, expected, "{set_cookie}");
        }
        assert!(judge("sessionid=canary; Path=/x", &config).iter().all(|one| !format!("{one:?}").contains("canary")));
    }
}
