//! How it is known that the application can verify signatures with a key that has just been published.

use serde::Deserialize;

use super::placeholders::Placeholders;
use super::pointer::Pointer;
use super::step::Step;
use super::{AppPath, RecipeError};

/// The section `[relying_party.key_set]`. Without it only time tells: twice the age that caches may reach.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// How it is known.
    pub proof: KeySetProof,
    /// Where the application names the keys that it holds; with `shown`.
    pub path: Option<AppPath>,
    /// Where in that answer their key ids are; with `shown`.
    pub pointer: Option<Pointer>,
    /// What makes the application fetch the key set; with `warmed`, and if it helps with `shown`.
    #[serde(default)]
    pub warm: Vec<Step>,
}

/// How it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySetProof {
    /// The application keeps no keys: it fetches them at each login, or does not verify signatures.
    NoCache,
    /// The application names the keys that it holds.
    Shown,
    /// The steps make the application fetch the key set.
    Warmed,
}

impl KeySet {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        let asks = self.path.is_some() && self.pointer.is_some();
        match self.proof {
            KeySetProof::Shown if !asks => return Err(RecipeError::KeySet("shown needs a path and a pointer")),
            KeySetProof::Warmed if self.warm.is_empty() => {
                return Err(RecipeError::KeySet("warmed needs at least one warm step"));
            }
            KeySetProof::NoCache if asks || !self.warm.is_empty() => {
                return Err(RecipeError::KeySet("no_cache asks nothing: leave out path, pointer and warm"));
            }
            KeySetProof::NoCache | KeySetProof::Shown | KeySetProof::Warmed => {}
        }
        self.warm.iter().try_for_each(|step| step.check_plain("relying_party.key_set.warm", parameters))
    }
}
