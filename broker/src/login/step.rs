//! The next step of a login: decided here and nowhere else.

use std::fmt;

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::login::{Agreement, AuthorizationRequest, CheckedOutcome, Demand, LoginFailure, Prompt};
use crate::registry::{HomeStatus, Subject, VerifiedIdentity};

/// A home that the relying party accepts, as the picker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeChoice {
    /// Which.
    pub name: InstanceName,
    /// The name people read.
    pub display_name: String,
    /// Its address.
    pub public_url: String,
    /// Whether it can be chosen.
    pub status: HomeStatus,
}

/// Who is signed in at the broker in this browser.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who vouched.
    pub home: InstanceName,
    /// For whom.
    pub subject: Subject,
    /// When the user last proved who they are.
    pub auth_time: Option<Timestamp>,
    /// In what class, in the home's words.
    pub acr: Option<String>,
    /// Whether the user has to be asked for consent.
    pub agreement: Agreement,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The relying party gets this answer.
    Refuse(Refusal),
    /// The user chooses a home.
    ChooseHome,
    /// The browser goes to this home.
    GoHome(InstanceName),
    /// The one who is signed in already will do, and is asked for consent.
    AskConsent,
    /// The one who is signed in already will do.
    IssueCode,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse(refusal) => write!(f, "refuse: {refusal}"),
            Self::ChooseHome => f.write_str("choose a home"),
            Self::GoHome(home) => write!(f, "go home to {home}"),
            Self::AskConsent => f.write_str("ask for consent"),
            Self::IssueCode => f.write_str("issue a code"),
        }
    }
}

/// Why a relying party gets no code, though its request was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `prompt=none`, and nobody is signed in who would do.
    LoginRequired,
    /// The user is not as fresh, or not the one, that the request demands.
    NotFreshEnough,
    /// Another user than the one that the request demands.
    OtherUser,
    /// The user has not proven who they are in a way that the request demands.
    ClassNotMet,
    /// `prompt=none`, and the user would have to be asked for consent.
    ConsentRequired,
    /// The user does not agree.
    ConsentRefused,
    /// The user gave up.
    Cancelled,
    /// The home lets this user not go.
    DeniedByHome,
    /// The home's application does not answer.
    HomeUnavailable,
    /// The relying party does not accept the home any more, or it is cut off.
    HomeNotAccepted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginRequired => "nobody is signed in who would do",
            Self::NotFreshEnough => "the login is not fresh enough",
            Self::OtherUser => "another user was demanded",
            Self::ClassNotMet => "the login is not of a class that was demanded",
            Self::ConsentRequired => "the user would have to be asked for consent",
            Self::ConsentRefused => "the user does not agree",
            Self::Cancelled => "the user gave up",
            Self::DeniedByHome => "the home refuses the user",
            Self::HomeUnavailable => "the home does not answer",
            Self::HomeNotAccepted => "the home is not accepted",
        })
    }
}

/// Decides the next step from what was asked, who is signed in and the homes that are accepted.
pub fn decide(request: &AuthorizationRequest, session: Option<&SignedIn>, homes: &[HomeChoice]) -> Step {
    let choice = |name: &InstanceName| homes.iter().find(|home| home.name == *name);
    // Somebody who came from a home that is not accepted here, or is another user, is nobody.
    let session = session.filter(|who| choice(&who.home).is_some() && request.expects(&who.subject));
    let fresh = |who: &&SignedIn| !request.prompt.demands(Demand::Login) && request.accepts(who.auth_time);
    let usable = session.filter(fresh).filter(|who| request.accepts_class(who.acr.as_deref()));
    match (&request.prompt, usable.map(|who| who.agreement)) {
        (Prompt::Silent, Some(Agreement::Given)) => return Step::IssueCode,
        (Prompt::Silent, Some(Agreement::Wanted)) => return Step::Refuse(Refusal::ConsentRequired),
        // Also when a home would have to be chosen: a more telling error would tell a stranger who is signed in where.
        (Prompt::Silent, None) => return Step::Refuse(Refusal::LoginRequired),
        // Nobody can be the one that is expected: nobody is sent home in vain.
        (Prompt::Interactive(_), _) if request.expected_subjects.as_ref().is_some_and(Vec::is_empty) => {
            return Step::Refuse(Refusal::LoginRequired);
        }
        (prompt, _) if prompt.demands(Demand::SelectAccount) => return Step::ChooseHome,
        (Prompt::Interactive(_), Some(Agreement::Given)) => return Step::IssueCode,
        (Prompt::Interactive(_), Some(Agreement::Wanted)) => return Step::AskConsent,
        (Prompt::Interactive(_), None) => {}
    }
    let only = match homes {
        [only] => Some(only),
        _ => None,
    };
    let home = session.and_then(|who| choice(&who.home)).or(only);
    match home.filter(|home| home.status == HomeStatus::Ready) {
        Some(home) => Step::GoHome(home.name.clone()),
        None => Step::ChooseHome,
    }
}

