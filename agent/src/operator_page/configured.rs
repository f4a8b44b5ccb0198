//! What the operator has configured, as far as anybody on this machine may read it: names, addresses and paths, never what
//! is in a file, and of values that only the operator can judge (parameters, the words of a command) no more than that they
//! are set.

use std::path::Path;

use serde_json::Value;

use super::fact::{Fact, Section};
use crate::apply::files::CURRENT;
use crate::config::home::{HomeConfig, LdapSearch};
use crate::config::{Config, RelyingPartyConfig};
use crate::recipe::content::Content;
use crate::recipe::relying_party::Gate;
use crate::recipe::sql::Row;
use crate::recipe::way::{CredentialFile, Items, MergedFile, Target};

/// Where something of the client's is written, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// To the letter.
    pub(super) target: String,
    /// In words.
    pub(super) what: String,
}

/// As the file says it, with what it leaves to the recipe and to defaults.
pub(super) fn section(file: &Path, config: &Config) -> Section {
    let mut facts = vec![
        Fact::code("Configuration file", file.display().to_string()),
        Fact::code("public_url", config.public_url.origin()),
        Fact::code("[app] url", config.app_url.as_str()),
        Fact::text("Recipe", format!("{} ({})", config.recipe.name, config.recipe.title)),
        Fact::text("Roles", roles(config).join(" and ")),
    ];
    if let Some(role) = &config.relying_party {
        facts.extend(of_relying_party(config, role));
    }
    if let Some(home) = &config.home {
        facts.extend(of_home(home));
    }
    facts.push(Fact::code("Portal", format!("{} at {}", config.portal.path, config.portal.listen)));
    facts.push(Fact::code("data_dir", config.data_dir.display().to_string()));
    let parameters = config.recipe.parameters.keys().filter(|name| config.parameters.plain(name).is_some());
    facts.push(Fact::codes("[app.parameters]", parameters.cloned(), "none is set"));
    facts.push(Fact::codes("Files it names", files(config), "none"));
    Section { id: "configured", title: "Configured", facts, command: "homeward-agent config check" }
}

fn roles(config: &Config) -> Vec<&'static str> {
    let party = config.relying_party.as_ref().map(|_| match config.gate.as_ref().map(|gate| gate.speaks) {
        None => "relying party",
        Some(Gate::AuthRequest) => "relying party, by the gate for nginx",
        Some(Gate::SimpleSso) => "relying party, by the gate for django-simple-sso",
    });
    party.into_iter().chain(config.home.as_ref().map(|_| "home")).collect()
}

fn of_relying_party(config: &Config, role: &RelyingPartyConfig) -> Vec<Fact> {
    let recipe = config.recipe.relying_party.as_ref();
    let way = recipe.and_then(|recipe| recipe.way(role.way.as_deref()));
    let mut facts = Vec::new();
    if let Some(way) = way {
        facts.push(Fact::text("Way of writing", format!("{}: {}", way.name, way.description)));
    }
    if let Some(folder) = &role.credentials_dir {
        facts.push(Fact::code("credentials_dir", folder.display().to_string()));
    }
    // What stands behind the program may be a password.
    let reload = role.reload.first().map(|program| (program, role.reload.len() - 1));
    facts.push(match reload {
        None => Fact::text("reload", "nothing is run"),
        Some((program, 0)) => Fact::code("reload", program),
        Some((program, words)) => Fact::code("reload", format!("{program} (and {words} more)")),
    });
    facts
}

fn of_home(home: &HomeConfig) -> Vec<Fact> {
    let every = home.watch_every.map_or_else(|| "never".to_owned(), |every| format!("{} seconds", every.as_secs()));
    let mut facts = vec![
        Fact::codes("Home methods", home.methods.iter().map(ToString::to_string), ""),
        Fact::text("watch_every", every),
    ];
    if let Some(ldap) = &home.ldap {
        facts.push(Fact::code("Directory server", ldap.url.as_str()));
    }
    facts
}

/// What is in them is looked at by nobody here.
fn files(config: &Config) -> Vec<String> {
    let parameters = config.recipe.parameters.keys().filter(|name| name.ends_with("_file"));
    let mut files: Vec<String> =
        parameters.filter_map(|name| config.parameters.plain(name)).map(str::to_owned).collect();
    let mut name = |path: &Path| files.push(path.display().to_string());
    if let Some(gate) = &config.gate {
        gate.ca_file.iter().for_each(|path| name(path));
        gate.clients.iter().for_each(|client| name(&client.private_key_file));
    }
    if let Some(home) = &config.home {
        home.users_file.iter().for_each(|path| name(path));
        home.oidc.client_secret_file.iter().chain(&home.oidc.ca_file).for_each(|path| name(path));
        home.simple_sso.iter().for_each(|client| name(&client.private_key_file));
        let password = |search: &LdapSearch| search.bind_password_file.clone();
        let ldap = home.ldap.iter();
        ldap.clone().filter_map(|ldap| ldap.ca_file.clone()).for_each(|path| name(&path));
        ldap.filter_map(|ldap| ldap.search.as_ref().and_then(password)).for_each(|path| name(&path));
    }
    files
}

