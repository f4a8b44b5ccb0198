//! How the agent starts a login at the application, to see which credential the application presents at the broker.

use serde::Deserialize;

use super::RecipeError;
use super::path::CallbackPath;
use super::placeholders::Placeholders;
use super::step::{Step, check_conversation};

/// The section `[relying_party.probe]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Requests with cookies in common. The last is answered with a redirect to the broker; earlier ones may set cookies
    /// and CSRF tokens.
    pub steps: Vec<Step>,
    /// Where the broker sends browsers back to; the first of `callback_paths` if unset.
    pub callback: Option<CallbackPath>,
}

impl Probe {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        if self.steps.is_empty() {
            return Err(RecipeError::Incomplete("relying_party.probe needs at least one step"));
        }
        if self.steps.iter().any(|step| !step.outcomes.is_empty()) {
            return Err(RecipeError::OutcomesThere("relying_party.probe"));
        }
        check_conversation(&self.steps, "relying_party.probe", parameters.clone()).map(|_| ())
    }
}
