//! The application as the one who knows its users: what the recipe's `[home.password]`, `[home.accounts]` and
//! `[home.directory]` say is asked of it, or of its database.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use homeward_proto::v1::VerifiedIdentity;
use serde_json::Value;

use super::password::SignIn;
use super::{Account, DirectoryError, Verdict};
use crate::application::{Application, ApplicationError};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::home::{PortalError, TypedCredentials, vouching};
use crate::recipe::directory::{Accounts, DirectoryLookup, IdentityField};
use crate::recipe::home::Home;
use crate::recipe::sql::Query;
use crate::recipe::step::Step;

/// The users of the application.
#[derive(Debug)]
pub(crate) struct ApplicationUsers {
    application: Application,
    recipe: Arc<Home>,
}

impl ApplicationUsers {
    /// As the recipe says.
    pub(super) fn new(config: &Config, application: Application) -> Self {
        Self { application, recipe: Arc::new(config.recipe.home.clone().unwrap_or_default()) }
    }

    /// Whose name and password are.
    pub(super) async fn judge(&self, typed: TypedCredentials, source: IpAddr) -> Result<Verdict, PortalError> {
        SignIn::begin((&self.application, self.recipe.clone()), typed, source).await
    }

    /// Whether the recipe says how accounts are asked about.
    pub(super) fn knows_accounts(&self) -> bool {
        self.recipe.accounts.is_some()
    }

    /// What became of a user.
    pub(super) async fn account(&self, home_user_id: &str) -> Account {
        let Some(accounts) = &self.recipe.accounts else { return Account::Unknown };
        match self.ask_account(accounts, home_user_id).await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(%error, "the application cannot say who may still log in");
                Account::Unknown
            }
        }
    }

    /// What would be said of a user.
    pub(super) async fn look_up(&self, username: &str) -> Result<Option<VerifiedIdentity>, DirectoryError> {
        let Some(lookup) = &self.recipe.directory else { return Err(DirectoryError::Unsupported) };
        let unavailable = |error: &dyn std::error::Error| DirectoryError::Unavailable(error.to_string());
        let said = self.ask_directory(lookup, username).await.map_err(|error| unavailable(&error))?;
        let Some(said) = said else { return Ok(None) };
        vouching::checked(said).map(Some).map_err(|error| unavailable(&error))
    }

    async fn ask_account(&self, accounts: &Accounts, home_user_id: &str) -> Result<Account, ApplicationError> {
        if let Some(query) = &accounts.rows {
            let rows = self.rows(query, home_user_id).await?;
            return Ok(match rows.first() {
                Some(row) if is_active(row.values().next()) => Account::Active,
                Some(_) => Account::Disabled,
                None => Account::Removed,
            });
        }
        let Some(step) = &accounts.step else { return Ok(Account::Unknown) };
        let (status, body) = self.step(step, ("home_user_id", home_user_id)).await?;
        let meanings = [
            (&accounts.removed, Account::Removed),
            (&accounts.disabled, Account::Disabled),
            (&accounts.active, Account::Active),
        ];
        let holds = meanings.into_iter().find(|(when, _)| when.as_ref().is_some_and(|when| when.holds(status, &body)));
        Ok(holds.map_or(Account::Unknown, |(_, account)| account))
    }

    async fn ask_directory(
        &self,
        lookup: &DirectoryLookup,
        username: &str,
    ) -> Result<Option<VerifiedIdentity>, ApplicationError> {
        if let Some(query) = &lookup.rows {
            let rows = self.rows(query, username).await?;
            let said = said(|field| rows.iter().filter_map(|row| row.get(field.as_str())).collect());
            return Ok((!rows.is_empty()).then_some(said));
        }
        let Some(step) = &lookup.step else { return Ok(None) };
        let (_, body) = self.step(step, ("username", username)).await?;
        let said = said(|field| lookup.identity.get(&field).map(|pointer| pointer.select(&body)).unwrap_or_default());
        Ok((!said.home_user_id.is_empty()).then_some(said))
    }

    async fn rows(&self, _query: &Query, _argument: &str) -> Result<Vec<BTreeMap<String, Value>>, ApplicationError> {
        Err(ApplicationError::NotMade)
    }

    async fn step(&self, step: &Step, value: (&str, &str)) -> Result<(u16, Value), ApplicationError> {
        let answer = Conversation::begin(&self.application, None).take(step, &[value]).await?;
        Ok((answer.status, answer.body))
    }
}

/// What databases have for true: their booleans, and the numbers of those that have none.
fn is_active(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(active)) => *active,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !matches!(text.trim().to_lowercase().as_str(), "" | "0" | "f" | "false"),
        Some(Value::Null) | None => false,
        Some(Value::Array(_) | Value::Object(_)) => true,
    }
}

/// An identity of the values that there are for each field.
fn said<'a>(values: impl Fn(IdentityField) -> Vec<&'a Value>) -> VerifiedIdentity {
    let texts = |field| values(field).into_iter().filter_map(vouching::as_text);
    let text = |field| texts(field).next().unwrap_or_default();
    let mut groups: Vec<String> = texts(IdentityField::Groups).collect();
    groups.dedup();
    VerifiedIdentity {
        home_user_id: text(IdentityField::HomeUserId),
        username: text(IdentityField::Username),
        name: text(IdentityField::Name),
        given_name: text(IdentityField::GivenName),
        family_name: text(IdentityField::FamilyName),
        email: text(IdentityField::Email),
        email_verified: values(IdentityField::EmailVerified).first().is_some_and(|value| is_active(Some(value))),
        groups,
        ..Default::default()
    }
}
