//! Back at the application: whether it signs the canary in, as whom, and what stood in the way if not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::broker::{Callback, fit};
use super::browser::{Answer, shown};
use super::{Ended, Walk, led, not_answered};
use crate::conversation::Conversation;
use crate::doctor::finding::Finding;
use crate::recipe::relying_party::Gate;

const ABOUT: &str = "rehearsal: account";
const END: &str = "rehearsal: end";
/// Logouts are told in the background.
const UNTIL_TOLD: u32 = 20;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a browser is when the application leads it nowhere any more.
struct Landed {
    answer: Answer,
    /// What the application says that is wrong, in the address of the page it shows.
    error: Option<String>,
    /// Whether it begins another login.
    is_again: bool,
}

/// Who is signed in at the application in this browser.
enum Who {
    Somebody(Option<String>),
    Nobody,
    /// The recipe has no way to ask that with cookies alone.
    Unasked,
    /// The application was asked, and gave no answer.
    Unanswered,
}

impl Walk<'_> {
    /// Brings the broker's answer to the application.
    pub(super) async fn arrive(&mut self, callback: Callback) -> Result<(), Ended> {
        let landed = self.land(callback).await?;
        let title = &self.patient.config.recipe.title;
        let place = format!("{} ({})", shown(&landed.answer.url), landed.answer.status);
        let is_bad = landed.answer.status >= 400 || landed.error.is_some() || landed.is_again;
        match self.who().await {
            Who::Somebody(name) => {
                let name = name.map(|name| format!(" as {name}")).unwrap_or_default();
                let sentence = format!(
                    "{title} signed the canary in{name}, with an ID token that the broker had just signed; browsers end at {place}."
                );
                self.ok(ABOUT, sentence);
                Ok(())
            }
            Who::Unanswered if !is_bad => {
                let sentence = format!(
                    "{title} took the login and shows no error at {place}; asked who is signed in, it gives no answer."
                );
                let remedy = "see the application's own error log; homeward-agent recipe test asks it the same";
                self.findings.push(Finding::warning(ABOUT, sentence, remedy));
                Ok(())
            }
            Who::Unasked if !is_bad => {
                let sentence = format!(
                    "{title} took the login and shows no error at {place}. As whom, the recipe has no way to ask with cookies."
                );
                self.ok(ABOUT, sentence);
                Ok(())
            }
            Who::Nobody | Who::Unasked | Who::Unanswered => Err(self.not_signed_in(&landed).await),
        }
    }

    /// Goes where the application leads, as long as it is its own.
    async fn land(&mut self, callback: Callback) -> Result<Landed, Ended> {
        let remedy = "start the application, and see what its reverse proxy does with its callback";
        let stuck = |stuck| not_answered(ABOUT, stuck, remedy);
        let mut answer = match &callback.form {
            None => self.browser.get(&callback.url).await.map_err(stuck)?,
            Some(form) => {
                let form: Vec<(&str, &str)> =
                    form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                self.browser.post(&callback.url, &form).await.map_err(stuck)?
            }
        };
        loop {
            let Some(next) = answer.next.clone() else { return Ok(Landed { answer, error: None, is_again: false }) };
            let error = next.query_pairs().find(|(name, _)| name == "error").map(|(_, code)| fit(&code));
            let is_again = self.is_broker(&next) && next.path().ends_with("/authorize");
            // Elsewhere nobody has business.
            if error.is_some() || is_again || next.origin() != callback.url.origin() {
                return Ok(Landed { answer, error, is_again });
            }
            answer = self.browser.get(&next).await.map_err(stuck)?;
        }
    }

    async fn who(&mut self) -> Who {
        let config = self.patient.config;
        let Ok(origin) = Url::parse(&config.public_url.origin()) else { return Who::Unasked };
        if config.recipe.relying_party.as_ref().is_some_and(|role| role.gate == Some(Gate::AuthRequest)) {
            let Ok(check) = origin.join(&format!("{}gate/check", config.portal.path)) else { return Who::Unasked };
            // The path of the check is nginx's own, and not for browsers.
            return match self.browser.get_of_portal(&check).await {
                Ok(answer) if answer.status == 204 => Who::Somebody(header(&answer, "x-homeward-user")),
                Ok(answer) if answer.status == 401 => Who::Nobody,
                Ok(_) | Err(_) => Who::Unanswered,
            };
        }
        self.who_at(&origin).await
    }

    /// Asks as a home would, with the cookies that this browser has for each address.
    async fn who_at(&self, origin: &Url) -> Who {
        let Some(recipe) = &self.patient.config.recipe.home else { return Who::Unasked };
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let nobody = Conversation::begin(&self.application, Some(source));
        let askable: Vec<_> = recipe.who_am_i.iter().filter(|request| nobody.can_take(&request.step())).collect();
        let mut name = None;
        for (position, request) in askable.iter().enumerate() {
            let cookies = origin.join(&request.path.to_string()).ok().and_then(|url| self.browser.cookies(&url));
            let holds = match cookies {
                Some(cookies) => {
                    let mut conversation = Conversation::of_browser(&self.application, source, cookies);
                    let Ok(answer) = conversation.take(&request.step(), &[]).await else { return Who::Unanswered };
                    let holds = request.when.holds(answer.status, &answer.body);
                    holds.then_some(answer)
                }
                None => None,
            };
            match holds {
                // The first decides.
                None if position == 0 => return Who::Nobody,
                None => {}
                Some(answer) => {
                    name = name.or_else(|| username(&recipe.identity.username.0, &request.name, &answer.body));
                }
            }
        }
        if askable.is_empty() { Who::Unasked } else { Who::Somebody(name) }
    }

    /// What is most likely to stand in the way, by what can be seen of it.
    async fn not_signed_in(&self, landed: &Landed) -> Ended {
        let title = &self.patient.config.recipe.title;
        let error = |sentence: String, remedy: String| Box::new(Finding::error(ABOUT, sentence, remedy));
        if let Some(code) = &landed.error {
            let sentence = format!("{title} does not let the canary in, and says why in its own word: {code}.");
            let remedy = "docs/troubleshooting.md has what applications say (at the application); the application's own log has more";
            return error(sentence, remedy.to_owned());
        }
        if !self.browser.dropped.is_empty() {
            let sentence = format!(
                "{title} does not know the login that it began: browsers take no notice of its cookies {}, as they are set.",
                self.browser.dropped.join(", ")
            );
            let remedy = "correct their domain, or the name that the application takes for its own (Django: SESSION_COOKIE_DOMAIN, CSRF_COOKIE_DOMAIN), and public_url";
            return error(sentence, remedy.to_owned());
        }
        let lost = self.lost_by_the_proxy().await;
        if !lost.is_empty() {
            let sentence = format!(
                "{title} does not know the login that it began: the reverse proxy keeps its cookies {} from browsers.",
                lost.join(", ")
            );
            let remedy = "let the proxy pass Set-Cookie and Cookie on as they are (nginx: no proxy_hide_header Set-Cookie, no cache before logins)";
            return error(sentence, remedy.to_owned());
        }
        let how = match landed.answer.status {
            _ if landed.is_again => "begins the login again, as if there had been none".to_owned(),
            status @ 400.. => format!("answers {status} at {}", shown(&landed.answer.url)),
            _ => format!("signs nobody in ({})", led(&landed.answer)),
        };
        if let Some(skew) = &self.skew {
            let sentence = format!("{title} {how}. {}", skew.sentence);
            return error(sentence, "set this machine's clock: timedatectl set-ntp true".to_owned());
        }
        let remedy = format!(
            "look at the application's own log: it may not reach {}/token, not accept the token, or not have got the cookie of its beginning back (the reverse proxy must pass Cookie on)",
            self.expected.issuer.trim_end_matches('/')
        );
        error(format!("The broker let the canary go on, and {title} {how}."), remedy)
    }

    /// Whether the application has heard that the canary is gone.
    pub(super) async fn leave_application(&mut self) {
        const OUT: &str = "The canary is signed out again, here and at the broker.";
        let mut is_silent = false;
        for _ in 0..UNTIL_TOLD {
            let who = self.who().await;
            is_silent = matches!(who, Who::Unanswered);
            match who {
                Who::Nobody => return self.ok(END, OUT),
                Who::Unasked => {
                    return self.ok(END, "The canary is signed out again at the broker, which tells the application.");
                }
                Who::Somebody(_) | Who::Unanswered => tokio::time::sleep(PAUSE).await,
            }
        }
        if is_silent {
            return self.findings.push(silent());
        }
        let sentence = "The canary is signed out at the broker, and still signed in at the application.";
        let remedy = "end its session there by hand; homeward-broker audit list says whether the application was told, and what it said";
        self.findings.push(Finding::warning(END, sentence, remedy));
    }
}

/// What became of the session at the application, nobody says.
pub(super) fn silent() -> Finding {
    let sentence =
        "The canary is signed out at the broker; whether it is at the application, that does not say in time.";
    let remedy = "see that the application answers, and look at its list of sessions; homeward-broker audit list says whether it was told";
    Finding::warning(END, sentence, remedy)
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The login name, if it is in this answer.
fn username(selectors: &[crate::recipe::pointer::Selector], request: &str, body: &Value) -> Option<String> {
    let mut found = selectors.iter().filter(|selector| selector.answer == request);
    let name = found.find_map(|selector| selector.pointer.select(body).into_iter().find_map(Value::as_str))?;
    Some(name.chars().filter(|c| !c.is_control()).take(100).collect())
}
