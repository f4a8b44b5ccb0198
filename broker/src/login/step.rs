//! The next step of a login: decided here and nowhere else.

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, CheckedOutcome, LoginFailure, Prompt};
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
    /// The one who is signed in already will do.
    IssueCode,
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
    /// The user gave up.
    Cancelled,
    /// The home lets this user not go.
    DeniedByHome,
    /// The home's application does not answer.
    HomeUnavailable,
    /// The relying party does not accept the home any more, or it is cut off.
    HomeNotAccepted,
}

/// Decides the next step from what was asked, who is signed in and the homes that are accepted.
pub fn decide(request: &AuthorizationRequest, session: Option<&SignedIn>, homes: &[HomeChoice]) -> Step {
    let choice = |name: &InstanceName| homes.iter().find(|home| home.name == *name);
    // Somebody who came from a home that is not accepted here, or is another user, is nobody.
    let session = session.filter(|who| choice(&who.home).is_some() && request.expects(&who.subject));
    let usable = session.filter(|who| !request.prompt.demands_login() && request.accepts(who.auth_time));
    match (request.prompt, usable) {
        (Prompt::Silent | Prompt::Allowed, Some(_)) => return Step::IssueCode,
        // Also when a home would have to be chosen: a more telling error would tell a stranger who is signed in where.
        (Prompt::Silent, None) => return Step::Refuse(Refusal::LoginRequired),
        (Prompt::SelectAccount | Prompt::SelectAccountAndLogin, _) => return Step::ChooseHome,
        (Prompt::Allowed | Prompt::Login, _) => {}
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

/// Judges what a home said, when the browser is back: the demands of the request hold at the end as at the beginning,
/// whatever the home made of them.
///
/// # Errors
/// What the relying party is told.
pub fn judge(
    request: &AuthorizationRequest,
    outcome: CheckedOutcome,
    subject: impl FnOnce(&VerifiedIdentity) -> Subject,
) -> Result<(VerifiedIdentity, Subject), Refusal> {
    let identity = match outcome {
        CheckedOutcome::Identity(identity) => identity,
        CheckedOutcome::Failure(LoginFailure::LoginRequired) => return Err(Refusal::LoginRequired),
        CheckedOutcome::Failure(LoginFailure::Cancelled) => return Err(Refusal::Cancelled),
        CheckedOutcome::Failure(LoginFailure::Denied) => return Err(Refusal::DeniedByHome),
        CheckedOutcome::Failure(LoginFailure::Unavailable) => return Err(Refusal::HomeUnavailable),
    };
    if !request.accepts(identity.auth_time) {
        return Err(Refusal::NotFreshEnough);
    }
    let subject = subject(&identity);
    if !request.expects(&subject) {
        return Err(Refusal::OtherUser);
    }
    Ok((identity, subject))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::login::Reply;
    use crate::registry::{ClaimsRequest, ClientId};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn request(prompt: Prompt, max_age: Option<u64>) -> AuthorizationRequest {
        AuthorizationRequest {
            client_id: serde_json::from_str::<ClientId>("\"beta-1\"").unwrap(),
            relying_party: "beta".parse().unwrap(),
            reply: Reply::Device { id: "1".into() },
            scopes: "openid".parse().unwrap(),
            claims: ClaimsRequest::default(),
            resources: Vec::new(),
            nonce: None,
            code_challenge: None,
            prompt,
            max_age,
            login_hint: None,
            expected_subject: None,
            received_at: NOW,
        }
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
        SignedIn { home: home.parse().unwrap(), subject: subject("alice"), auth_time }
    }

    fn go(home: &str) -> Step {
        Step::GoHome(home.parse().unwrap())
    }

    const LOGIN_REQUIRED: Step = Step::Refuse(Refusal::LoginRequired);

    #[test]
    fn table_of_steps() {
        use HomeStatus::{NotReady, Offline, Ready};
        use Prompt::{Allowed, Login, SelectAccount, SelectAccountAndLogin, Silent};
        let alpha = || vec![home("alpha", Ready)];
        let both = || vec![home("alpha", Ready), home("gamma", Ready)];
        let signed_in = |age| Some(session("alpha", age));
        let table = [
            ("one home", Allowed, None, None, alpha(), go("alpha")),
            ("one home, offline", Allowed, None, None, vec![home("alpha", Offline)], Step::ChooseHome),
            ("one home, not ready", Allowed, None, None, vec![home("alpha", NotReady)], Step::ChooseHome),
            ("no home", Allowed, None, None, vec![], Step::ChooseHome),
            ("two homes", Allowed, None, None, both(), Step::ChooseHome),
            ("signed in", Allowed, None, signed_in(7000), both(), Step::IssueCode),
            ("signed in, home asleep", Allowed, None, signed_in(0), vec![home("alpha", Offline)], Step::IssueCode),
            ("signed in elsewhere", Allowed, None, Some(session("delta", 0)), both(), Step::ChooseHome),
            ("fresh", Allowed, Some(100), signed_in(100), both(), Step::IssueCode),
            ("too old", Allowed, Some(100), signed_in(101), both(), go("alpha")),
            ("max_age=0", Allowed, Some(0), signed_in(1), both(), go("alpha")),
            ("max_age beyond all time", Allowed, Some(u64::MAX), signed_in(1), both(), Step::IssueCode),
            ("login", Login, None, signed_in(0), both(), go("alpha")),
            ("login, nobody there", Login, None, None, both(), Step::ChooseHome),
            ("login, large max_age", Login, Some(9999), signed_in(0), both(), go("alpha")),
            ("none, nobody there", Silent, None, None, alpha(), LOGIN_REQUIRED),
            ("none, two homes", Silent, None, None, both(), LOGIN_REQUIRED),
            ("none, signed in", Silent, None, signed_in(5), both(), Step::IssueCode),
            ("none, too old", Silent, Some(4), signed_in(5), both(), LOGIN_REQUIRED),
            ("none, elsewhere", Silent, None, Some(session("delta", 0)), both(), LOGIN_REQUIRED),
            ("choice", SelectAccount, None, signed_in(0), alpha(), Step::ChooseHome),
            ("choice and login", SelectAccountAndLogin, None, signed_in(0), alpha(), Step::ChooseHome),
        ];
        for (case, prompt, max_age, session, homes, step) in table {
            assert_eq!(decide(&request(prompt, max_age), session.as_ref(), &homes), step, "{case}");
        }
    }

    #[test]
    fn only_the_user_that_a_hint_names_will_do() {
        let homes = [home("alpha", HomeStatus::Ready)];
        let mut hinted = request(Prompt::Silent, None);
        hinted.expected_subject = Some(subject("alice"));
        assert_eq!(decide(&hinted, Some(&session("alpha", 0)), &homes), Step::IssueCode);
        hinted.expected_subject = Some(subject("bob"));
        assert_eq!(decide(&hinted, Some(&session("alpha", 0)), &homes), LOGIN_REQUIRED);
    }

    #[test]
    fn an_unknown_time_satisfies_no_demand() {
        let unknown = SignedIn { auth_time: None, ..session("alpha", 0) };
        let homes = [home("alpha", HomeStatus::Ready)];
        assert_eq!(decide(&request(Prompt::Allowed, None), Some(&unknown), &homes), Step::IssueCode);
        assert_eq!(decide(&request(Prompt::Allowed, Some(9)), Some(&unknown), &homes), go("alpha"));
    }

    #[test]
    fn no_session_whatever_survives_prompt_login() {
        for age in [0, 1, 1000] {
            for homes in [vec![], vec![home("alpha", HomeStatus::Ready)]] {
                let step = decide(&request(Prompt::Login, None), Some(&session("alpha", age)), &homes);
                assert_ne!(step, Step::IssueCode);
            }
        }
    }
}
