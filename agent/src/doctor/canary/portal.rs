//! The home's portal: the one place that the password is for.

use secrecy::ExposeSecret as _;
use url::Url;

use super::beginning::is_sealed;
use super::browser::{Answer, shown};
use super::{Ended, Walk, led, not_answered};
use crate::doctor::finding::Finding;
use crate::doctor::public_address::is_served_by_the_agent;
use crate::home::decision::Note;
use crate::home::pages;

const HOME: &str = "rehearsal: home";
const PASSWORD: &str = "rehearsal: password";

/// A portal's login page, with the ticket of this login.
pub(super) struct Door {
    /// The page, without the ticket.
    page: Url,
    ticket: String,
}

impl Walk<'_> {
    /// The door that the broker leads to, as its answer to the choice of a home.
    pub(super) fn door(&self, next: &Url) -> Result<Door, Ended> {
        let home = &self.home;
        let door = Door::at(next).ok_or_else(|| {
            let sentence = format!(
                "{home} signs its users in at {}, which is no agent's portal: the password stays here.",
                shown(next)
            );
            let remedy = "rehearse with a user of a home that has an agent";
            Box::new(Finding::warning(HOME, sentence, remedy))
        })?;
        if *home == self.instance && door.page.as_str() != self.patient.config.portal_url() {
            let sentence = format!(
                "The broker leads to {} for this very home, and agent.toml says {}: the password stays here.",
                shown(&door.page),
                self.patient.config.portal_url()
            );
            let remedy = "correct public_url or [portal] path, and restart the agent, which tells the broker";
            return Err(Box::new(Finding::error(HOME, sentence, remedy)));
        }
        Ok(door)
    }

    /// Nobody has chosen the home that the broker leads to. Which homes were accepted when the agent heard of them last, does
    /// not say whose portal this is.
    pub(super) fn unchosen(&self, request: &Url, next: &Url) -> Ended {
        let sentence = format!(
            "The broker leads to a home at {} without asking which; the password is for {} only.",
            shown(next),
            self.home
        );
        if is_sealed(request) {
            let remedy = "log in by hand: the application pushes or signs its requests, so the doctor cannot have the broker ask which home it shall be";
            return Box::new(Finding::warning(HOME, sentence, remedy));
        }
        let remedy = "rehearse with a user of the home that the application's request names: --home NAME";
        Box::new(Finding::error(HOME, sentence, remedy))
    }

    /// Signs the canary in; gives the address at the broker that the portal leads back to.
    pub(super) async fn sign_in(&mut self, door: &Door) -> Result<Url, Ended> {
        self.look_who_listens(door).await?;
        let mut answer = self.at_portal(&door.address(false)).await?;
        self.ok(HOME, format!("The broker leads to {}, the portal of {}.", shown(&door.page), self.home));
        if let Some(next) = answer.next.clone() {
            if self.is_broker(&next) {
                return Ok(next);
            }
            if next.origin() != door.page.origin() {
                return Err(self.elsewhere(&next));
            }
            // To the application's own login page, which may be anything. Who comes back from there without a session gets
            // the portal's form, if there is one.
            self.ok(HOME, "Users sign in on the application's own page there; the canary uses the portal's form.");
            answer = self.at_portal(&door.address(true)).await?;
        }
        let token = door.form_token(&answer).ok_or_else(|| self.no_form(&answer))?.to_owned();
        let username = self.canary.username.clone();
        let fields = [
            ("ticket", door.ticket.as_str()),
            ("form_token", &token),
            ("username", &username),
            ("password", self.canary.password.expose_secret()),
        ];
        let answered = self.browser.post(&door.page, &fields).await;
        let answer = answered.map_err(|stuck| not_answered(PASSWORD, stuck, &self.mend_the_home()))?;
        match answer.next.clone() {
            Some(next) if self.is_broker(&next) => {
                self.ok(PASSWORD, format!("{} knows the canary by its password.", self.home));
                Ok(next)
            }
            Some(_) => {
                let sentence = format!("{}, not back to the broker.", led(&answer));
                Err(Box::new(Finding::error(PASSWORD, sentence, self.mend_the_home())))
            }
            None => Err(self.not_let_in(&answer)),
        }
    }

    /// Past the reverse proxy no certificate says who listens: the agent itself has to.
    async fn look_who_listens(&self, door: &Door) -> Result<(), Ended> {
        let Some(enrolled) = self.patient.enrolled.as_ref().filter(|_| self.browser.is_beside(&door.page)) else {
            return Ok(());
        };
        let (portal, key) = (&self.patient.config.portal, enrolled.identity.reachability_key());
        if is_served_by_the_agent(&self.patient.wire, portal, &key).await {
            return Ok(());
        }
        let sentence =
            format!("On {} nobody shows to be this instance's agent: the password stays here.", portal.listen);
        Err(Box::new(Finding::error(HOME, sentence, "start the agent: systemctl start homeward-agent")))
    }

    async fn at_portal(&mut self, url: &Url) -> Result<Answer, Ended> {
        let remedy = format!(
            "let this machine reach {} as browsers do, or rehearse on a machine that does (name server, firewall, CA certificates)",
            shown(url)
        );
        self.browser.get(url).await.map_err(|stuck| not_answered(HOME, stuck, &remedy))
    }

    fn mend_the_home(&self) -> String {
        format!("at {}: homeward-agent doctor, and the agent's log there", self.home)
    }

    fn elsewhere(&self, next: &Url) -> Ended {
        let sentence = format!("{} sends its users on to {}: the password stays here.", self.home, shown(next));
        let remedy = format!(
            "rehearse with a user of a home that has a form: at {}, [home] methods with \"password\", \"ldap\" or \"file\"",
            self.home
        );
        Box::new(Finding::warning(HOME, sentence, remedy))
    }

    /// Why the portal's page has no form for name and password.
    fn no_form(&self, answer: &Answer) -> Ended {
        let home = &self.home;
        if let Some(note) = known(&answer.page.alert) {
            return self.noted(HOME, note);
        }
        let place = shown(&answer.url);
        let (sentence, remedy) = match answer.status {
            410 => (
                format!("The portal of {home} says that this login is over: the broker does not take its ticket."),
                format!("set the clocks of both machines; ask ops: homeward-broker instance show {home}"),
            ),
            503 => (
                format!("The portal of {home} does not reach the broker."),
                format!("at {home}: homeward-agent status, and the network to the broker"),
            ),
            status => (
                format!("{place} answers {status}, and not with the form of a portal: the password stays here."),
                format!(
                    "let the reverse proxy of {home} pass that path on to its agent: homeward-agent doctor there shows how for nginx"
                ),
            ),
        };
        Box::new(Finding::error(HOME, sentence, remedy))
    }

    /// Why the portal does not send the canary on.
    fn not_let_in(&self, answer: &Answer) -> Ended {
        let home = &self.home;
        let goes_to_code = |action: &str| action.ends_with("code");
        if answer.page.form(&["ticket", "code"], goes_to_code).is_some() {
            return self.noted(PASSWORD, Note::SecondFactorNeeded);
        }
        if let Some(note) = known(&answer.page.alert) {
            return self.noted(PASSWORD, note);
        }
        let (sentence, remedy) = match answer.status {
            403 => (
                format!("The portal of {home} does not know its own form again: its cookie did not come back."),
                format!(
                    "let the reverse proxy of {home} pass Cookie and Set-Cookie on below the portal's path, as for the application"
                ),
            ),
            502 => (
                format!("{home} does not say enough of the canary to vouch for it."),
                format!("at {home}: homeward-agent recipe test --username {}", self.canary.username),
            ),
            status => {
                (format!("{} answers {status}, and nobody is signed in.", shown(&answer.url)), self.mend_the_home())
            }
        };
        Box::new(Finding::error(PASSWORD, sentence, remedy))
    }

    /// What the portal says to users, and what it means for whoever runs this.
    fn noted(&self, about: &str, note: Note) -> Ended {
        let (home, username) = (&self.home, &self.canary.username);
        let error = |sentence: String, remedy: String| Box::new(Finding::error(about, sentence, remedy));
        match note {
            Note::Wrong => error(
                format!("{home} says that user name or password is wrong."),
                format!(
                    "correct --canary or the password file; at {home}: homeward-agent recipe test --username {username}, or homeward-agent user list where a file has the users"
                ),
            ),
            Note::SecondFactorNeeded
            | Note::SecondFactorMissing
            | Note::CodeWrong
            | Note::CodesUsedUp
            | Note::CodeTooLate => error(
                format!("{home} asks the canary for a second factor, which nobody is there to give."),
                "use a user without one, and without rights: a canary opens nothing".to_owned(),
            ),
            Note::Locked | Note::TooManyTries => error(
                format!("{home} takes no more tries for a while: too many have failed."),
                "wait a quarter of an hour; then try again with the right password".to_owned(),
            ),
            Note::Disabled | Note::Guest | Note::Foreign => error(
                format!("{home} does not vouch for this account."),
                format!("use an ordinary account of {home} that may log in"),
            ),
            Note::ApplicationDown => error(
                format!("{home} cannot check logins at the moment."),
                format!("at {home}: start the application or directory; homeward-agent doctor says what is wrong"),
            ),
            Note::StillNobody | Note::StillTooOld => Box::new(Finding::warning(
                about,
                format!("{home} knows its users by their sessions only, and has no form for the canary."),
                format!(
                    "at {home}: [home] methods = [\"session\", \"password\"]; or rehearse with a user of another home"
                ),
            )),
        }
    }
}

