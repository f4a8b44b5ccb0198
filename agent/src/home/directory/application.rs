//! The application as the one who knows its users: what the recipe's `[home.password]`, `[home.accounts]` and
//! `[home.directory]` say is asked of it, or of its database.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use homeward_proto::v1::VerifiedIdentity;
use serde_json::Value;

use super::password::SignIn;
use super::{Account, DirectoryError, Verdict};
use crate::application::{Application, ApplicationError, AskError};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::database::{Database, DatabaseError};
use crate::home::{PortalError, TypedCredentials, vouching};
use crate::recipe::directory::{Accounts, DirectoryLookup, IdentityField};
use crate::recipe::home::Home;
use crate::recipe::sql::Query;
use crate::recipe::step::Step;

/// Whether only this user could not be asked about, as one whose identifier is not what the column holds. After all else
/// the next one would fail as well, each after its time.
fn about_one(error: AskError) -> Result<Account, AskError> {
    match error {
        AskError::Database(DatabaseError::Refused(sqlx::Error::Database(_)) | DatabaseError::Unreadable { .. })
        | AskError::Application(ApplicationError::Unfit(_) | ApplicationError::TooLong) => {
            tracing::warn!(%error, "nobody says whether a user may still log in");
            Ok(Account::Unknown)
        }
        error => Err(error),
    }
}

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

    /// What became of users, by one connection to the database if that is asked.
    pub(super) async fn accounts(&self, home_user_ids: &[&str]) -> Result<Vec<Account>, DirectoryError> {
        let Some(accounts) = &self.recipe.accounts else { return Err(DirectoryError::Unsupported) };
        let asked = async {
            let mut database = match &accounts.rows {
                Some(query) => Some((self.database(query).await?, query)),
                None => None,
            };
            let mut answers = Vec::with_capacity(home_user_ids.len());
            for home_user_id in home_user_ids {
                let answer = match &mut database {
                    Some((database, query)) => standing(database, query, home_user_id).await,
                    None => self.ask_account(accounts, home_user_id).await,
                };
                answers.push(answer.or_else(about_one)?);
            }
            Ok(answers)
        };
        asked.await.map_err(|error: AskError| DirectoryError::Unavailable(error.to_string()))
    }

    /// What would be said of a user.
    pub(super) async fn look_up(&self, username: &str) -> Result<Option<VerifiedIdentity>, DirectoryError> {
        let Some(lookup) = &self.recipe.directory else { return Err(DirectoryError::Unsupported) };
        let unavailable = |error: &dyn std::error::Error| DirectoryError::Unavailable(error.to_string());
        let said = self.ask_directory(lookup, username).await.map_err(|error| unavailable(&error))?;
        let Some(said) = said else { return Ok(None) };
        vouching::checked(said).map(Some).map_err(|error| unavailable(&error))
    }

    async fn ask_account(&self, accounts: &Accounts, home_user_id: &str) -> Result<Account, AskError> {
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
    ) -> Result<Option<VerifiedIdentity>, AskError> {
        if let Some(query) = &lookup.rows {
            let rows = self.rows(query, username).await?;
            let said = said(|field| rows.iter().filter_map(|row| row.get(field.as_str())).collect());
            return Ok((!rows.is_empty()).then_some(said));
        }
        let Some(step) = &lookup.step else { return Ok(None) };
        let (_, body) = self.step(step, ("username", username)).await?;
        let said = said(|field| {
            lookup
                .identity
                .get(&field)
                .map(|pointer| pointer.filled(&[("username", username)]).select(&body))
                .unwrap_or_default()
        });
        Ok((!said.home_user_id.is_empty()).then_some(said))
    }

    async fn rows(&self, query: &Query, argument: &str) -> Result<Vec<BTreeMap<String, Value>>, AskError> {
        Ok(self.database(query).await?.rows(&query.query, &[argument]).await?)
    }

    async fn database(&self, query: &Query) -> Result<Database, AskError> {
        Ok(Database::of(self.application.parameters(), query.database.name()).await?)
    }

    async fn step(&self, step: &Step, value: (&str, &str)) -> Result<(u16, Value), AskError> {
        let answer = Conversation::begin(&self.application, None).take(step, &[value]).await?;
        Ok((answer.status, answer.body))
    }
}

