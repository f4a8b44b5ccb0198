//! How the agent starts a login at the application, to see which credential the application presents at the broker.

use serde::Deserialize;

use super::step::Step;
use super::{AppPath, RecipeError};

/// The section `[relying_party.probe]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Requests with cookies in common. The last is answered with a redirect to the broker; earlier ones may set cookies
    /// and CSRF tokens.
    pub steps: Vec<Step>,
    /// Where the broker sends browsers back to; the first of `callback_paths` if unset.
    pub callback: Option<AppPath>,
}

impl Probe {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if self.steps.is_empty() {
            return Err(RecipeError::Incomplete("relying_party.probe needs at least one step"));
        }
        self.steps.iter().try_for_each(|step| step.check_plain("relying_party.probe"))
    }
}
