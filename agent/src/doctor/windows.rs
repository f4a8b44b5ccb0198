//! Whether people can log in here from a window that another application has opened for that.
//!
//! Some applications (AList) open one for the login and wait until it tells them how it went. A page with a
//! Cross-Origin-Opener-Policy cuts its window off from whoever waits, for good: the login succeeds and nobody hears of it.
//! The portal's pages have none. The application's own login page, to which the portal sends whoever has no session, may.

use super::finding::Finding;
use crate::application::{Application, Question};
use crate::config::Config;
use crate::config::home::HomeMethod;

const ABOUT: &str = "login window";

/// Asks for the login page, if the portal sends people there.
pub(super) async fn check(config: &Config, application: &Application) -> Vec<Finding> {
    let methods = config.home.as_ref().map_or(&[][..], |home| &home.methods);
    // The first decides: with any other, the portal asks on a page of its own.
    let by_session = methods.first() == Some(&HomeMethod::Session);
    let login = config.recipe.home.as_ref().filter(|_| by_session).and_then(|home| home.login.as_ref());
    let Some(login) = login else { return Vec::new() };
    match application.ask(Question::get(&login.path)).await {
        Ok(answer) => vec![judge(answer.cuts_off)],
        // That it does not answer is said elsewhere.
        Err(_) => Vec::new(),
    }
}

fn judge(cuts_off: bool) -> Finding {
    if !cuts_off {
        return Finding::ok(ABOUT, "The login page works in a window that another application has opened.");
    }
    Finding::warning(
        ABOUT,
        "The login page has a Cross-Origin-Opener-Policy: who logs in here from an application that opens a window for that (AList) is stuck in it.",
        "let those applications use redirects (AList: sso_compatibility_mode, which its recipe switches on), or let the policy be unsafe-none (Django: SECURE_CROSS_ORIGIN_OPENER_POLICY = None)",
    )
}