/// Who it is by what a home said, when the browser is back.
///
/// # Errors
/// What the relying party is told if it is nobody.
pub fn vouched_for(outcome: CheckedOutcome) -> Result<VerifiedIdentity, Refusal> {
    match outcome {
        CheckedOutcome::Identity(identity) => Ok(identity),
        CheckedOutcome::Failure(LoginFailure::LoginRequired) => Err(Refusal::LoginRequired),
        CheckedOutcome::Failure(LoginFailure::Cancelled) => Err(Refusal::Cancelled),
        CheckedOutcome::Failure(LoginFailure::Denied) => Err(Refusal::DeniedByHome),
        CheckedOutcome::Failure(LoginFailure::Unavailable) => Err(Refusal::HomeUnavailable),
    }
}

/// Whether this user, as the home last spoke of him, is the one that the request demands.
///
/// # Errors
/// What the relying party is told if he is not.
pub fn meets_demands(
    request: &AuthorizationRequest,
    identity: &VerifiedIdentity,
    subject: &Subject,
) -> Result<(), Refusal> {
    if !request.accepts(identity.auth_time) {
        return Err(Refusal::NotFreshEnough);
    }
    if !request.accepts_class(identity.acr.as_deref()) {
        return Err(Refusal::ClassNotMet);
    }
    if request.expects(subject) { Ok(()) } else { Err(Refusal::OtherUser) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn prompt(text: &str) -> Prompt {
        let demand = |word| match word {
            "login" => Demand::Login,
            "consent" => Demand::Consent,
            _ => Demand::SelectAccount,
        };
        match text {
            "none" => Prompt::Silent,
            words => Prompt::Interactive(words.split_whitespace().map(demand).collect()),
        }
    }

    fn request(words: &str, max_age: Option<u64>) -> AuthorizationRequest {
        let prompt = prompt(words);
        AuthorizationRequest { prompt, max_age, ..AuthorizationRequest::for_test("beta-1", "state") }
    }

    fn home(name: &str, status: HomeStatus) -> HomeChoice {
        let public_url = format!("https://{name}.example");
        HomeChoice { name: name.parse().unwrap(), display_name: name.to_owned(), public_url, status }
    }

    fn subject(text: &str) -> Subject {
        serde_json::from_value(text.into()).unwrap()
    }

    fn session(home: &str, age: u64) -> SignedIn {
        let auth_time = Some(NOW - Duration::from_secs(age));
        let (acr, agreement) = (Some("1".into()), Agreement::Given);
        SignedIn { home: home.parse().unwrap(), subject: subject("alice"), auth_time, acr, agreement }
    }

    fn go(home: &str) -> Step {
        Step::GoHome(home.parse().unwrap())
    }

    const LOGIN_REQUIRED: Step = Step::Refuse(Refusal::LoginRequired);

    #[test]
    fn table_of_steps() {
        use HomeStatus::{NotReady, Offline, Ready};
        let alpha = || vec![home("alpha", Ready)];
        let both = || vec![home("alpha", Ready), home("gamma", Ready)];
        let signed_in = |age| Some(session("alpha", age));
        let table = [
            ("one home", "", None, None, alpha(), go("alpha")),
            ("one home, offline", "", None, None, vec![home("alpha", Offline)], Step::ChooseHome),
            ("one home, not ready", "", None, None, vec![home("alpha", NotReady)], Step::ChooseHome),
            ("no home", "", None, None, vec![], Step::ChooseHome),
            ("two homes", "", None, None, both(), Step::ChooseHome),
            ("signed in", "", None, signed_in(7000), both(), Step::IssueCode),
            ("signed in, home asleep", "", None, signed_in(0), vec![home("alpha", Offline)], Step::IssueCode),
            ("signed in elsewhere", "", None, Some(session("delta", 0)), both(), Step::ChooseHome),
            ("fresh", "", Some(100), signed_in(100), both(), Step::IssueCode),
            ("too old", "", Some(100), signed_in(101), both(), go("alpha")),
            ("max_age=0", "", Some(0), signed_in(1), both(), go("alpha")),
            ("max_age beyond all time", "", Some(u64::MAX), signed_in(1), both(), Step::IssueCode),
            ("login", "login", None, signed_in(0), both(), go("alpha")),
            ("login, nobody there", "login", None, None, both(), Step::ChooseHome),
            ("login, large max_age", "login", Some(9999), signed_in(0), both(), go("alpha")),
            ("none, nobody there", "none", None, None, alpha(), LOGIN_REQUIRED),
            ("none, two homes", "none", None, None, both(), LOGIN_REQUIRED),
            ("none, signed in", "none", None, signed_in(5), both(), Step::IssueCode),
            ("none, too old", "none", Some(4), signed_in(5), both(), LOGIN_REQUIRED),
            ("none, elsewhere", "none", None, Some(session("delta", 0)), both(), LOGIN_REQUIRED),
            ("choice", "select_account", None, signed_in(0), alpha(), Step::ChooseHome),
            ("choice and login", "login select_account", None, signed_in(0), alpha(), Step::ChooseHome),
        ];
        for (case, prompt, max_age, session, homes, step) in table {
            assert_eq!(decide(&request(prompt, max_age), session.as_ref(), &homes), step, "{case}");
        }
    }

    #[test]
    fn only_the_user_that_a_hint_names_will_do() {
        let homes = [home("alpha", HomeStatus::Ready)];
        let mut hinted = request("none", None);
        hinted.expected_subjects = Some(vec!["alice".into()]);
        assert_eq!(decide(&hinted, Some(&session("alpha", 0)), &homes), Step::IssueCode);
        hinted.expected_subjects = Some(vec!["bob".into()]);
        assert_eq!(decide(&hinted, Some(&session("alpha", 0)), &homes), LOGIN_REQUIRED);
    }

    #[test]
    fn an_unknown_time_satisfies_no_demand() {
        let unknown = SignedIn { auth_time: None, ..session("alpha", 0) };
        let homes = [home("alpha", HomeStatus::Ready)];
        assert_eq!(decide(&request("", None), Some(&unknown), &homes), Step::IssueCode);
        assert_eq!(decide(&request("", Some(9)), Some(&unknown), &homes), go("alpha"));
    }

    #[test]
    fn no_session_whatever_survives_prompt_login() {
        for age in [0, 1, 1000] {
            for homes in [vec![], vec![home("alpha", HomeStatus::Ready)]] {
                let step = decide(&request("login", None), Some(&session("alpha", age)), &homes);
                assert_ne!(step, Step::IssueCode);
            }
        }
    }

    #[test]
    fn consent_is_asked_for_last_and_never_silently() {
        use HomeStatus::Ready;
        let homes = [home("alpha", Ready)];
        let asked = |age| SignedIn { agreement: Agreement::Wanted, ..session("alpha", age) };
        let step = |words, max_age, who: &SignedIn| decide(&request(words, max_age), Some(who), &homes);
        assert_eq!(step("", None, &asked(5)), Step::AskConsent);
        assert_eq!(step("consent", Some(9), &asked(5)), Step::AskConsent);
        assert_eq!(step("none", None, &asked(5)), Step::Refuse(Refusal::ConsentRequired));
        assert_eq!(step("none", Some(4), &asked(5)), LOGIN_REQUIRED);
        assert_eq!(step("", Some(4), &asked(5)), go("alpha"));
        assert_eq!(step("login consent", None, &asked(5)), go("alpha"));
        assert_eq!(step("consent select_account", None, &asked(5)), Step::ChooseHome);
    }

    // A16
    #[test]
    fn an_essential_class_is_met_or_fetched() {
        let homes = [home("alpha", HomeStatus::Ready)];
        let mut wanted = request("", None);
        wanted.acr_values = vec!["9".into()];
        assert_eq!(decide(&wanted, Some(&session("alpha", 0)), &homes), Step::IssueCode, "voluntary");
        wanted.essential_acr = vec!["2".into(), "1".into()];
        assert_eq!(decide(&wanted, Some(&session("alpha", 0)), &homes), Step::IssueCode);
        wanted.essential_acr = vec!["2".into()];
        assert_eq!(decide(&wanted, Some(&session("alpha", 0)), &homes), go("alpha"));
        let unknown = SignedIn { acr: None, ..session("alpha", 0) };
        assert_eq!(decide(&wanted, Some(&unknown), &homes), go("alpha"));
        wanted.prompt = Prompt::Silent;
        assert_eq!(decide(&wanted, Some(&unknown), &homes), LOGIN_REQUIRED);
        assert_eq!(wanted.wanted_classes(), ["2", "9"]);
    }

    #[test]
    fn nobody_is_sent_home_when_nobody_would_do() {
        let homes = [home("alpha", HomeStatus::Ready)];
        let mut nobody = request("", None);
        nobody.expected_subjects = Some(Vec::new());
        assert_eq!(decide(&nobody, Some(&session("alpha", 0)), &homes), LOGIN_REQUIRED);
    }
}
