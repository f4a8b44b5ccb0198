//! `homeward-agent recipe test`: what the recipe makes of the application that is there, step by step.
//!
//! Each part of the recipe is tried as the agent would do it, and each [`Act`](act::Act) says what was asked, what the
//! status was, and what that means to the recipe. Nothing is written: a login is begun and not finished, and a password is
//! tried only if somebody types one, in a session of its own that is ended again.

pub(crate) mod act;

mod home;
mod relying_party;

use secrecy::SecretString;

use self::act::Act;
use self::relying_party::Client;
use crate::application::{Application, ApplicationError};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::disk::PrivateDir;
use crate::doctor::finding::Verdict;
use crate::doctor::version;
use crate::identity::Identity;
use crate::resources::applied::Applied;

/// What somebody typed, to see a sign-in.
#[derive(Debug)]
pub(crate) struct Typed {
    /// Login name.
    pub(crate) username: String,
    /// Password.
    pub(crate) password: SecretString,
    /// Asks for the code of a second factor, if the application does.
    pub(crate) ask_code: fn() -> Option<SecretString>,
}

/// Tries everything that the configured roles use of the recipe.
pub(crate) async fn rehearse(config: &Config, typed: Option<&Typed>) -> Result<Vec<Act>, ApplicationError> {
    let application = Application::new(config.app_url.clone(), &config.public_url)?;
    let application = application.with_parameters(config.parameters.clone());
    let mut acts = Vec::new();
    if let Some(found) = version::check(config, &application).await {
        acts.push(Act::note("version", found.verdict, found.sentence));
    }
    acts.extend(relying_party::rehearse(config, &application, &client(config)).await);
    acts.extend(home::rehearse(config, &application, typed).await);
    for check in &config.recipe.checks {
        acts.push(match Conversation::begin(&application, None).take(&check.request, &[]).await {
            Ok(answer) => {
                let bad = check.finds_problem(answer.status, &answer.body);
                let (verdict, meaning) = if bad {
                    (Verdict::Warning, check.problem.as_str())
                } else {
                    (Verdict::Ok, "as the recipe wants it")
                };
                Act::answered(&check.about, &check.request, answer.status, verdict, meaning)
            }
            Err(error) => Act::failed(&check.about, &check.request, &error),
        });
    }
    Ok(acts)
}

/// The client that is in effect; before the first one, nothing is known of it.
fn client(config: &Config) -> Client {
    if !config.data_dir.exists() {
        return Client::default();
    }
    let Ok(data) = PrivateDir::open(&config.data_dir) else { return Client::default() };
    let issuer = Identity::load(data.clone()).ok().flatten().map(|identity| identity.issuer());
    Client { client_id: Applied::load(&data).ok().and_then(|applied| applied.client_id), issuer }
}
