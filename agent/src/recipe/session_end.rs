//! How the agent ends a user's sessions at the application, when the user has logged out elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::RecipeError;
use super::content::placeholder;
use super::placeholders::Placeholders;
use super::pointer::Pointer;
use super::sql::Statements;
use super::step::{Step, check_conversation};

/// The sections `[relying_party.session_end]` and `[home.session_end]`: a command, requests to the application, or
/// statements for its database. Ending
/// the sessions of somebody who has none must succeed: the same order may come twice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnd {
    /// A program and its arguments, run without a shell, for at most 30 seconds. Whom to end is in its environment
    /// (`HOMEWARD_SUBJECT`, `HOMEWARD_SESSION_ID`, and `HOMEWARD_USERNAME` if the application is told one; as home
    /// `HOMEWARD_HOME_USER_ID`) and never among its arguments, which everybody on the machine can read. It must exit 0; the last line that it prints may be the
    /// number of sessions that ended.
    #[serde(default)]
    pub command: Vec<String>,
    /// Requests with cookies in common. The last must be answered with a status from 200 to 299.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Statements for the application's database, in one transaction. Each has whom to end as its one argument: the
    /// subject, as home the home user id.
    pub rows: Option<Statements>,
    /// Where in the last answer the number of sessions that ended is.
    pub sessions: Option<Pointer>,
}

impl SessionEnd {
    /// Refuses nothing, more than one way, and values of another role's order.
    pub(super) fn check(&self, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        let ways = [!self.command.is_empty(), !self.steps.is_empty(), self.rows.is_some()];
        if ways.iter().filter(|used| **used).count() != 1 {
            return Err(RecipeError::Incomplete("session_end needs one of command, steps and rows"));
        }
        if self.sessions.is_some() && self.steps.is_empty() {
            return Err(RecipeError::Incomplete("session_end takes the number by sessions from steps only"));
        }
        if self.steps.iter().any(|step| !step.outcomes.is_empty()) {
            return Err(RecipeError::OutcomesThere(place));
        }
        if let Some(rows) = &self.rows {
            rows.check(place, known)?;
        }
        check_conversation(&self.steps, place, known.clone()).map(|_| ())
    }

    /// Refuses a command that needs what nobody can give.
    pub(super) fn check_command(
        &self,
        place: &'static str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<(), RecipeError> {
        let known = |argument: &str| placeholder(argument).is_some_and(|name| parameters.contains_key(name));
        match self.command.iter().find(|argument| argument.contains("${") && !known(argument)) {
            Some(found) => Err(RecipeError::UnknownParameter { place, found: found.clone() }),
            None => Ok(()),
        }
    }

    /// The parameters that the command or the statements need.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        let of_command = self.command.iter().filter_map(|argument| placeholder(argument));
        of_command.chain(self.rows.iter().map(|rows| rows.database.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(session_end: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\nparameters = {{ python = 'where it is' }}\n[relying_party]\n\
             callback_paths = ['/cb']\nclient_auth_method = 'client_secret_post'\nid_token_alg = 'ES256'\npkce = false\n\
             [relying_party.session_end]\n{session_end}"
        ))
    }

    #[test]
    fn there_is_one_way_to_end_sessions() {
        parse("command = ['logout']").unwrap();
        parse("steps = [{ method = 'POST', path = '/end', json = { of = '${subject}' } }]\nsessions = '/n'").unwrap();
        parse("rows = { database = '${python}', execute = ['DELETE FROM s WHERE u = ?'] }").unwrap();
        assert!(parse("rows = { database = '${nonsense}', execute = ['DELETE FROM s WHERE u = ?'] }").is_err());
        for bad in [
            "",
            "command = ['logout']\nsteps = [{ method = 'GET', path = '/' }]",
            "command = ['logout']\nsessions = '/n'",
            "command = ['logout']\nrows = { database = '${python}', execute = ['DELETE FROM s WHERE u = ?'] }",
        ] {
            assert!(matches!(parse(bad), Err(RecipeError::Incomplete(_))), "{bad}");
        }
    }

    #[test]
    fn whom_to_end_is_never_an_argument() {
        let recipe = parse("command = ['${python}', '-c', 'x']").unwrap().relying_party.unwrap();
        assert_eq!(recipe.session_end.unwrap().parameters().collect::<Vec<_>>(), ["python"]);
        for bad in ["${subject}", "${username}", "--python=${python}", "${nonsense}"] {
            let refused = parse(&format!("command = ['logout', '{bad}']"));
            assert!(matches!(refused, Err(RecipeError::UnknownParameter { .. })), "{bad}");
        }
    }

    #[test]
    fn a_relying_party_does_not_know_the_homes_user() {
        let refused = parse("steps = [{ method = 'POST', path = '/end', json = '${home_user_id}' }]");
        assert!(matches!(refused, Err(RecipeError::Placeholder { .. })));
    }
}
