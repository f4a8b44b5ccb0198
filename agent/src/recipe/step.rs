//! One request of a conversation with the application: a sign-in, the start of a login, a nudge to fetch keys.

use serde::Deserialize;

use super::content::Content;
use super::home::OutcomeRule;
use super::{AppPath, RecipeError};

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// HTTP method.
    pub method: StepMethod,
    /// Where to.
    pub path: AppPath,
    /// The JSON body; in password steps with `${username}` and `${password}`, in steps that end sessions with the values
    /// of the order.
    pub json: Option<Content>,
    /// What to copy from a cookie to a header, against the application's CSRF check.
    pub csrf: Option<Csrf>,
    /// What answers mean; the first that fits counts. In password steps only.
    #[serde(default)]
    pub outcomes: Vec<OutcomeRule>,
}

/// HTTP methods that steps may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StepMethod {
    /// GET
    Get,
    /// POST
    Post,
    /// DELETE
    Delete,
}

/// A double-submit CSRF token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Csrf {
    /// The cookie that has it.
    pub cookie: String,
    /// The header that wants it.
    pub header: String,
}

impl Step {
    /// Refuses what a step that nobody types anything for cannot have: placeholders and outcomes.
    pub(super) fn check_plain(&self, place: &'static str) -> Result<(), RecipeError> {
        self.check_filled(place, &[])
    }

    /// Refuses outcomes, and placeholders other than these.
    pub(super) fn check_filled(&self, place: &'static str, values: &[&str]) -> Result<(), RecipeError> {
        if !self.outcomes.is_empty() {
            return Err(RecipeError::OutcomesThere(place));
        }
        let placeholder = |source| RecipeError::Placeholder { place, source };
        self.json.as_ref().map_or(Ok(()), |json| json.check(values).map_err(placeholder))
    }
}
