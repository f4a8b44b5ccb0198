//! Where a login begins: at the application, by the recipe's probe, through its reverse proxy.

use std::collections::BTreeSet;

use cookie::Cookie;
use http::HeaderValue;
use url::Url;

use super::browser::Stuck;
use super::{Ended, Walk, not_answered};
use crate::application::{Application, ApplicationError};
use crate::conversation::Conversation;
use crate::doctor::configuration::sentence;
use crate::doctor::finding::Finding;
use crate::doctor::login;
use crate::provider::wire::WireError;
use crate::recipe::probe::Probe;
use crate::recipe::relying_party::Gate;
use crate::recipe::step::Step;

const ABOUT: &str = "rehearsal: begin";

/// How a login begins, as far as it did.
struct Begun {
    status: u16,
    location: Option<String>,
    /// What was set on the way, and where.
    cookies: Vec<(Url, Vec<HeaderValue>)>,
}

impl Walk<'_> {
    /// Begins a login; gives the address that it leads to at the broker.
    pub(super) async fn begin(&mut self) -> Result<Url, Ended> {
        self.look_for_a_way().await?;
        let (status, location) = self.first_answer().await?;
        let wrong = login::judge(status, location.as_deref(), &self.expected);
        if let Some((worst, others)) = wrong.split_first() {
            self.findings.extend(others.iter().cloned().map(|finding| Finding { about: ABOUT.to_owned(), ..finding }));
            return Err(Box::new(Finding { about: ABOUT.to_owned(), ..worst.clone() }));
        }
        let request = location.and_then(|location| Url::parse(&location).ok()).filter(|url| self.is_own_request(url));
        let request = request.ok_or_else(|| {
            let sentence = "The application begins no login of this instance's own client at the broker.";
            let remedy = "take out what was configured by hand, and restart the agent";
            Box::new(Finding::error(ABOUT, sentence, remedy))
        })?;
        let title = &self.patient.config.recipe.title;
        self.findings
            .push(Finding::ok(ABOUT, format!("{title} begins a login and leads to {}.", self.expected.issuer)));
        Ok(with_picker(request))
    }

    /// Some public names lead somewhere for browsers only: then application and portal are asked on this machine.
    async fn look_for_a_way(&mut self) -> Result<(), Ended> {
        let config = self.patient.config;
        let Ok(url) = Url::parse(&config.public_url.origin()) else { return Ok(()) };
        match self.browser.get(&url).await {
            Err(Stuck::NoAnswer(_, error)) if error.is_nobody() => {
                let sentence = format!(
                    "{} cannot be asked from this machine ({error}): application and portal are asked beside the reverse proxy, and what that does is not rehearsed.",
                    config.public_url.origin()
                );
                self.findings.push(Finding::ok("rehearsal", sentence));
                self.browser.go_beside();
                self.application = self.patient.application.clone();
                Ok(())
            }
            Err(stuck @ Stuck::NoAnswer(_, WireError::Unreachable(_))) => {
                let remedy = "renew the certificate of the public address, or let this machine know the CA that browsers know: nobody is signed in past a certificate that does not count";
                Err(not_answered("rehearsal", stuck, remedy))
            }
            // What else is wrong, the first step says.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn first_answer(&mut self) -> Result<(u16, Option<String>), Ended> {
        let config = self.patient.config;
        let role = config.recipe.relying_party.as_ref();
        if let Some(probe) = role.and_then(|role| role.probe.as_ref()) {
            let begun =
                begin_at(&self.application, probe, &config.public_url.origin()).await.map_err(|(step, error)| {
                    let sentence = format!("{} does not begin a login: {}", step.path, sentence(&error.to_string()));
                    Box::new(Finding::error(
                        ABOUT,
                        sentence,
                        "start the application; its own error log says what is wrong",
                    ))
                })?;
            for (url, set) in &begun.cookies {
                self.browser.keep(url, set);
            }
            return Ok((begun.status, begun.location));
        }
        let address = format!("{}{}gate/login", config.public_url.origin(), config.portal.path);
        let gate = role.is_some_and(|role| role.gate == Some(Gate::AuthRequest));
        let Some(url) = Url::parse(&address).ok().filter(|_| gate) else {
            let sentence =
                format!("How a login begins at {}, the recipe does not say: none is rehearsed.", config.recipe.title);
            let remedy = "let it have relying_party.probe, and see with homeward-agent recipe test that it works";
            return Err(Box::new(Finding::warning(ABOUT, sentence, remedy)));
        };
        let remedy = "start the agent, and let the reverse proxy pass the portal's path on to it";
        let answer = self.browser.get(&url).await.map_err(|stuck| not_answered(ABOUT, stuck, remedy))?;
        Ok((answer.status, answer.next.map(String::from)))
    }

    /// Of this client and no other: another's the broker would answer wherever that one is registered.
    fn is_own_request(&self, url: &Url) -> bool {
        let clients: Vec<_> = url.query_pairs().filter(|(name, _)| name == "client_id").map(|(_, id)| id).collect();
        let own = clients.len() == 1 && clients.first().map(AsRef::as_ref) == self.expected.client_id.as_deref();
        own && self.is_broker(url) && url.path().ends_with("/authorize")
    }

    /// The cookies of a beginning that arrive when the application is asked on this machine, and do not through the proxy.
    pub(super) async fn lost_by_the_proxy(&self) -> Vec<String> {
        let config = self.patient.config;
        let probe = config.recipe.relying_party.as_ref().and_then(|role| role.probe.as_ref());
        let Some(probe) = probe else { return Vec::new() };
        let origin = config.public_url.origin();
        let publicly = begin_at(&self.application, probe, &origin).await;
        let directly = begin_at(&self.patient.application, probe, &origin).await;
        let (Ok(publicly), Ok(directly)) = (publicly, directly) else { return Vec::new() };
        directly.names().difference(&publicly.names()).cloned().collect()
    }
}

