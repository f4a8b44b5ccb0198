//! The ways of putting credentials into an application. Each way says only what is to be there afterwards; how the old
//! state is kept and put back is the engine's (`apply`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::RecipeError;
use super::condition::Condition;
use super::content::Content;
use super::placeholders::{Parameter, Placeholders};
use super::pointer::{Place, Pointer};
use super::sql::Row;
use super::step::Step;

/// One of `[[relying_party.ways]]`. The operator picks one by name; the first is the default.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "WrittenWay")]
pub struct Way {
    /// How configuration names it.
    pub name: String,
    /// What it needs and does, in a sentence.
    pub description: String,
    /// What is written.
    pub target: Target,
}

/// What is written.
#[derive(Debug, Clone)]
pub enum Target {
    /// Files of the agent's own, all at once.
    Files(Vec<CredentialFile>),
    /// Files that others write too.
    Merge(Vec<MergedFile>),
    /// Rows of the application's database.
    Rows(Vec<Row>),
    /// Items of an administrative HTTP API.
    Items(Box<Items>),
}

/// One file of the agent's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Its name in the folder.
    pub name: String,
    /// How it is written.
    pub format: FileFormat,
    /// What is in it.
    pub content: Content,
}

/// How a file of the agent's own is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON document.
    Json,
    /// `NAME="value"` lines.
    Env,
    /// One TOML document.
    Toml,
}

/// A file that others write too.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergedFile {
    /// Where it is.
    pub file: Parameter,
    /// How it is written.
    pub format: MergeFormat,
    /// What must be in it; what else is in it stays. An object: sections and keys for `ini`, variables for `env`.
    pub content: Content,
    /// Lists of objects: where they are, and the member that tells the elements apart. Others stay.
    #[serde(default)]
    pub lists: BTreeMap<Place, String>,
    /// Strings that are lists with commas; what else is in them stays.
    #[serde(default)]
    pub comma_lists: BTreeSet<Place>,
    /// What must not be in it.
    #[serde(default)]
    pub remove: Vec<Removal>,
}

/// How a file of others is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeFormat {
    /// JSON.
    Json,
    /// YAML 1.2.
    Yaml,
    /// `NAME=value` lines, as systemd and docker compose read them.
    Env,
    /// Sections of `key = value` lines.
    Ini,
    /// TOML.
    Toml,
}

/// Something that is known to break the application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Where it is.
    pub at: Place,
    /// Why it must go; told in the log and by `status`.
    pub why: String,
}

/// A list of settings behind an HTTP API: all are read, some are changed, and those are sent back whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items {
    /// Reads the list.
    pub read: Step,
    /// Where the list is in the answer.
    pub pointer: Pointer,
    /// The member of an item that is its name.
    pub key: String,
    /// The member that is set.
    pub value: String,
    /// The values, by the items' names.
    pub set: BTreeMap<String, Content>,
    /// Takes the changed items; their list is the body.
    pub write: Step,
    /// What an answer is like that did it.
    #[serde(default)]
    pub accepted: Condition,
}

/// A way as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWay {
    name: String,
    description: String,
    files: Option<Vec<CredentialFile>>,
    merge: Option<Vec<MergedFile>>,
    rows: Option<Vec<Row>>,
    items: Option<Items>,
}

/// Not exactly one target.
#[derive(Debug, Error)]
#[error("the way {0:?} needs exactly one of files, merge, rows and items, and a name of letters, digits, - and _")]
pub struct NotOneTarget(String);

impl TryFrom<WrittenWay> for Way {
    type Error = NotOneTarget;

    fn try_from(way: WrittenWay) -> Result<Self, NotOneTarget> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let target = match (way.files, way.merge, way.rows, way.items) {
            (Some(files), None, None, None) if !files.is_empty() => Target::Files(files),
            (None, Some(merge), None, None) if !merge.is_empty() => Target::Merge(merge),
            (None, None, Some(rows), None) if !rows.is_empty() => Target::Rows(rows),
            (None, None, None, Some(items)) => Target::Items(Box::new(items)),
            _ => return Err(NotOneTarget(way.name)),
        };
        if way.name.is_empty() || !way.name.chars().all(plain) {
            return Err(NotOneTarget(way.name));
        }
        Ok(Self { name: way.name, description: way.description, target })
    }
}

impl Way {
    /// `known`: what there is of the client, and the parameters.
    pub(super) fn check(&self, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        match &self.target {
            Target::Files(files) => check_files(files, known),
            Target::Merge(files) => files.iter().try_for_each(|file| file.check(known)),
            Target::Rows(rows) => rows.iter().try_for_each(|row| row.check(known)),
            Target::Items(items) => items.check(known),
        }
    }
}

fn check_files(files: &[CredentialFile], known: &Placeholders<'_>) -> Result<(), RecipeError> {
    let mut names = BTreeSet::new();
    for file in files {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let dotted = file.name.is_empty() || file.name.starts_with('.');
        if dotted || !file.name.chars().all(plain) || !names.insert(&file.name) {
            return Err(RecipeError::FileName(file.name.clone()));
        }
        let flat = matches!(file.format, FileFormat::Json);
        if !flat && !file.content.document().is_object() {
            return Err(RecipeError::Incomplete("relying_party.ways.files: content must be a table"));
        }
        let place = "relying_party.ways.files";
        file.content.check(&known.all()).map_err(|source| RecipeError::Placeholder { place, source })?;
    }
    Ok(())
}