impl Door {
    /// The address of a portal with one ticket, and nothing else.
    fn at(url: &Url) -> Option<Self> {
        let pairs: Vec<_> = url.query_pairs().collect();
        let [(name, ticket)] = pairs.as_slice() else { return None };
        let is_one =
            name == "ticket" && !ticket.is_empty() && url.path().ends_with("/login") && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let mut page = url.clone();
        page.set_query(None);
        (is_one && anonymous && url.has_host()).then(|| Self { page, ticket: ticket.clone().into_owned() })
    }

    fn address(&self, is_back: bool) -> Url {
        let mut url = self.page.clone();
        url.query_pairs_mut().append_pair("ticket", &self.ticket);
        if is_back {
            url.query_pairs_mut().append_pair("back", "1");
        }
        url
    }

    /// The token of the portal's own form, for this very ticket, on this very page.
    fn form_token<'a>(&self, answer: &'a Answer) -> Option<&'a str> {
        let here =
            answer.status < 500 && answer.url.origin() == self.page.origin() && answer.url.path() == self.page.path();
        let comes_here = |action: &str| answer.url.join(action).is_ok_and(|url| url == self.page);
        let form = answer.page.form(&["ticket", "form_token", "username", "password"], comes_here)?;
        form.hidden("form_token").filter(|_| here && form.hidden("ticket") == Some(&self.ticket))
    }
}