async fn standing(database: &mut Database, query: &Query, home_user_id: &str) -> Result<Account, AskError> {
    let rows = database.rows(&query.query, &[home_user_id]).await?;
    Ok(match rows.first() {
        Some(row) if row.values().all(is_true) => Account::Active,
        Some(_) => Account::Disabled,
        None => Account::Removed,
    })
}

/// What databases have for true: their booleans, and the numbers of those that have none.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim().to_lowercase().as_str(), "" | "0" | "f" | "false"),
        Value::Null => false,
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// An identity of the values that there are for each field.
fn said<'a>(values: impl Fn(IdentityField) -> Vec<&'a Value>) -> VerifiedIdentity {
    let texts = |field| values(field).into_iter().filter_map(vouching::as_text);
    let text = |field| texts(field).next().unwrap_or_default();
    let mut groups: Vec<String> = texts(IdentityField::Groups).collect();
    groups.sort();
    groups.dedup();
    VerifiedIdentity {
        home_user_id: text(IdentityField::HomeUserId),
        username: text(IdentityField::Username),
        name: text(IdentityField::Name),
        given_name: text(IdentityField::GivenName),
        family_name: text(IdentityField::FamilyName),
        email: text(IdentityField::Email),
        email_verified: values(IdentityField::EmailVerified).first().is_some_and(|value| is_true(value)),
        groups,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parameters::Parameters;
    use crate::recipe::Recipe;

    const RECIPE: &str = r"
        name = 'rows'
        title = 'Rows'
        description = ''
        parameters = { db = 'where it is' }
        [home.accounts]
        rows = { database = '${db}', query = 'SELECT is_active FROM auth_user WHERE id = ?' }
        [home.directory.rows]
        database = '${db}'
        query = '''
            SELECT u.id AS home_user_id, u.username, u.email, u.is_active AS email_verified, g.name AS groups
            FROM auth_user u LEFT JOIN auth_group g ON g.user_id = u.id WHERE u.username = ? ORDER BY g.name
        '''
    ";

    #[tokio::test]
    async fn a_database_says_who_may_log_in_and_as_whom() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.sqlite3");
        std::fs::File::create_new(&path).unwrap();
        let url = format!("sqlite://{}", path.display());
        let statements = [
            "CREATE TABLE auth_user (id INTEGER PRIMARY KEY, username TEXT, email TEXT, is_active BOOLEAN)",
            "CREATE TABLE auth_group (user_id INTEGER, name TEXT)",
            "INSERT INTO auth_user VALUES (1, 'alice', 'alice@alpha.example', TRUE), (2, 'bob', '', FALSE), (3, 'eve', '', NULL)",
            "INSERT INTO auth_group VALUES (1, 'Storage'), (1, 'Engineering')",
        ];
        Database::open(&url).await.unwrap().execute_all(&statements.map(str::to_owned), &[]).await.unwrap();
        let recipe = Recipe::parse(RECIPE).unwrap();
        let public_url = "https://alpha.example".parse::<url::Url>().unwrap().try_into().unwrap();
        let application = Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap();
        let parameters = Parameters::new(&recipe.parameters, &[("db".to_owned(), url)].into());
        let application = application.with_parameters(parameters);
        let users = ApplicationUsers { application, recipe: Arc::new(recipe.home.unwrap()) };
        let accounts = users.accounts(&["1", "2", "3", "4"]).await.unwrap();
        assert_eq!(accounts, [Account::Active, Account::Disabled, Account::Disabled, Account::Removed]);
        let alice = users.look_up("alice").await.unwrap().unwrap();
        assert_eq!((alice.home_user_id.as_str(), alice.email.as_str()), ("1", "alice@alpha.example"));
        assert_eq!(
            (alice.email_verified, &alice.groups[..]),
            (true, &["Engineering", "Storage"].map(str::to_owned)[..])
        );
        assert_eq!(users.look_up("bob").await.unwrap().unwrap().groups.len(), 0);
        assert_eq!(users.look_up("nobody").await.unwrap(), None);
        drop(folder);
        assert!(users.accounts(&["1"]).await.is_err(), "a database that is not there says nothing");
    }

    #[test]
    fn what_databases_have_for_true() {
        for yes in [json!(true), json!(1), json!("t"), json!("1")] {
            assert!(is_true(&yes), "{yes}");
        }
        for no in [json!(false), json!(0), json!("f"), json!("0"), json!(""), json!(null)] {
            assert!(!is_true(&no), "{no}");
        }
    }
}
