//! The broker's pages: which home, whether the user agrees, and the end of all sessions.

use url::Url;

use super::browser::{Answer, shown};
use super::portal::Door;
use super::{Ended, Walk, led, left_signed_in};
use crate::doctor::finding::Finding;
use crate::doctor::login;

const HOME: &str = "rehearsal: home";
const CONSENT: &str = "rehearsal: consent";
const RETURN: &str = "rehearsal: return";

/// Where a login comes back to at the application.
pub(super) struct Callback {
    pub(super) url: Url,
    /// What is posted there, if it does not stand in the address (OAuth 2.0 Form Post Response Mode).
    pub(super) form: Option<Vec<(String, String)>>,
}

impl Walk<'_> {
    /// Chooses the canary's home; gives the door that the broker leads to.
    pub(super) async fn choose(&mut self, request: &Url) -> Result<Door, Ended> {
        let mut answer = self.at_broker(HOME, request).await?;
        let mut is_chosen = false;
        loop {
            if let Some(next) = answer.next.clone() {
                if self.is_broker(&next) {
                    answer = self.at_broker(HOME, &next).await?;
                    continue;
                }
                if self.is_callback(&next) {
                    return Err(self.refused(HOME, &Callback { url: next, form: None }));
                }
                return if is_chosen { self.door(&next) } else { Err(self.unchosen(request, &next)) };
            }
            let pick = self.pick(&answer, is_chosen)?;
            let answered = self.browser.post(&pick.action, &pick.form()).await;
            answer = answered.map_err(|stuck| self.broker_stuck(HOME, stuck))?;
            is_chosen = true;
        }
    }

    /// The canary's home on the page of all.
    fn pick(&self, answer: &Answer, is_chosen: bool) -> Result<Pick, Ended> {
        let (home, party) = (&self.home, &self.instance);
        let goes_there = |action: &str| answer.url.join(action).is_ok_and(|url| self.is_broker(&url));
        let nobody = answer.page.form(&["transaction", "cancel"], goes_there).is_some();
        let Some(form) = answer.page.form(&["transaction", "home"], goes_there) else {
            if nobody {
                return Err(not_accepted(home, party, &[]));
            }
            return Err(problem(HOME, answer));
        };
        let offered: Vec<&str> = form.buttons("home").map(|button| button.value.as_str()).collect();
        let Some(button) = form.buttons("home").find(|button| button.value == *home) else {
            return Err(not_accepted(home, party, &offered));
        };
        if button.is_disabled || is_chosen {
            let sentence =
                format!("The home {home} is not connected to the broker, or cannot log anybody in right now.");
            let remedy = format!(
                "start the agent at {home}: systemctl start homeward-agent; homeward-broker instance show {home} says what is wrong there"
            );
            return Err(Box::new(Finding::error(HOME, sentence, remedy)));
        }
        let action = answer.url.join(&form.action).ok().zip(form.hidden("transaction"));
        let (action, transaction) = action.ok_or_else(|| problem(HOME, answer))?;
        Ok(Pick { action, transaction: transaction.to_owned(), home: home.clone() })
    }

    /// Back from the home; gives the answer that the broker has for the application.
    pub(super) async fn come_back(&mut self, back: &Url) -> Result<Callback, Ended> {
        self.may_be_in = true;
        let mut answer = self.at_broker(RETURN, back).await?;
        loop {
            let callback = match answer.next.clone() {
                Some(next) if self.is_callback(&next) => Some(Callback { url: next, form: None }),
                Some(next) if self.is_broker(&next) => {
                    answer = self.at_broker(RETURN, &next).await?;
                    continue;
                }
                Some(_) => {
                    let sentence = format!("{}, which is no callback of this instance's.", led(&answer));
                    let remedy = format!("ask ops what is registered: homeward-broker instance show {}", self.instance);
                    return Err(Box::new(Finding::error(RETURN, sentence, remedy)));
                }
                None => self.posted(&answer),
            };
            match callback {
                Some(callback) if callback.parameter("code").is_some() => return Ok(callback),
                Some(callback) => return Err(self.refused(RETURN, &callback)),
                None => answer = self.agree(&answer).await?,
            }
        }
    }

    /// An answer that a browser posts to the application.
    fn posted(&self, answer: &Answer) -> Option<Callback> {
        let goes_there = |action: &str| answer.url.join(action).is_ok_and(|url| self.is_callback(&url));
        let form = answer.page.form(&["state"], goes_there)?;
        let fields = form.all_hidden().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Callback { url: answer.url.join(&form.action).ok()?, form: Some(fields.collect()) })
    }

    /// Where users are asked for their consent, the canary agrees.
    async fn agree(&mut self, asked: &Answer) -> Result<Answer, Ended> {
        let goes_there = |action: &str| asked.url.join(action).is_ok_and(|url| self.is_broker(&url));
        let form = asked.page.form(&["question", "agree"], goes_there);
        let question = form.and_then(|form| asked.url.join(&form.action).ok().zip(form.hidden("question")));
        let (action, question) = question.ok_or_else(|| problem(RETURN, asked))?;
        let answered = self.browser.post(&action, &[("question", question), ("agree", "1")]).await;
        let answer = answered.map_err(|stuck| self.broker_stuck(CONSENT, stuck))?;
        self.ok(CONSENT, "The broker asks users for their consent here; the canary agreed.");
        Ok(answer)
    }

    /// The broker tells the application that nobody logs in (RFC 6749 4.1.2.1).
    fn refused(&self, about: &str, callback: &Callback) -> Ended {
        let code = callback.parameter("error").unwrap_or_default();
        let (home, party) = (&self.home, &self.instance);
        let (why, remedy) = match code.as_str() {
            "access_denied" => (
                format!("{home} or the broker lets the canary not in"),
                format!(
                    "ask ops: homeward-broker trust explain --relying-party {party} --user {}@{home}",
                    self.canary.username
                ),
            ),
            "temporarily_unavailable" => (
                format!("{home} cannot say who its users are right now"),
                format!("at {home}: homeward-agent doctor; its application does not answer"),
            ),
            "login_required" | "interaction_required" => (
                format!("{home} does not vouch for the canary as freshly as was asked"),
                "see max_age and prompt in the application's settings, and the agent's log at the home".to_owned(),
            ),
            _ => (
                "the broker refuses the login".to_owned(),
                format!("look {} up in docs/troubleshooting.md; the broker's log has the cause", fit(&code)),
            ),
        };
        Box::new(Finding::error(about, format!("The login ends with {}: {why}.", fit(&code)), remedy))
    }

    /// Ends the session that the rehearsal began, at the broker and at what was entered with it; and no other one.
    pub(super) async fn leave(&mut self) {
        let issuer = self.expected.issuer.clone();
        let Ok(account) = Url::parse(&format!("{}/account", issuer.trim_end_matches('/'))) else { return };
        self.browser.begin_anew();
        let answer = match self.browser.get(&account).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(_) | Err(_) if self.may_be_in => {
                return self
                    .findings
                    .push(left_signed_in("the broker's page of its sessions does not answer", &issuer));
            }
            Ok(_) | Err(_) => return,
        };
        let goes_there = |action: &str| account.join(action).is_ok_and(|url| login::is_of(&url, &issuer));
        // This browser's stands first. Without one, nobody is to be signed out.
        let Some(form) = answer.page.form(&["form_token", "session"], goes_there) else {
            if self.is_back {
                self.findings.push(left_signed_in("the broker shows no session of this browser's", &issuer));
            }
            return;
        };
        let fields = ["form_token", "session"].map(|name| (name, form.hidden(name).unwrap_or_default()));
        if let Ok(action) = account.join(&form.action) {
            // Whether it did, the next look shows.
            drop(self.browser.post(&action, &fields).await);
        }
        let after = self.browser.get(&account).await;
        let is_gone = |answer: &Answer| answer.status == 200 && answer.page.form(&["form_token"], goes_there).is_none();
        if !after.is_ok_and(|answer| is_gone(&answer)) {
            self.findings.push(left_signed_in("its session at the broker is still there", &issuer));
            return;
        }
        self.is_out_at_broker = true;
        self.leave_application().await;
    }
}

