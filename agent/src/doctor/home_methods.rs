//! Whether the ways in which this home recognises its users can be used at all, without any user.

use super::finding::Finding;
use crate::application::Application;
use crate::config::Config;
use crate::config::home::HomeMethod;
use crate::home::directory::Directory;

const ABOUT: &str = "home method";

/// What can be said of each configured method.
pub(super) async fn check(config: &Config, application: &Application) -> Vec<Finding> {
    let Some(home) = &config.home else { return Vec::new() };
    let mut findings = Vec::new();
    for method in &home.methods {
        findings.extend(match method {
            // The application's own answers decide these, and it has been asked.
            HomeMethod::Session | HomeMethod::Password => None,
            // The provider is asked at the first login, and its answer is in the log then.
            HomeMethod::Oidc | HomeMethod::SimpleSso => None,
            HomeMethod::Ldap => {
                let remedy = "start the directory server, or correct [home.ldap]";
                Some(directory(config, application, ("the directory server can be asked", remedy)).await)
            }
            HomeMethod::File => {
                let remedy = match &home.users_file {
                    Some(path) if !path.exists() => "make it with its first user: homeward-agent user add NAME",
                    _ => "mend the file of users, or correct [home.file] users_file",
                };
                Some(directory(config, application, ("the file of users can be read", remedy)).await)
            }
        });
    }
    findings
}

async fn directory(config: &Config, application: &Application, (good, remedy): (&str, &str)) -> Finding {
    let problem = match Directory::new(config, application) {
        Ok(Some(directory)) => directory.check().await.err().map(|error| error.to_string()),
        Ok(None) => None,
        Err(error) => Some(error.to_string()),
    };
    match problem {
        None => Finding::ok(ABOUT, format!("Passwords can be judged: {good}.")),
        Some(problem) => {
            let remedy = format!("{remedy}; until then nobody can log in from here");
            Finding::error(ABOUT, format!("Nobody's password can be judged: {problem}."), remedy)
        }
    }
}