/// Sentences of other versions, or of somebody who is no portal, are not repeated.
fn known(alert: &str) -> Option<Note> {
    NOTES.into_iter().find(|note| pages::sentence(*note) == alert)
}

const NOTES: [Note; 14] = [
    Note::StillNobody,
    Note::StillTooOld,
    Note::Foreign,
    Note::ApplicationDown,
    Note::Wrong,
    Note::SecondFactorNeeded,
    Note::SecondFactorMissing,
    Note::CodeWrong,
    Note::CodesUsedUp,
    Note::CodeTooLate,
    Note::Guest,
    Note::Locked,
    Note::Disabled,
    Note::TooManyTries,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_portal_with_one_ticket_is_a_door() {
        let door = |url: &str| Door::at(&Url::parse(url).unwrap());
        let found = door("https://alpha.example/homeward/login?ticket=t").unwrap();
        assert_eq!(found.page.as_str(), "https://alpha.example/homeward/login");
        assert_eq!(found.address(true).as_str(), "https://alpha.example/homeward/login?ticket=t&back=1");
        for other in [
            "https://accounts.example/authorize?client_id=a&state=x",
            "https://alpha.example/homeward/login",
            "https://alpha.example/homeward/login?ticket=",
            "https://alpha.example/homeward/login?ticket=t&ticket=u",
            "https://alpha.example/homeward/login?ticket=t&error=x",
            "https://alpha.example@evil.example/homeward/login?ticket=t",
            "https://alpha.example/homeward/login?ticket=t#x",
            "https://beta.example/callback?ticket=t",
        ] {
            assert!(door(other).is_none(), "{other}");
        }
    }
}