impl MergedFile {
    fn check(&self, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "relying_party.ways.merge";
        let refused = |source| RecipeError::Placeholder { place: PLACE, source };
        if !known.open().contains(&self.file.name()) {
            return Err(RecipeError::UnknownParameter { place: PLACE, found: self.file.name().to_owned() });
        }
        self.content.check(&known.all()).map_err(refused)?;
        let Value::Object(members) = self.content.document() else {
            return Err(RecipeError::Incomplete("relying_party.ways.merge: content must be a table"));
        };
        let sections = members.values().all(|section| match section {
            Value::Object(keys) => keys.values().all(|value| !value.is_object() && !value.is_array()),
            _ => false,
        });
        if self.format == MergeFormat::Ini && !sections {
            return Err(RecipeError::Incomplete("relying_party.ways.merge: ini has sections of plain values"));
        }
        Ok(())
    }
}

impl Items {
    fn check(&self, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "relying_party.ways.items";
        self.read.check_plain(PLACE, known)?;
        self.write.check_plain(PLACE, known)?;
        if self.write.json.is_some() || self.write.form.is_some() || self.set.is_empty() {
            return Err(RecipeError::Incomplete(
                "relying_party.ways.items needs set, and write has no body of its own",
            ));
        }
        let refused = |source| RecipeError::Placeholder { place: PLACE, source };
        self.set.values().try_for_each(|value| value.check(&known.all()).map_err(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(ways: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\nparameters = {{ config_file = '', database_url_file = '' }}\n\
             [relying_party]\ncallback_paths = ['/cb']\nclient_auth_method = 'client_secret_post'\n\
             id_token_alg = 'ES256'\npkce = false\n{ways}"
        ))
    }

    fn way(target: &str) -> Result<Recipe, RecipeError> {
        parse(&format!("[[relying_party.ways]]\nname = 'w'\ndescription = ''\n{target}"))
    }

    #[test]
    fn a_way_has_one_target() {
        let file = "{ name = 'a', format = 'json', content = {} }";
        way(&format!("files = [{file}]")).unwrap();
        let rows =
            "rows = [{ database = '${database_url}', table = 't', key = { id = 1 }, set = { a = '${client_id}' } }]";
        way(rows).unwrap();
        for bad in [String::new(), "files = []".to_owned(), format!("files = [{file}]\n{rows}")] {
            assert!(matches!(way(&bad), Err(RecipeError::Malformed(_))), "{bad}");
        }
        let twice = "[[relying_party.ways]]\nname = 'w'\ndescription = ''\nfiles = [{ name = 'a', format = 'json', content = {} }]\n";
        assert!(matches!(parse(&twice.repeat(2)), Err(RecipeError::WayTwice(name)) if name == "w"));
    }

    #[test]
    fn a_file_name_cannot_leave_the_folder() {
        for name in ["../x", "a/b", "", ".hidden", "..", "a b", "/etc/passwd"] {
            let text = format!("files = [{{ name = '{name}', format = 'json', content = {{}} }}]");
            assert!(matches!(way(&text), Err(RecipeError::FileName(_))), "{name:?}");
        }
        let file = "{ name = 'a', format = 'json', content = {} }";
        assert!(matches!(way(&format!("files = [{file}, {file}]")), Err(RecipeError::FileName(_))));
        assert!(way("files = [{ name = 'a', format = 'shell', content = {} }]").is_err());
    }

    #[test]
    fn a_merge_is_into_a_file_that_the_operator_names() {
        let merge = |rest: &str| way(&format!("[[relying_party.ways.merge]]\n{rest}"));
        let lists = "lists = { '/a/b' = 'id' }\ncomma_lists = ['/c']\nremove = [{ at = '/d', why = 'it breaks' }]";
        merge(&format!("file = '${{config_file}}'\nformat = 'yaml'\ncontent = {{ a = '${{client_id}}' }}\n{lists}"))
            .unwrap();
        for bad in [
            "file = '/etc/passwd'\nformat = 'yaml'\ncontent = {}",
            "file = '${database_url}'\nformat = 'yaml'\ncontent = {}",
            "file = '${nonsense}'\nformat = 'yaml'\ncontent = {}",
            "file = '${config_file}'\nformat = 'yaml'\ncontent = []",
            "file = '${config_file}'\nformat = 'ini'\ncontent = { a = 1 }",
            "file = '${config_file}'\nformat = 'xml'\ncontent = {}",
        ] {
            assert!(merge(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_back_to_an_api_is_the_engines_to_say() {
        let items = |write: &str| {
            way(&format!(
                "[relying_party.ways.items]\nread = {{ method = 'GET', path = '/list' }}\npointer = '/data'\nkey = 'key'\n\
                 value = 'value'\nset = {{ a = '${{client_id}}' }}\nwrite = {{ method = 'POST', path = '/save'{write} }}"
            ))
        };
        items("").unwrap();
        assert!(matches!(items(", json = {}"), Err(RecipeError::Incomplete(_))));
        assert!(items(", query = { t = '${database_url}' }").is_err());
    }
}
