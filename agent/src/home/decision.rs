//! What is next in a login at this home: one pure function of what the relying party asks, which methods are on, and what
//! the application says of the browser.

use homeward_proto::v1::OpenTicketResponse;
use time::OffsetDateTime;

use super::session::Recognised;
use crate::clock;
use crate::config::HomeMethod;
use crate::recipe::home::PasswordOutcome;

/// What the relying party asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// Nothing may be shown (`prompt=none`).
    pub(crate) silent: bool,
    /// The user must have authenticated then, or later.
    pub(crate) min_auth_time: Option<OffsetDateTime>,
}

/// What the application says of the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was not asked.
    NotAsked,
    /// It did not answer.
    Unavailable,
    /// Nobody is signed in.
    Nobody,
    /// Somebody is, by a session that is not this home's to vouch for.
    Foreign,
    /// Somebody is, who authenticated then, if that is known.
    Somebody(Option<OffsetDateTime>),
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// This home vouches for the one who is signed in.
    Vouch,
    /// The ticket is used up: somebody would have to log in, and nothing may be shown.
    LoginRequired,
    /// The ticket is used up: the application does not answer, and nothing may be shown.
    Unavailable,
    /// To the application's login page, and back.
    LogIn,
    /// To the page where somebody who is signed in proves it again, and back.
    Reauthenticate,
    /// The agent's form.
    Form(Option<Note>),
    /// A page that says what to do.
    Explain(Note),
}

/// What a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// Back from the login page, and nobody is signed in.
    StillNobody,
    /// Back from the login page, and the login is still too old.
    StillTooOld,
    /// A session that Homeward made for a user of another home.
    Foreign,
    /// The application does not answer.
    ApplicationDown,
    /// Name or password.
    Wrong,
    /// The application wants a second factor.
    SecondFactorNeeded,
    /// The application has locked the account, for a while.
    Locked,
    /// The account may not log in.
    Disabled,
    /// The portal's own limit.
    TooManyTries,
}

/// Decides. `returned`: the browser comes back from the application's login page in this login.
pub(crate) fn decide(ask: &Ask, methods: &[HomeMethod], seen: &Seen, returned: bool) -> Step {
    if let Seen::Somebody(auth_time) = seen
        && is_fresh(ask.min_auth_time, *auth_time)
    {
        return Step::Vouch;
    }
    if ask.silent {
        return if *seen == Seen::Unavailable { Step::Unavailable } else { Step::LoginRequired };
    }
    let password = methods.contains(&HomeMethod::Password);
    let prefers_session = methods.first() == Some(&HomeMethod::Session);
    // A page of the application that sends the browser straight back must not be asked twice: that would go on for ever.
    let ask_the_user = |note| if password { Step::Form(Some(note)) } else { Step::Explain(note) };
    match seen {
        // The form would not help: the application is what checks the password.
        Seen::Unavailable => Step::Explain(Note::ApplicationDown),
        Seen::Foreign if prefers_session || !password => ask_the_user(Note::Foreign),
        _ if !prefers_session => Step::Form(None),
        Seen::Nobody if returned => ask_the_user(Note::StillNobody),
        Seen::Somebody(_) if returned => ask_the_user(Note::StillTooOld),
        Seen::Somebody(_) => Step::Reauthenticate,
        Seen::Nobody | Seen::NotAsked | Seen::Foreign => Step::LogIn,
    }
}

/// OpenID Connect Core 3.1.2.1: an unknown time of authentication satisfies no max_age.
fn is_fresh(min_auth_time: Option<OffsetDateTime>, auth_time: Option<OffsetDateTime>) -> bool {
    match (min_auth_time, auth_time) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earliest), Some(at)) => at >= earliest,
    }
}

impl From<&OpenTicketResponse> for Ask {
    fn from(ticket: &OpenTicketResponse) -> Self {
        // A time that no calendar has: nothing is fresh enough.
        let min_auth_time = ticket.min_auth_time.as_ref();
        let min_auth_time =
            min_auth_time.map(|at| clock::from_timestamp(at).unwrap_or(time::PrimitiveDateTime::MAX.assume_utc()));
        Self { silent: ticket.silent, min_auth_time }
    }
}

