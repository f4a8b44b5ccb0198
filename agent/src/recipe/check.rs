//! What would go wrong at this installation, found before a user meets it.

use serde::Deserialize;

use super::RecipeError;
use super::condition::Condition;
use super::placeholders::Placeholders;
use super::step::Step;

/// One of `[[checks]]`, for `homeward-agent doctor`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Which role it is about.
    pub role: CheckedRole,
    /// What it is about, in a word.
    pub about: String,
    /// What to ask.
    pub request: Step,
    /// The answer that shows the problem.
    pub bad_when: Option<Condition>,
    /// The only answer that shows that there is none; instead of [`Check::bad_when`].
    pub good_when: Option<Condition>,
    /// What would go wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Which role a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckedRole {
    /// Only that.
    RelyingParty,
    /// Only that.
    Home,
    /// Whichever the instance has.
    Both,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Some users will meet it.
    Warning,
    /// Nobody can log in.
    Error,
}

impl Check {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        if self.bad_when.is_some() == self.good_when.is_some() {
            return Err(RecipeError::Incomplete("checks need either bad_when or good_when"));
        }
        self.request.check_plain("checks.request", parameters)
    }

    /// Whether an answer shows the problem.
    pub fn finds_problem(&self, status: u16, body: &serde_json::Value) -> bool {
        match (&self.bad_when, &self.good_when) {
            (Some(bad), _) => bad.holds(status, body),
            (None, good) => !good.as_ref().is_some_and(|good| good.holds(status, body)),
        }
    }
}
