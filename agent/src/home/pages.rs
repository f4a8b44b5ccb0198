//! The portal's pages: HTML without scripts. All that comes from elsewhere is escaped by the templates. They are in English,
//! and say so (`lang`), whatever ui_locales a login asks for: a page must not claim a language that it is not in.

use askama::Template;

use super::PortalError;
use super::decision::Note;
use super::elsewhere::ElsewhereError;
use super::reply::{CodePage, ExplanationPage, FormPage};
use crate::recipe::password::CodeKind;

/// The style sheet of all pages.
pub(super) const STYLE: &str = include_str!("templates/style.css");

/// What all pages have around them.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Where the portal is.
    pub(super) path: String,
    /// The name of this home.
    pub(super) home: String,
}

/// The form for name and password.
#[derive(Debug, Template)]
#[template(path = "form.html")]
pub(super) struct Form<'a> {
    pub(super) frame: &'a Frame,
    pub(super) page: FormPage,
    pub(super) note: Option<&'static str>,
    pub(super) ticket: &'a str,
}

/// The form for a code.
#[derive(Debug, Template)]
#[template(path = "code.html")]
pub(super) struct Code<'a> {
    pub(super) frame: &'a Frame,
    pub(super) page: CodePage,
    pub(super) note: Option<&'static str>,
    pub(super) ticket: &'a str,
}

/// What to do, and a way to give up.
#[derive(Debug, Template)]
#[template(path = "explanation.html")]
pub(super) struct Explanation<'a> {
    pub(super) frame: &'a Frame,
    pub(super) page: ExplanationPage,
    pub(super) note: &'static str,
    pub(super) ticket: &'a str,
}

/// A fixed sentence, and where to find the rest in the log.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub(super) struct Failure<'a> {
    pub(super) frame: &'a Frame,
    pub(super) heading: &'static str,
    pub(super) sentence: &'static str,
    pub(super) request_id: &'a str,
}

/// What the user reads.
pub(crate) fn sentence(note: Note) -> &'static str {
    match note {
        Note::StillNobody => {
            "You are not signed in here. If you have just signed in, your browser may be blocking cookies of this site."
        }
        Note::StillTooOld => {
            "The other site asks for a fresh login, and your session here is older. Sign out here, then sign in again with your password."
        }
        Note::Foreign => {
            "You are signed in here with an account from another site, and this site cannot vouch for it. Sign out here and use an account of this site, or cancel and choose the site that your account is from."
        }
        Note::ApplicationDown => "This site cannot check logins at the moment. Try again in a minute.",
        Note::Wrong => "User name or password is wrong.",
        Note::SecondFactorNeeded => {
            "Your account needs a second step to log in, which this form cannot ask for. Sign in on the site itself first, then come back to this login."
        }
        Note::SecondFactorMissing => {
            "This site wants you to set up a second factor first. Sign in on the site itself, set it up, then come back to this login and try again."
        }
        Note::CodeWrong => "That code is wrong. Try the next one that you see.",
        Note::CodesUsedUp => "The codes were wrong. Log in again, and check that the clock of your device is right.",
        Note::CodeTooLate => "The login took too long. Log in again.",
        Note::Guest => {
            "This account is for everybody who visits this site, so nobody can be logged in elsewhere with it. Use an account of your own."
        }
        Note::Locked => {
            "Too many failed logins: the account is locked for a while. Try again later, or ask the people who run this site."
        }
        Note::Disabled => "This account cannot log in. Ask the people who run this site.",
        Note::TooManyTries => "Too many tries. Wait a while, then try again.",
    }
}

/// What a stranger reads of an error: status, heading, sentence. Never more; the log has the cause.
pub(super) fn public(error: &PortalError) -> (u16, &'static str, &'static str) {
    match error {
        PortalError::NoTicket => (400, "No login to continue", "Start at the site that you want to log in to."),
        PortalError::TicketRefused { .. } => (
            410,
            "This login is over",
            "It took too long, was finished already, or the other site does not take logins from here any more. Start again at the site that you want to log in to.",
        ),
        PortalError::BrokerUnavailable(_) => (
            503,
            "Homeward does not answer",
            "Logging in elsewhere is not possible at the moment. Reload this page in a minute.",
        ),
        PortalError::ForgedForm => {
            (403, "This form is out of date", "Go back, reload the page and try again. Cookies must be allowed.")
        }
        PortalError::BadForm => (400, "This form cannot be read", "Go back, reload the page and try again."),
        PortalError::TooLarge => (413, "This form is too large", "Go back, reload the page and try again."),
        PortalError::NotFound => (404, "There is no such page", "Start at the site that you want to log in to."),
        PortalError::IdentityIncomplete(_) | PortalError::IdentityRefused(_) => (
            502,
            "Your account lacks something",
            "This site does not say enough of your account to log in elsewhere. Ask the people who run it.",
        ),
        PortalError::Elsewhere(ElsewhereError::NotBegunHere | ElsewhereError::BadAnswer) => (
            400,
            "This login is over",
            "It took too long, was finished already, or your browser blocks cookies of this site. Start again at the site that you want to log in to.",
        ),
        PortalError::Elsewhere(_) => (
            502,
            "This login did not work",
            "This site could not make sense of its own login. Start again; if it stays, tell the people who run it the number below.",
        ),
        PortalError::NoRandomness | PortalError::NoReturnAddress => (
            500,
            "Something went wrong",
            "Try again in a minute. If it stays, tell the people who run this site the number below.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_escaped() {
        let frame = Frame { path: "/homeward/".to_owned(), home: "<i>Alpha</i>".to_owned() };
        let page = FormPage {
            relying_party: "\"><script>alert(1)</script>".to_owned(),
            username: "\" onfocus=\"x".to_owned(),
            note: None,
            application_login: Some("https://alpha.example/?a=1&b=\"".to_owned()),
            form_token: "token".to_owned(),
        };
        let html = Form { frame: &frame, page, note: None, ticket: "t" }.render().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<i>") && !html.contains("\" onfocus"), "{html}");
    }
}
