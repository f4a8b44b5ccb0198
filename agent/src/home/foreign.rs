//! Users of other homes who have an account at the application too: to vouch for one here would launder an identity. A
//! session that Homeward made shows it ([`session`](super::session)); what the application's own provider says does not, so
//! its database is asked (`[home.foreign]`) before anybody is vouched for.

use homeward_proto::v1::{LoginFailure, OpenTicketResponse};

use super::decision::Note;
use super::reply::Reply;
use super::{Portal, PortalError, Visit};
use crate::application::Application;
use crate::config::home::HomeMethod;
use crate::database::{Database, DatabaseError};
use crate::recipe::home::{Foreign, Home};

impl Portal {
    /// What becomes of a login of somebody whom this home does not vouch for; `None` of one of its own.
    pub(super) async fn refuse_foreign(
        &self,
        visit: &Visit,
        ticket: &OpenTicketResponse,
        home_user_id: &str,
    ) -> Result<Option<Reply>, PortalError> {
        let Some(note) = refusal(&self.application, &self.recipe, &self.methods, home_user_id).await else {
            return Ok(None);
        };
        tracing::info!(
            transaction = ticket.transaction,
            relying_party = ticket.relying_party,
            ?note,
            "a user is not vouched for"
        );
        let failure = match note {
            Note::ApplicationDown => LoginFailure::Unavailable,
            _ => LoginFailure::LoginRequired,
        };
        let reply = if ticket.silent { self.fail(visit, failure).await? } else { self.explain(visit, ticket, note) };
        Ok(Some(reply))
    }
}

/// Why this home does not vouch for a user of the application; where nobody can say whose the account is, it does not.
async fn refusal(application: &Application, recipe: &Home, methods: &[HomeMethod], home_user_id: &str) -> Option<Note> {
    // A directory and a file know none but their own.
    let of_application = !methods.iter().any(|method| matches!(method, HomeMethod::Ldap | HomeMethod::File));
    let foreign = recipe.foreign.as_ref().filter(|_| of_application)?;
    // Where the recipe looks at sessions, those were asked already, and the database is one more thing that may be given.
    let looked = methods.iter().all(|method| matches!(method, HomeMethod::Session | HomeMethod::Password));
    if looked && !recipe.refuse_when.is_empty() && !application.parameters().is_given(foreign.rows.database.name()) {
        return None;
    }
    match is_foreign(application, foreign, home_user_id).await {
        Ok(is_foreign) => is_foreign.then_some(Note::Foreign),
        Err(error) => {
            tracing::error!(%error, "nobody says whether a user is of another home, so nobody is vouched for");
            Some(Note::ApplicationDown)
        }
    }
}

async fn is_foreign(application: &Application, foreign: &Foreign, home_user_id: &str) -> Result<bool, DatabaseError> {
    let mut database = Database::of(application.parameters(), foreign.rows.database.name()).await?;
    let rows = database.rows(&foreign.rows.query, &[home_user_id]).await?;
    Ok(!rows.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::recipe::Recipe;

    #[tokio::test]
    async fn who_came_from_another_home_is_not_vouched_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.sqlite3");
        std::fs::File::create_new(&path).unwrap();
        let url = format!("sqlite://{}", path.display());
        let statements = [
            "CREATE TABLE socialaccount_socialaccount (id INTEGER PRIMARY KEY, provider TEXT, user_id INTEGER)",
            "INSERT INTO socialaccount_socialaccount VALUES (1, 'homeward', 7), (2, 'github', 8)",
        ];
        Database::open(&url).await.unwrap().execute_all(&statements.map(str::to_owned), &[]).await.unwrap();
        let home = Recipe::embedded("inventree").unwrap().home.unwrap();
        let public_url = "https://alpha.example".parse::<url::Url>().unwrap().try_into().unwrap();
        let bare = Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap();
        let file = folder.path().join("url");
        crate::disk::replace_private(&file, url.as_bytes()).unwrap();
        let with = |given: &[(&str, &str)]| {
            let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let declared = [("database_url_file".to_owned(), String::new())].into();
            bare.clone().with_parameters(Parameters::new(&declared, &given))
        };
        let known = with(&[("database_url_file", file.to_str().unwrap())]);
        let asked = async |application, method, id| refusal(application, &home, &[method], id).await;
        for method in [HomeMethod::Oidc, HomeMethod::Session, HomeMethod::Password] {
            assert_eq!(asked(&known, method, "7").await, Some(Note::Foreign), "{method}");
            assert_eq!(asked(&known, method, "8").await, None, "{method}");
        }
        assert_eq!(asked(&known, HomeMethod::File, "7").await, None, "another seven");
        let unknown = with(&[]);
        assert_eq!(asked(&unknown, HomeMethod::Oidc, "8").await, Some(Note::ApplicationDown));
        assert_eq!(asked(&unknown, HomeMethod::Session, "8").await, None, "sessions show it themselves");
    }
}