/// Where the client's credentials go.
pub(super) fn places(config: &Config) -> Vec<Place> {
    let (Some(role), Some(recipe)) = (&config.relying_party, &config.recipe.relying_party) else { return Vec::new() };
    if recipe.gate.is_some() {
        let what = "the client's credentials: the agent itself is the relying party".to_owned();
        return vec![Place { target: "data_dir".to_owned(), what }];
    }
    match recipe.way(role.way.as_deref()).map(|way| &way.target) {
        None => Vec::new(),
        Some(Target::Files(files)) => files.iter().map(|file| of_file(file, role)).collect(),
        Some(Target::Merge(files)) => files.iter().map(|file| of_merge(file, config)).collect(),
        Some(Target::Rows(rows)) => rows.iter().map(|row| of_row(row, config)).collect(),
        Some(Target::Items(items)) => vec![of_items(items)],
    }
}

fn of_file(file: &CredentialFile, role: &RelyingPartyConfig) -> Place {
    let folder = role.credentials_dir.as_deref().unwrap_or(Path::new(""));
    let owner = match (role.owner.user, role.owner.group) {
        (None, None) => String::new(),
        (user, group) => {
            let number = |id: Option<u32>| id.map_or_else(|| "the agent's".to_owned(), |id| id.to_string());
            format!("; user {}, group {}", number(user.map(|it| it.as_raw())), number(group.map(|it| it.as_raw())))
        }
    };
    let target = folder.join(CURRENT).join(&file.name).display().to_string();
    Place { target, what: format!("a file of the agent's own with {}{owner}", listed(&names(&file.content))) }
}

fn of_merge(file: &MergedFile, config: &Config) -> Place {
    let parameter = file.file.name();
    let target = config.parameters.plain(parameter).map_or_else(|| format!("{parameter} is not set"), str::to_owned);
    Place { target, what: format!("in a file of the application's: {}", listed(&names(&file.content))) }
}

fn of_row(row: &Row, config: &Config) -> Place {
    let columns = |set: &mut dyn Iterator<Item = String>| set.collect::<Vec<_>>().join(", ");
    let set = columns(&mut row.set.keys().map(ToString::to_string));
    let key = columns(&mut row.key.keys().map(ToString::to_string));
    let link = row.link.as_ref().map(|link| format!(", and a row of {} that refers to it", link.table));
    let what = format!("columns {set} of the row that is found by {key}{}", link.unwrap_or_default());
    // The address of a database has a password in it.
    let parameter = row.database.name();
    let file = if config.recipe.parameters.contains_key(parameter) { "" } else { "_file" };
    Place { target: format!("table {} of the database that {parameter}{file} names", row.table), what }
}

fn of_items(items: &Items) -> Place {
    let set: Vec<String> = items.set.keys().cloned().collect();
    Place { target: items.write.path.to_string(), what: format!("settings by the application's API: {}", listed(&set)) }
}

/// The settings that a document sets, by their names. Names are the recipe's, and no placeholder stands there.
fn names(content: &Content) -> Vec<String> {
    let mut found = Vec::new();
    collect(content.document(), "", &mut found);
    found
}

fn collect(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(member, &path, found);
            }
        }
        _ if path.is_empty() => {}
        _ => found.push(path.to_owned()),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "what the recipe says".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::RawConfig;

    fn config(recipe: &str, rest: &str) -> Config {
        let text = format!(
            "public_url = 'https://beta.example'\ndata_dir = '/var/lib/agent'\nrecipe = '{recipe}'\n\
             [app]\nurl = 'http://127.0.0.1:1'\n{rest}"
        );
        Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap()
    }

    fn only(config: &Config) -> Place {
        let mut places = places(config);
        assert_eq!(places.len(), 1, "{places:?}");
        places.remove(0)
    }

    #[test]
    fn it_is_told_where_each_way_writes() {
        let files = config("django-allauth", "[relying_party]\ncredentials_dir = '/srv/c'\nowner = '33'");
        let place = only(&files);
        assert_eq!(place.target, "/srv/c/current/homeward_allauth.json");
        assert!(
            place.what.contains("openid_connect") && place.what.contains("user 33, group the agent's"),
            "{place:?}"
        );

        let rows = config(
            "django-allauth",
            "parameters = { database_url_file = '/srv/url' }\n[relying_party]\nway = 'database'",
        );
        let place = only(&rows);
        assert_eq!(place.target, "table socialaccount_socialapp of the database that database_url_file names");
        assert!(place.what.contains("secret") && place.what.contains("found by"), "{place:?}");

        let merged = config(
            "inventree",
            "parameters = { config_file = '/srv/config.yaml' }\n[relying_party]\nway = 'config_yaml'",
        );
        let place = only(&merged);
        assert!(place.target == "/srv/config.yaml" && place.what.contains("social_providers"), "{place:?}");

        let items = config("alist", "parameters = { admin_token_file = '/srv/token' }\n[relying_party]");
        let place = only(&items);
        assert!(place.target.starts_with("/api/") && place.what.contains("sso_client_id"), "{place:?}");

        let gate = config("nginx-auth-request", "[relying_party]");
        assert_eq!(places(&gate).len(), 1);
        assert!(
            places(&config("generic-oidc", "[home]\nmethods = ['file']\n[home.file]\nusers_file = '/u'")).is_empty()
        );
    }
}
