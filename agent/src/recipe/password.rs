//! How the application judges a name and a password, and a second factor after them: requests, and what their answers mean.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::RecipeError;
use super::condition::Condition;
use super::placeholders::Placeholders;
use super::step::{Step, check_conversation};

/// The section `[home.password]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// Requests with cookies of their own, in this order. The last decides.
    pub steps: Vec<Step>,
    /// What follows when they come to [`PasswordOutcome::SecondFactorNeeded`]; nobody with a second factor can sign in with
    /// a password if unset.
    pub second_factor: Option<SecondFactor>,
    /// Ends the session that the steps made.
    pub sign_out: Option<Step>,
    /// The agent's own limit, below the application's.
    #[serde(default)]
    pub tries: Tries,
}

/// The section `[home.password.second_factor]`: requests of the same conversation, made with each code that the user types.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondFactor {
    /// In this order. The last decides.
    pub steps: Vec<Step>,
    /// What codes are made of.
    #[serde(default)]
    pub code: CodeKind,
}

/// What codes are made of: which keys a phone shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeKind {
    /// Digits only.
    #[default]
    Digits,
    /// Anything, for example recovery codes.
    Text,
}

/// How many wrong passwords the agent lets through.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tries {
    /// From one address, and of one user from one address; the agent's usual limits if unset.
    pub per_minute: Option<NonZeroU32>,
}

/// What an answer means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRule {
    /// The answer.
    pub when: Condition,
    /// Its meaning.
    pub outcome: PasswordOutcome,
}

/// How the application judged a name and a password, or a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordOutcome {
    /// Signed in.
    Ok,
    /// No such user, or another password: never told apart.
    Wrong,
    /// The password is right, and a second factor is asked for.
    SecondFactorNeeded,
    /// Not that code; another may be tried.
    CodeWrong,
    /// Too many tries.
    Locked,
    /// The user may not sign in.
    Disabled,
    /// Signed in, and the account belongs to nobody.
    Guest,
}

impl Password {
    /// Checks the requests. What they captured may be used by others after a sign-in.
    pub(super) fn check<'a>(&'a self, parameters: &Placeholders<'a>) -> Result<Placeholders<'a>, RecipeError> {
        if !decides(&self.steps) {
            return Err(RecipeError::Incomplete("home.password.steps needs a last step that can have the outcome ok"));
        }
        let typed = parameters.clone().with(&["username"]).with_secret(&["password"]);
        let known = check_conversation(&self.steps, "home.password", typed)?;
        if let Some(second_factor) = &self.second_factor {
            if !decides(&second_factor.steps) {
                return Err(RecipeError::Incomplete(
                    "home.password.second_factor.steps needs a last step that can have the outcome ok",
                ));
            }
            let with_code = known.with_secret(&["code"]);
            check_conversation(&second_factor.steps, "home.password.second_factor", with_code)?;
        }
        // Neither name nor password is there any more when the session is ended.
        let captured: Vec<&str> = self.captured().collect();
        let later = parameters.clone().with(&captured);
        if let Some(sign_out) = &self.sign_out {
            sign_out.check_plain("home.password.sign_out", &later)?;
        }
        Ok(later)
    }

    /// What its steps take from answers.
    pub fn captured(&self) -> impl Iterator<Item = &str> {
        let second_factor = self.second_factor.iter().flat_map(|second_factor| &second_factor.steps);
        self.steps.iter().chain(second_factor).flat_map(|step| step.capture.keys().map(String::as_str))
    }
}

fn decides(steps: &[Step]) -> bool {
    steps.last().is_some_and(|step| step.outcomes.iter().any(|rule| rule.outcome == PasswordOutcome::Ok))
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    const TWO_FACTORS: &str = r"
        name = 'small'
        title = 'Small'
        description = ''
        [home]
        who_am_i = [{ name = 'me', path = '/me', headers = { Authorization = '${token}' }, otherwise = 'disabled' }]
        identity = { home_user_id = 'me:/id', username = 'me:/name' }
        [[home.password.steps]]
        method = 'POST'
        path = '/login'
        json = { username = '${username}', password = '${password}' }
        capture = { token = '/data/token' }
        outcomes = [{ when = {}, outcome = 'ok' }, { when = { status = 402 }, outcome = 'second_factor_needed' }]
        [home.password.sign_out]
        method = 'GET'
        path = '/logout'
        headers = { Authorization = '${token}' }
        [home.password.tries]
        per_minute = 2
        [[home.password.second_factor.steps]]
        method = 'POST'
        path = '/login'
        json = { username = '${username}', password = '${password}', otp_code = '${code}' }
        capture = { token = '/data/token' }
        outcomes = [{ when = {}, outcome = 'ok' }, { when = { status = 402 }, outcome = 'code_wrong' }]
    ";

    #[test]
    fn a_second_factor_follows_in_the_same_conversation() {
        let password = Recipe::parse(TWO_FACTORS).unwrap().home.unwrap().password.unwrap();
        assert_eq!(password.second_factor.as_ref().unwrap().code, CodeKind::Digits);
        assert_eq!(password.captured().collect::<Vec<_>>(), ["token", "token"]);
        assert_eq!(password.tries.per_minute, NonZeroU32::new(2));
    }

    #[test]
    fn what_cannot_be_known_or_cannot_succeed_is_refused() {
        let early = TWO_FACTORS.replacen("'${password}'", "'${code}'", 1);
        assert!(matches!(Recipe::parse(&early), Err(RecipeError::Placeholder { .. })), "no code was asked for yet");
        let never = TWO_FACTORS.replace("capture = { token = '/data/token' }", "");
        assert!(matches!(Recipe::parse(&never), Err(RecipeError::Placeholder { .. })));
        let at = TWO_FACTORS.rfind("'ok'").unwrap();
        let hopeless = format!("{}'wrong'{}", &TWO_FACTORS[..at], &TWO_FACTORS[at + 4..]);
        assert!(matches!(Recipe::parse(&hopeless), Err(RecipeError::Incomplete(_))));
    }
}
