//! The application, reached as the agent reaches it: whether it answers.

use super::configuration::sentence;
use super::finding::Finding;
use crate::application::{Application, ApplicationError, Question};
use crate::config::Config;
use crate::recipe::AppPath;

const ABOUT: &str = "application";

/// Whether it answers, and what is to be said of it.
pub(super) async fn check(config: &Config, application: &Application) -> (bool, Vec<Finding>) {
    // Directory servers and files of users have no application beside them.
    if config.relying_party.is_none() && config.home.as_ref().is_some_and(|home| !home.asks_the_application()) {
        return (false, Vec::new());
    }
    if let Err(error) = application.ask(Question::get(&path(config))).await {
        return (false, vec![down(application, &error)]);
    }
    (true, vec![Finding::ok(ABOUT, format!("{} answers at {}.", config.recipe.title, application.url()))])
}

/// Something that the application answers to anybody.
pub(super) fn path(config: &Config) -> AppPath {
    let home = config.recipe.home.as_ref().filter(|_| config.home.is_some());
    let who_am_i = home.and_then(|home| home.who_am_i.first()).and_then(|request| request.path.fill(&[]).ok());
    who_am_i.unwrap_or_else(AppPath::root)
}

fn down(application: &Application, error: &ApplicationError) -> Finding {
    let remedy = format!(
        "start the application, or correct [app] url: it must be where the application answers on this machine, now {}",
        application.url()
    );
    Finding::error(ABOUT, sentence(&error.to_string()), remedy)
}