/// The answer to the page of homes.
struct Pick {
    action: Url,
    transaction: String,
    home: String,
}

impl Pick {
    fn form(&self) -> [(&str, &str); 2] {
        [("transaction", &self.transaction), ("home", &self.home)]
    }
}

impl Callback {
    /// The value of a parameter, wherever it stands.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        match &self.form {
            Some(form) => form.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
            None => self.url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()),
        }
    }
}

fn not_accepted(home: &str, party: &str, offered: &[&str]) -> Ended {
    let others = match offered {
        [] => "it accepts no home yet".to_owned(),
        offered => format!("it accepts {}", offered.join(", ")),
    };
    let sentence = format!("{party} does not accept users of {home}: {others}.");
    let remedy = format!(
        "ask ops for: homeward-broker trust allow --relying-party {party} --home {home}; or rehearse with a user of another home: --home NAME"
    );
    Box::new(Finding::error(HOME, sentence, remedy))
}

/// A page of the broker's on which a login ends.
fn problem(about: &str, answer: &Answer) -> Ended {
    let (place, status) = (shown(&answer.url), answer.status);
    let said = match answer.page.heading.trim() {
        "" => "no page that the doctor knows".to_owned(),
        heading => format!("{heading:?}"),
    };
    let remedy = "look the sentence up in docs/troubleshooting.md; the broker's log has the cause under the number of the request; if it is no page of the broker's, ask ops what answers in its place";
    Box::new(Finding::error(about, format!("{place} answers {status} with {said}, and the login ends there."), remedy))
}

/// A code of an error as it may be shown.
pub(super) fn fit(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').take(40).collect()
}