impl Begun {
    fn names(&self) -> BTreeSet<String> {
        let set = self.cookies.iter().flat_map(|(_, set)| set).filter_map(|header| header.to_str().ok());
        set.filter_map(|text| Cookie::parse(text).ok()).map(|cookie| cookie.name().to_owned()).collect()
    }
}

async fn begin_at<'a>(
    application: &Application,
    probe: &'a Probe,
    origin: &str,
) -> Result<Begun, (&'a Step, ApplicationError)> {
    let mut conversation = Conversation::begin(application, None);
    let mut begun = Begun { status: 0, location: None, cookies: Vec::new() };
    for step in &probe.steps {
        let answer = conversation.take(step, &[]).await.map_err(|error| (step, error))?;
        if let Ok(url) = Url::parse(&format!("{origin}{}", step.path)) {
            begun.cookies.push((url, answer.set_cookies));
        }
        (begun.status, begun.location) = (answer.status, answer.location);
    }
    Ok(begun)
}

/// Whether what a request says was pushed (RFC 9126) or signed (RFC 9101).
pub(super) fn is_sealed(request: &Url) -> bool {
    request.query_pairs().any(|(name, _)| name == "request_uri" || name == "request")
}

/// The same request, for which the broker asks which home it shall be, even if there is one only (OpenID Connect Core
/// 3.1.2.1): so the home is known by its name before a password goes anywhere. What was pushed or signed stays as it is.
fn with_picker(mut request: Url) -> Url {
    if is_sealed(&request) {
        return request;
    }
    let pairs: Vec<(String, String)> = request.query_pairs().into_owned().collect();
    let prompts = pairs.iter().filter(|(name, _)| name == "prompt").flat_map(|(_, value)| value.split_whitespace());
    let prompts: BTreeSet<&str> = prompts.filter(|prompt| *prompt != "none").chain(["select_account"]).collect();
    let prompt = prompts.into_iter().collect::<Vec<_>>().join(" ");
    let others = pairs.iter().filter(|(name, _)| name != "prompt").map(|(name, value)| (name.as_str(), value.as_str()));
    request.query_pairs_mut().clear().extend_pairs(others.chain([("prompt", prompt.as_str())]));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_made_to_ask_for_the_home() {
        let with = |query: &str| with_picker(format!("https://login.example/authorize?{query}").parse().unwrap());
        assert_eq!(with("client_id=a&state=x%20y").query(), Some("client_id=a&state=x+y&prompt=select_account"));
        assert_eq!(with("prompt=none&client_id=a").query(), Some("client_id=a&prompt=select_account"));
        assert_eq!(with("prompt=login").query(), Some("prompt=login+select_account"));
        for kept in ["client_id=a&request_uri=urn%3Ax", "request=e30.e30.&prompt=none"] {
            assert_eq!(with(kept).query(), Some(kept));
        }
    }
}
