//! What the application says of its users without a login: whether one may still log in, and what a home would vouch for.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::RecipeError;
use super::condition::Condition;
use super::placeholders::Placeholders;
use super::pointer::Pointer;
use super::sql::Query;
use super::step::Step;

/// The section `[home.accounts]`: whether a user may still log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// In the database, by the home user id: no row is removed; a column that is false, 0 or NULL is disabled.
    pub rows: Option<Query>,
    /// Or by a request, with `${home_user_id}`.
    pub step: Option<Step>,
    /// The answer of somebody who is not there any more. Of the three, the first that holds counts; if none does, nothing
    /// is known, and nothing is done.
    pub removed: Option<Condition>,
    /// The answer of somebody who may not log in.
    pub disabled: Option<Condition>,
    /// The answer of somebody who may.
    pub active: Option<Condition>,
}

/// The section `[home.directory]`: what the home would say of a user, by login name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryLookup {
    /// In the database: the columns are called as the fields of an identity. Of several rows the first counts, but for
    /// groups: those are of all rows.
    pub rows: Option<Query>,
    /// Or by a request, with `${username}`.
    pub step: Option<Step>,
    /// Where in its answer the fields are. Without a home_user_id there is no such user.
    #[serde(default)]
    pub identity: BTreeMap<IdentityField, Pointer>,
}

/// A field of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityField {
    /// The stable identifier.
    HomeUserId,
    /// The login name.
    Username,
    /// Full name.
    Name,
    /// Given name.
    GivenName,
    /// Family name.
    FamilyName,
    /// Address.
    Email,
    /// Whether the application has verified it.
    EmailVerified,
    /// Names of groups.
    Groups,
}

impl IdentityField {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HomeUserId => "home_user_id",
            Self::Username => "username",
            Self::Name => "name",
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::Email => "email",
            Self::EmailVerified => "email_verified",
            Self::Groups => "groups",
        }
    }
}

impl Accounts {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "home.accounts";
        let tells = self.disabled.is_some() || self.removed.is_some();
        match (&self.rows, &self.step) {
            (Some(rows), None) if !tells && self.active.is_none() => rows.check(PLACE, parameters),
            (None, Some(step)) if tells => step.check_plain(PLACE, &parameters.clone().with(&["home_user_id"])),
            _ => Err(RecipeError::Incomplete("home.accounts needs either rows, or step with disabled or removed")),
        }
    }
}

impl DirectoryLookup {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "home.directory";
        let names = [IdentityField::HomeUserId, IdentityField::Username];
        let tells = names.iter().all(|field| self.identity.contains_key(field));
        match (&self.rows, &self.step) {
            (Some(rows), None) if self.identity.is_empty() => rows.check(PLACE, parameters),
            (None, Some(step)) if tells => step.check_plain(PLACE, &parameters.clone().with(&["username"])),
            _ => Err(RecipeError::Incomplete(
                "home.directory needs either rows, or step and identity with home_user_id and username",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(home: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\nparameters = {{ db_file = 'x' }}\n[home]\n{home}"
        ))
    }

    #[test]
    fn users_are_asked_about_in_one_way() {
        let rows = "rows = { database = '${db}', query = 'SELECT x FROM u WHERE id = ?' }";
        let step = |name: &str| format!("step = {{ method = 'GET', path = '/u/${{{name}}}' }}");
        for good in [
            format!("[home.accounts]\n{rows}"),
            format!("[home.accounts]\n{}\nremoved = {{ status = 404 }}", step("home_user_id")),
            format!("[home.directory]\n{rows}"),
            format!(
                "[home.directory]\n{}\nidentity = {{ home_user_id = '/id', username = '/name' }}",
                step("username")
            ),
        ] {
            parse(&good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [
            "[home.accounts]".to_owned(),
            format!("[home.accounts]\n{rows}\nremoved = {{}}"),
            format!("[home.accounts]\n{}", step("home_user_id")),
            format!("[home.accounts]\n{}\nremoved = {{}}", step("username")),
            format!("[home.directory]\n{}\nidentity = {{ username = '/name' }}", step("username")),
            format!("[home.directory]\n{rows}\nidentity = {{ username = '/name' }}"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
