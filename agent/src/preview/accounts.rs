//! What the application would make of a user, by `[[relying_party.accounts]]` and `[relying_party.account_made]`: the
//! look-ups that it does at a login, in its own order, without a login.

use homeward_proto::v1::{AccountMatch, AccountPreview};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::application::{Application, AskError};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::database::Database;
use crate::recipe::account::{AccountClaim, AccountLookup, AccountMade};
use crate::recipe::pointer::Pointer;
use crate::recipe::sql::Query;
use crate::recipe::step::Step;

/// Longest sentence that the contract allows, in characters.
const LONGEST_SENTENCE: usize = 256;

/// How the application finds accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    application: Application,
    lookups: Vec<AccountLookup>,
    made: Option<AccountMade>,
}

/// Why it is not known.
#[derive(Debug, Error)]
pub(super) enum NoPreview {
    /// The broker's mistake.
    #[error("the broker sent no claims")]
    NoClaims,
    /// The application, or its database.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl Accounts {
    /// As the recipe says; nothing if it says nothing, or the instance is no relying party.
    pub(super) fn of(config: &Config, application: Application) -> Option<Self> {
        let configured = config.relying_party.is_some() || config.gate.is_some();
        let recipe = config.recipe.relying_party.as_ref().filter(|_| configured)?;
        let told = !recipe.accounts.is_empty() || recipe.account_made.is_some();
        let (lookups, made) = (recipe.accounts.clone(), recipe.account_made.clone());
        told.then_some(Self { application, lookups, made })
    }

    /// What a login with these claims would come to.
    pub(super) async fn preview(&self, claims: &[u8]) -> Result<AccountPreview, NoPreview> {
        let claims: Map<String, Value> = serde_json::from_slice(claims).map_err(|_| NoPreview::NoClaims)?;
        let mut preview = AccountPreview::default();
        for lookup in &self.lookups {
            let claim = claim_name(lookup.claim);
            let Some(value) = claims.get(claim).and_then(Value::as_str).filter(|value| !value.is_empty()) else {
                continue;
            };
            let account = self.find(lookup, value).await?;
            preview.matches.push(AccountMatch {
                claim: claim.to_owned(),
                value: value.to_owned(),
                account: account.clone().unwrap_or_default(),
            });
            if let Some(account) = account {
                // The application looks no further.
                preview.outcome = sentence(&lookup.found, &[("account", account.as_str()), ("value", value)], &claims);
                return Ok(preview);
            }
        }
        match &self.made {
            Some(made) => self::made(&mut preview, made, &claims),
            None => preview.outcome = "finds no account, and the recipe does not say what it does then".to_owned(),
        }
        Ok(preview)
    }

    async fn find(&self, lookup: &AccountLookup, value: &str) -> Result<Option<String>, AskError> {
        match (&lookup.rows, &lookup.step, &lookup.account) {
            (Some(query), _, _) => self.row(query, value).await,
            (None, Some(step), Some(account)) => self.answer((step, account), lookup, value).await,
            // No such recipe is loaded.
            (None, _, _) => Ok(None),
        }
    }

    async fn row(&self, query: &Query, value: &str) -> Result<Option<String>, AskError> {
        let mut database = Database::of(self.application.parameters(), query.database.name()).await?;
        let rows = database.rows(&query.query, &[value]).await?;
        Ok(rows.first().and_then(|row| row.values().find_map(text)))
    }

    async fn answer(
        &self,
        (step, account): (&Step, &Pointer),
        lookup: &AccountLookup,
        value: &str,
    ) -> Result<Option<String>, AskError> {
        let values = [("value", value)];
        let answer = Conversation::begin(&self.application, None).take(step, &values).await?;
        let found = account.filled(&values);
        let found = found.select(&answer.body).into_iter().find_map(text);
        Ok(found.filter(|_| lookup.when.holds(answer.status, &answer.body)))
    }
}

/// There is no account yet.
fn made(preview: &mut AccountPreview, made: &AccountMade, claims: &Map<String, Value>) {
    let missing: Vec<&str> =
        made.needs.iter().map(String::as_str).filter(|need| !is_there(claims.get(*need))).collect();
    if missing.is_empty() {
        preview.outcome = sentence(&made.outcome, &[], claims);
    } else {
        "refuses the login".clone_into(&mut preview.outcome);
        let needs = missing.join(" and ");
        let problem = format!("it needs {needs}, which it would not get: see what became of that on the way");
        preview.problems.push(problem);
    }
    if let Some(taken) = &made.taken {
        let taken = sentence(taken, &[], claims);
        preview
            .problems
            .push(format!("if the name is taken there, it {taken}").chars().take(LONGEST_SENTENCE).collect());
    }
}

fn is_there(claim: Option<&Value>) -> bool {
    match claim {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => true,
    }
}

/// A sentence of the recipe, with these values and then the claims in its braces. What a value says in braces stays text.
fn sentence(template: &str, values: &[(&str, &str)], claims: &Map<String, Value>) -> String {
    let (mut said, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        said.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            said.push('{');
            rest = after;
            continue;
        };
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        said.push_str(value.or_else(|| claims.get(name)?.as_str()).unwrap_or("(none)"));
        rest = behind;
    }
    said.push_str(rest);
    said.chars().take(LONGEST_SENTENCE).collect()
}

fn claim_name(claim: AccountClaim) -> &'static str {
    match claim {
        AccountClaim::Sub => "sub",
        AccountClaim::Email => "email",
        AccountClaim::PreferredUsername => "preferred_username",
        AccountClaim::HomewardName => "homeward_name",
    }
}

/// A name or a number, as the application calls the account.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
