//! The configuration file, and whether it gives the recipe all that the recipe asks for.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::finding::Finding;
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::home::HomeMethod;
use crate::parameters::ParameterError;
use crate::recipe::way::Target;

const ABOUT: &str = "configuration";

/// What is wrong with a file that does not load.
pub(super) fn refused(path: &Path, error: &ConfigError) -> Finding {
    let file = path.display();
    let said = match error {
        // What it says of a value quotes it, and others read this than whoever may read the file.
        ConfigError::Malformed { source, .. } => format!("{file} does not parse{}", place(source)),
        error => error.to_string(),
    };
    let remedy = "homeward-agent config check shows where; deploy/agent.toml explains every setting";
    Finding::error(ABOUT, sentence(&said), remedy)
}

/// Where a file does not parse: the message's first line, if it is a drawing of several.
fn place(error: &toml::de::Error) -> String {
    let drawn = error.to_string();
    let place = drawn.lines().next().and_then(|line| line.strip_prefix("TOML parse error "));
    place.map(|place| format!(" {place}")).unwrap_or_default()
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

/// What the configured roles need to know of the installation. What only another way of writing credentials would need is
/// not missing.
fn missing_parameters(config: &Config) -> Vec<Finding> {
    let refused = |name: &str| config.parameters.value(name).err();
    needed(config)
        .into_iter()
        .filter_map(refused)
        .map(|error| {
            let remedy = match &error {
                ParameterError::Missing(name) => {
                    let what = config.recipe.parameters.get(name).map(String::as_str).unwrap_or_default();
                    format!("below [app.parameters]: {name} = \"…\"  # {what}")
                }
                _ => "mend the file, and run the doctor as the agent's own user".to_owned(),
            };
            Finding::warning("parameters", sentence(&error.to_string()), remedy)
        })
        .collect()
}

fn needed(config: &Config) -> BTreeSet<&str> {
    let party = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref());
    let home = config.home.as_ref().and(config.recipe.home.as_ref());
    let name = config.relying_party.as_ref().and_then(|role| role.way.as_deref());
    let of_way = party.and_then(|role| role.way(name)).into_iter().flat_map(|way| match &way.target {
        Target::Files(_) => Vec::new(),
        Target::Merge(files) => files.iter().map(|file| file.file.name()).collect(),
        Target::Rows(rows) => rows.iter().map(|row| row.database.name()).collect(),
        Target::Items(items) => items.read.placeholders().chain(items.write.placeholders()).collect(),
    });
    let session_ends = party.and_then(|role| role.session_end.as_ref()).into_iter();
    let session_ends = session_ends.chain(home.and_then(|role| role.session_end.as_ref()));
    // The provider's answers do not say it, so without the database nobody is vouched for.
    let oidc = config.home.as_ref().is_some_and(|home| home.methods.contains(&HomeMethod::Oidc));
    let foreign = home.and_then(|role| role.foreign.as_ref()).filter(|_| oidc);
    let of_way = of_way.chain(foreign.map(|foreign| foreign.rows.database.name()));
    of_way.chain(session_ends.flat_map(|session_end| session_end.parameters())).collect()
}

/// Errors begin in lower case and end without a full stop. The names of files and settings, and addresses, stay as they are.
pub(crate) fn sentence(error: &str) -> String {
    if error.split_whitespace().next().is_some_and(|word| word.contains(['/', '.', '_'])) {
        return format!("{}.", error.trim_end_matches('.'));
    }
    let mut letters = error.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let rest = letters.as_str().trim_end_matches('.');
    format!("{first}{rest}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_parse_is_not_quoted() {
        for text in
            ["[app.parameters]\nadmin_token = 12345678\n", "[relying_party]\nreload = \"deploy --password=12345678\"\n"]
        {
            let file = tempfile::NamedTempFile::new().unwrap();
            let text = format!("public_url = 'https://beta.example'\n{text}");
            std::io::Write::write_all(&mut file.as_file(), text.as_bytes()).unwrap();
            let finding = refused(file.path(), &Config::load(file.path()).unwrap_err());
            assert!(finding.sentence.contains("does not parse at line 3"), "{finding:?}");
            assert!(!format!("{finding:?}").contains("12345678"), "{finding:?}");
        }
    }

    #[test]
    fn an_error_becomes_a_sentence_and_names_stay_as_they_are() {
        assert_eq!(sentence("the agent waits"), "The agent waits.");
        for name in ["agent.toml", "public_url", "https://beta.example", "/etc/x"] {
            assert_eq!(sentence(&format!("{name} is wrong")), format!("{name} is wrong."));
        }
    }
}
