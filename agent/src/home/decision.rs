//! What is next in a login at this home: one pure function of what the relying party asks, which methods are on, and what
//! the application says of the browser.

use homeward_proto::v1::OpenTicketResponse;
use time::OffsetDateTime;

use super::session::Recognised;
use super::vouching;
use crate::clock;
use crate::config::home::HomeMethod;
use crate::recipe::home::{Home, Otherwise};
use crate::recipe::password::PasswordOutcome;

/// What the relying party asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// Nothing may be shown (`prompt=none`).
    pub(crate) silent: bool,
    /// The user must have authenticated then, or later.
    pub(crate) min_auth_time: Option<OffsetDateTime>,
    /// What a session at the application may be worth.
    pub(crate) by_session: Class,
    /// What a password is worth.
    pub(crate) by_password: Class,
}

/// Whether a login is of a class that the relying party asks for (OpenID Connect Core 3.1.2.1, `acr_values`). It asks for
/// the best there is, not for all or nothing: whether another class is good enough, the broker judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It is, or nothing was asked, or it cannot be known before.
    Wanted,
    /// It is of another, or of none.
    Other,
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
    /// Somebody is, whom this home does not vouch for, and why not.
    Refused(Note),
    /// Somebody is, who authenticated then, if that is known, in a login of that class.
    Somebody(Option<OffsetDateTime>, Class),
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
    /// The application wants a second factor, and the recipe does not say how it is asked.
    SecondFactorNeeded,
    /// The application wants a second factor to be set up first.
    SecondFactorMissing,
    /// Not that code.
    CodeWrong,
    /// Not that code either, nor the one before.
    CodesUsedUp,
    /// The sign-in that the code belongs to is over.
    CodeTooLate,
    /// An account that everybody may use.
    Guest,
    /// The application has locked the account, for a while.
    Locked,
    /// The account may not log in.
    Disabled,
    /// The portal's own limit.
    TooManyTries,
}

/// Decides. `returned`: the browser comes back from the application's login page in this login.
pub(crate) fn decide(ask: &Ask, methods: &[HomeMethod], seen: &Seen, returned: bool) -> Step {
    let form = methods.iter().any(|method| method.has_form());
    let password_is_better = form && ask.by_password == Class::Wanted;
    if let Seen::Somebody(auth_time, class) = seen
        && is_fresh(ask.min_auth_time, *auth_time)
        && (*class == Class::Wanted || !password_is_better || ask.silent)
    {
        return Step::Vouch;
    }
    if ask.silent {
        return if *seen == Seen::Unavailable { Step::Unavailable } else { Step::LoginRequired };
    }
    let prefers_session = match seen {
        Seen::Somebody(_, Class::Other) if password_is_better => false,
        _ => prefers_session(ask, methods),
    };
    // A page of the application that sends the browser straight back must not be asked twice: that would go on for ever.
    let ask_the_user = |note| if form { Step::Form(Some(note)) } else { Step::Explain(note) };
    match seen {
        // The form would not help: the application is what checks the password.
        Seen::Unavailable => Step::Explain(Note::ApplicationDown),
        // Nor here: it would come to the same.
        Seen::Refused(note @ Note::SecondFactorMissing) => Step::Explain(*note),
        Seen::Refused(note) if prefers_session || !form => ask_the_user(*note),
        _ if !prefers_session => Step::Form(None),
        Seen::Nobody if returned => ask_the_user(Note::StillNobody),
        Seen::Somebody(..) if returned => ask_the_user(Note::StillTooOld),
        Seen::Somebody(..) => Step::Reauthenticate,
        Seen::Nobody | Seen::NotAsked | Seen::Refused(_) => Step::LogIn,
    }
}