impl From<&Recognised> for Seen {
    fn from(recognised: &Recognised) -> Self {
        match recognised {
            Recognised::NotAsked => Self::NotAsked,
            Recognised::Unavailable => Self::Unavailable,
            Recognised::Nobody => Self::Nobody,
            Recognised::Foreign => Self::Foreign,
            Recognised::Somebody(answers) => Self::Somebody(answers.auth_time()),
        }
    }
}

impl From<PasswordOutcome> for Note {
    fn from(outcome: PasswordOutcome) -> Self {
        match outcome {
            // Somebody who is signed in without an identity is nobody.
            PasswordOutcome::Ok | PasswordOutcome::Wrong => Self::Wrong,
            PasswordOutcome::SecondFactorNeeded => Self::SecondFactorNeeded,
            PasswordOutcome::Locked => Self::Locked,
            PasswordOutcome::Disabled => Self::Disabled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HomeMethod::{Password, Session};

    const EARLIER: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const ANY_TIME: Ask = Ask { silent: false, min_auth_time: None };

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn fresh(silent: bool) -> Ask {
        Ask { silent, min_auth_time: Some(at(1000)) }
    }

    #[test]
    fn whoever_is_signed_in_freshly_enough_is_vouched_for() {
        for methods in [&[Session][..], &[Session, Password], &[Password, Session]] {
            for returned in [false, true] {
                assert_eq!(decide(&ANY_TIME, methods, &Seen::Somebody(None), returned), Step::Vouch);
                assert_eq!(decide(&fresh(true), methods, &Seen::Somebody(Some(at(1000))), returned), Step::Vouch);
                assert_ne!(decide(&fresh(false), methods, &Seen::Somebody(Some(at(999))), returned), Step::Vouch);
                assert_ne!(decide(&fresh(false), methods, &Seen::Somebody(None), returned), Step::Vouch);
            }
        }
    }

    #[test]
    fn a_silent_login_shows_nothing() {
        let silent = Ask { silent: true, min_auth_time: None };
        for methods in [&[Session][..], &[Password], &[Session, Password], &[Password, Session]] {
            for seen in [Seen::NotAsked, Seen::Nobody, Seen::Foreign] {
                assert_eq!(decide(&silent, methods, &seen, false), Step::LoginRequired, "{methods:?} {seen:?}");
            }
            assert_eq!(decide(&silent, methods, &Seen::Unavailable, false), Step::Unavailable);
            assert_eq!(decide(&fresh(true), methods, &Seen::Somebody(None), false), Step::LoginRequired);
        }
    }

    #[test]
    fn every_other_case_has_one_next_step() {
        let old = Seen::Somebody(Some(EARLIER));
        let form = |note| Step::Form(Some(note));
        for (methods, seen, returned, step) in [
            (&[Session][..], Seen::Nobody, false, Step::LogIn),
            (&[Session], Seen::Nobody, true, Step::Explain(Note::StillNobody)),
            (&[Session], old, false, Step::Reauthenticate),
            (&[Session], old, true, Step::Explain(Note::StillTooOld)),
            (&[Session], Seen::Foreign, false, Step::Explain(Note::Foreign)),
            (&[Session], Seen::Unavailable, false, Step::Explain(Note::ApplicationDown)),
            (&[Session, Password], Seen::Nobody, false, Step::LogIn),
            (&[Session, Password], Seen::Nobody, true, form(Note::StillNobody)),
            (&[Session, Password], old, false, Step::Reauthenticate),
            (&[Session, Password], old, true, form(Note::StillTooOld)),
            (&[Session, Password], Seen::Foreign, false, form(Note::Foreign)),
            (&[Password, Session], Seen::Nobody, false, Step::Form(None)),
            (&[Password, Session], Seen::Nobody, true, Step::Form(None)),
            (&[Password, Session], old, false, Step::Form(None)),
            (&[Password, Session], Seen::Foreign, false, Step::Form(None)),
            (&[Password, Session], Seen::Unavailable, false, Step::Explain(Note::ApplicationDown)),
            (&[Password], Seen::NotAsked, false, Step::Form(None)),
            (&[Password], Seen::NotAsked, true, Step::Form(None)),
        ] {
            assert_eq!(decide(&fresh(false), methods, &seen, returned), step, "{methods:?} {seen:?} {returned}");
        }
    }
}
