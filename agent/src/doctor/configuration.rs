//! The configuration file, and whether it gives the recipe all that the recipe asks for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::finding::Finding;
use crate::config::Config;
use crate::config::error::ConfigError;

const ABOUT: &str = "configuration";

/// What is wrong with a file that does not load.
pub(super) fn refused(path: &Path, error: &ConfigError) -> Finding {
    let file = path.display();
    Finding::error(
        ABOUT,
        sentence(&error.to_string()),
        format!("mend {file}; deploy/agent.toml explains every setting"),
    )
}

/// What it comes to, and what it leaves open.
pub(super) fn check(path: &Path, config: &Config) -> Vec<Finding> {
    let roles: Vec<&str> =
        [config.relying_party.as_ref().map(|_| "relying party"), config.home.as_ref().map(|_| "home")]
            .into_iter()
            .flatten()
            .collect();
    let sentence = format!("{} by the recipe {}, as {}.", config.recipe.title, config.recipe.name, roles.join(" and "));
    let mut findings = vec![Finding::ok(ABOUT, sentence)];
    findings.extend(open_to_others(path));
    findings.extend(missing_parameters(config));
    findings
}

/// Nothing in the file is secret, but whoever can change it can have any program run as the agent.
fn open_to_others(path: &Path) -> Option<Finding> {
    let mode = path.metadata().ok()?.permissions().mode();
    (mode & 0o022 != 0).then(|| {
        let file = path.display();
        let sentence =
            format!("{file} can be changed by others than its owner, and it names commands that the agent runs.");
        Finding::error("configuration file", sentence, format!("run: chmod go-w {file}"))
    })
}

fn missing_parameters(config: &Config) -> Option<Finding> {
    let given = |name: &str| config.parameters.contains_key(name);
    let missing: Vec<&str> = config.recipe.parameters.keys().map(String::as_str).filter(|name| !given(name)).collect();
    let first = missing.first()?;
    let what = config.recipe.parameters.get(*first).map(String::as_str).unwrap_or_default();
    let sentence = format!("The recipe asks for {}, and what needs them is left out.", missing.join(", "));
    let remedy = format!("set them below [app.parameters]; {first}: {what}");
    Some(Finding::warning("parameters", sentence, remedy))
}

/// Errors begin in lower case and end without a full stop.
pub(super) fn sentence(error: &str) -> String {
    let mut letters = error.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let rest = letters.as_str().trim_end_matches('.');
    format!("{first}{rest}.")
}