/// The method that gives what is asked for, if only one does; else the one that the operator put first.
fn prefers_session(ask: &Ask, methods: &[HomeMethod]) -> bool {
    let on = |method| methods.contains(&method);
    match (ask.by_session, ask.by_password) {
        (Class::Other, Class::Wanted) if methods.iter().any(|method| method.has_form()) => false,
        (Class::Wanted, Class::Other) if on(HomeMethod::Session) => true,
        _ => methods.first() == Some(&HomeMethod::Session),
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

impl Class {
    /// Of a login that is of this class, or of none.
    fn of(acr: Option<&str>, wanted: &[String]) -> Self {
        let is_wanted = wanted.is_empty() || acr.is_some_and(|acr| wanted.iter().any(|wanted| wanted == acr));
        if is_wanted { Self::Wanted } else { Self::Other }
    }
}

/// From when on a user must have authenticated.
pub(super) fn min_auth_time(ticket: &OpenTicketResponse) -> Option<OffsetDateTime> {
    // A time that no calendar has: nothing is fresh enough.
    let never = || time::PrimitiveDateTime::MAX.assume_utc();
    ticket.min_auth_time.as_ref().map(|at| clock::from_timestamp(at).unwrap_or_else(never))
}

impl Ask {
    /// What a ticket asks of a home with this recipe.
    pub(crate) fn new(ticket: &OpenTicketResponse, recipe: &Home) -> Self {
        let min_auth_time = min_auth_time(ticket);
        let class = |acr: Option<&str>| Class::of(acr, &ticket.acr_values);
        // Where the application says it of each login, it is known only then.
        let told_by_application = !recipe.identity.acr.0.is_empty();
        let by_session = if told_by_application { Class::Wanted } else { class(recipe.acr.session.as_deref()) };
        let by_password = class(recipe.acr.password.as_deref());
        Self { silent: ticket.silent, min_auth_time, by_session, by_password }
    }
}

impl Seen {
    /// What the application's answer comes to, for a relying party that wants these classes.
    pub(crate) fn new(recognised: &Recognised, recipe: &Home, wanted: &[String]) -> Self {
        match recognised {
            Recognised::NotAsked => Self::NotAsked,
            Recognised::Unavailable => Self::Unavailable,
            Recognised::Nobody => Self::Nobody,
            Recognised::Refused(note) => Self::Refused(*note),
            Recognised::Somebody(answers) => {
                let acr = vouching::acr(recipe, answers, HomeMethod::Session);
                Self::Somebody(answers.auth_time(), Class::of(acr.as_deref(), wanted))
            }
        }
    }
}

impl From<PasswordOutcome> for Note {
    fn from(outcome: PasswordOutcome) -> Self {
        match outcome {
            // Somebody who is signed in without an identity is nobody.
            PasswordOutcome::Ok | PasswordOutcome::Wrong => Self::Wrong,
            PasswordOutcome::SecondFactorNeeded => Self::SecondFactorNeeded,
            PasswordOutcome::CodeWrong => Self::CodesUsedUp,
            PasswordOutcome::Locked => Self::Locked,
            PasswordOutcome::Disabled => Self::Disabled,
            PasswordOutcome::Guest => Self::Guest,
        }
    }
}

impl From<Otherwise> for Note {
    fn from(meaning: Otherwise) -> Self {
        match meaning {
            Otherwise::SecondFactorMissing => Self::SecondFactorMissing,
            Otherwise::Disabled => Self::Disabled,
            Otherwise::Guest => Self::Guest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HomeMethod::{Password, Session};

    const EARLIER: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const ANY_TIME: Ask =
        Ask { silent: false, min_auth_time: None, by_session: Class::Wanted, by_password: Class::Wanted };

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn fresh(silent: bool) -> Ask {
        Ask { silent, min_auth_time: Some(at(1000)), ..ANY_TIME }
    }

    fn somebody(auth_time: Option<OffsetDateTime>) -> Seen {
        Seen::Somebody(auth_time, Class::Wanted)
    }

    #[test]
    fn whoever_is_signed_in_freshly_enough_is_vouched_for() {
        for methods in [&[Session][..], &[Session, Password], &[Password, Session]] {
            for returned in [false, true] {
                assert_eq!(decide(&ANY_TIME, methods, &somebody(None), returned), Step::Vouch);
                assert_eq!(decide(&fresh(true), methods, &somebody(Some(at(1000))), returned), Step::Vouch);
                assert_ne!(decide(&fresh(false), methods, &somebody(Some(at(999))), returned), Step::Vouch);
                assert_ne!(decide(&fresh(false), methods, &somebody(None), returned), Step::Vouch);
            }
        }
    }

    #[test]
    fn a_silent_login_shows_nothing() {
        let silent = Ask { silent: true, ..ANY_TIME };
        for methods in [&[Session][..], &[Password], &[Session, Password], &[Password, Session]] {
            for seen in [Seen::NotAsked, Seen::Nobody, Seen::Refused(Note::Foreign)] {
                assert_eq!(decide(&silent, methods, &seen, false), Step::LoginRequired, "{methods:?} {seen:?}");
            }
            assert_eq!(decide(&silent, methods, &Seen::Unavailable, false), Step::Unavailable);
            assert_eq!(decide(&fresh(true), methods, &somebody(None), false), Step::LoginRequired);
        }
    }

    #[test]
    fn every_other_case_has_one_next_step() {
        let old = somebody(Some(EARLIER));
        let (form, missing) = (|note| Step::Form(Some(note)), Note::SecondFactorMissing);
        for (methods, seen, returned, step) in [
            (&[Session][..], Seen::Nobody, false, Step::LogIn),
            (&[Session], Seen::Nobody, true, Step::Explain(Note::StillNobody)),
            (&[Session], old, false, Step::Reauthenticate),
            (&[Session], old, true, Step::Explain(Note::StillTooOld)),
            (&[Session], Seen::Refused(Note::Foreign), false, Step::Explain(Note::Foreign)),
            (&[Session], Seen::Unavailable, false, Step::Explain(Note::ApplicationDown)),
            (&[Session, Password], Seen::Nobody, false, Step::LogIn),
            (&[Session, Password], Seen::Nobody, true, form(Note::StillNobody)),
            (&[Session, Password], old, false, Step::Reauthenticate),
            (&[Session, Password], old, true, form(Note::StillTooOld)),
            (&[Session, Password], Seen::Refused(Note::Foreign), false, form(Note::Foreign)),
            (&[Password, Session], Seen::Nobody, false, Step::Form(None)),
            (&[Password, Session], Seen::Nobody, true, Step::Form(None)),
            (&[Password, Session], old, false, Step::Form(None)),
            (&[Password, Session], Seen::Refused(Note::Foreign), false, Step::Form(None)),
            (&[Password, Session], Seen::Unavailable, false, Step::Explain(Note::ApplicationDown)),
            (&[Password], Seen::NotAsked, false, Step::Form(None)),
            (&[Password], Seen::NotAsked, true, Step::Form(None)),
            (&[HomeMethod::Ldap], Seen::NotAsked, false, Step::Form(None)),
            (&[HomeMethod::File], Seen::NotAsked, true, Step::Form(None)),
            (&[Session, Password], Seen::Refused(Note::Disabled), false, form(Note::Disabled)),
            (&[Session], Seen::Refused(Note::Guest), false, Step::Explain(Note::Guest)),
            // Another login here would end at the same place.
            (&[Session, Password], Seen::Refused(missing), true, Step::Explain(missing)),
            (&[Password, Session], Seen::Refused(missing), false, Step::Explain(missing)),
        ] {
            assert_eq!(decide(&fresh(false), methods, &seen, returned), step, "{methods:?} {seen:?} {returned}");
        }
    }
    #[test]
    fn the_method_that_gives_the_wanted_class_is_used() {
        let only_password = Ask { by_session: Class::Other, ..ANY_TIME };
        let only_session = Ask { by_password: Class::Other, ..ANY_TIME };
        let neither = Ask { by_session: Class::Other, by_password: Class::Other, ..ANY_TIME };
        let weak = Seen::Somebody(Some(EARLIER), Class::Other);
        for (ask, methods, seen, step) in [
            (only_password, &[Session, Password][..], Seen::Nobody, Step::Form(None)),
            (only_password, &[Session, Password], weak, Step::Form(None)),
            // Nothing else is on, or nothing else is better: the broker hears what it is.
            (only_password, &[Session], Seen::Nobody, Step::LogIn),
            (only_password, &[Session], weak, Step::Vouch),
            (neither, &[Session, Password], weak, Step::Vouch),
            (neither, &[Session, Password], Seen::Nobody, Step::LogIn),
            (only_session, &[Password, Session], Seen::Nobody, Step::LogIn),
            (only_session, &[Password, Session], weak, Step::Vouch),
            (only_session, &[Password], Seen::NotAsked, Step::Form(None)),
            // Silently there is only one way.
            (Ask { silent: true, ..only_password }, &[Session, Password], weak, Step::Vouch),
        ] {
            assert_eq!(decide(&ask, methods, &seen, false), step, "{ask:?} {methods:?} {seen:?}");
        }
    }

    #[test]
    fn classes_are_compared_and_never_guessed() {
        let wanted = ["gold".to_owned(), "silver".to_owned()];
        for (acr, wanted, class) in [
            (None, &[][..], Class::Wanted),
            (Some("bronze"), &[], Class::Wanted),
            (Some("silver"), &wanted, Class::Wanted),
            (Some("Silver"), &wanted, Class::Other),
            (None, &wanted, Class::Other),
        ] {
            assert_eq!(Class::of(acr, wanted), class, "{acr:?}");
        }
    }
}
