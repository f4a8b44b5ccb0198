//! Which account the application would take for a user who comes from elsewhere: what it does at a login, told as data,
//! so that it can be asked before there is one.

use serde::Deserialize;

use super::RecipeError;
use super::condition::Condition;
use super::placeholders::Placeholders;
use super::pointer::Pointer;
use super::sql::Query;
use super::step::Step;

/// One of `[[relying_party.accounts]]`: a look-up, in the application's own order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountLookup {
    /// By which claim.
    pub claim: AccountClaim,
    /// In the database: the claim's value is the argument, the first column of the first row is the account.
    pub rows: Option<Query>,
    /// Or by a request, with `${value}`.
    pub step: Option<Step>,
    /// Where in its answer the account is.
    pub account: Option<Pointer>,
    /// When the answer means that there is one: status 200 and something at `account` if unset.
    #[serde(default)]
    pub when: Condition,
    /// What happens if it is found; `{account}` and `{value}` are filled in.
    pub found: String,
}

/// A claim that accounts are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountClaim {
    /// The subject.
    Sub,
    /// The address.
    Email,
    /// The name that the trust edge makes.
    PreferredUsername,
    /// The name that nobody else in the federation has.
    HomewardName,
}

/// The section `[relying_party.account_made]`: what happens if no account was found.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountMade {
    /// In a sentence; claims stand in braces.
    pub outcome: String,
    /// What happens if the name is taken.
    pub taken: Option<String>,
    /// Claims without which the application refuses.
    #[serde(default)]
    pub needs: Vec<String>,
}

impl AccountLookup {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "relying_party.accounts";
        match (&self.rows, &self.step) {
            (Some(rows), None) => rows.check(PLACE, parameters),
            (None, Some(step)) if self.account.is_some() => {
                step.check_plain(PLACE, &parameters.clone().with(&["value"]))
            }
            _ => Err(RecipeError::Incomplete("relying_party.accounts needs either rows, or step and account")),
        }
    }
}
