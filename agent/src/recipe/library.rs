//! Where recipes come from: the operator's folders, in their order, and then the agent itself. The first of a name counts,
//! so that an operator may put a recipe of his own in the place of one that comes with the agent.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{EMBEDDED, Recipe, RecipeError};

/// All recipes there are.
#[derive(Debug, Clone, Default)]
pub struct Library {
    folders: Vec<PathBuf>,
}

/// Where a recipe comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// With the agent.
    BuiltIn,
    /// From a file of the operator's.
    File(PathBuf),
}

/// A recipe, or why a file is none.
#[derive(Debug)]
pub struct Shelved {
    /// What its file is called, without ending.
    pub name: String,
    /// Where it is from.
    pub source: Source,
    /// What is in it.
    pub recipe: Result<Recipe, RecipeError>,
}

impl Library {
    /// With these folders of the operator's.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// The recipe of that name.
    pub fn find(&self, name: &str) -> Result<Recipe, RecipeError> {
        let (text, source) = self.text(name)?;
        read(name, &text, &source)
    }

    /// Its text and where that is from: its comments are its documentation.
    pub fn text(&self, name: &str) -> Result<(String, Source), RecipeError> {
        // A name is no path: `../x` is looked for nowhere.
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let files = self.folders.iter().map(|folder| (folder, folder.join(format!("{name}.toml"))));
        match files.filter(|_| plain).find(|(_, file)| file.exists()) {
            Some((folder, file)) => {
                check_writers(folder)?;
                Ok((trusted_text_of(&file)?, Source::File(file)))
            }
            None => Ok((Recipe::embedded_text(name)?.to_owned(), Source::BuiltIn)),
        }
    }

    /// Every recipe that can be found by its name, in the order of names.
    pub fn all(&self) -> Result<Vec<Shelved>, RecipeError> {
        let mut names: Vec<String> = EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        for folder in &self.folders {
            names.extend(names_in(folder)?);
        }
        names.sort();
        names.dedup();
        names.into_iter().map(|name| self.shelved(name)).collect()
    }

    fn shelved(&self, name: String) -> Result<Shelved, RecipeError> {
        let (text, source) = self.text(&name)?;
        Ok(Shelved { recipe: read(&name, &text, &source), name, source })
    }
}

/// A recipe is found by the name of its file: one that calls itself otherwise would be shown as what it is not.
fn read(name: &str, text: &str, source: &Source) -> Result<Recipe, RecipeError> {
    let recipe = Recipe::parse(text)?;
    match source {
        Source::File(path) if recipe.name != name => {
            Err(RecipeError::OtherName { path: path.clone(), name: recipe.name })
        }
        Source::BuiltIn | Source::File(_) => Ok(recipe),
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>, RecipeError> {
    let unreadable = |source| RecipeError::Unreadable { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned));
    }
    // What no name can lead to is no recipe: an editor's backup, a hidden file.
    names.retain(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
    Ok(names)
}

/// Of a file whose commands the agent may run.
pub(super) fn trusted_text_of(path: &Path) -> Result<String, RecipeError> {
    check_writers(path)?;
    text_of(path)
}

/// Whoever can change a recipe can have any program run as the agent.
fn check_writers(path: &Path) -> Result<(), RecipeError> {
    let metadata = path.metadata().map_err(|source| RecipeError::Unreadable { path: path.to_owned(), source })?;
    if metadata.permissions().mode() & 0o022 == 0 { Ok(()) } else { Err(RecipeError::Writable(path.to_owned())) }
}

pub(super) fn text_of(path: &Path) -> Result<String, RecipeError> {
    std::fs::read_to_string(path).map_err(|source| RecipeError::Unreadable { path: path.to_owned(), source })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn put(folder: &Path, file: &str, text: &str) {
        std::fs::File::create_new(folder.join(file)).unwrap().write_all(text.as_bytes()).unwrap();
        allow(&folder.join(file), 0o644);
    }

    fn allow(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn recipe(name: &str, title: &str) -> String {
        format!("name = '{name}'\ntitle = '{title}'\ndescription = ''")
    }

    #[test]
    fn the_operators_recipe_goes_before_the_built_in_one() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(first.path(), "mine.toml", &recipe("mine", "First"));
        put(second.path(), "mine.toml", &recipe("mine", "Second"));
        put(second.path(), "django-allauth.toml", &recipe("django-allauth", "Ours"));
        put(second.path(), ".mine.toml~", "nonsense");
        let library = Library::new(vec![first.path().to_owned(), second.path().to_owned()]);
        assert_eq!(library.find("mine").unwrap().title, "First");
        assert_eq!(library.find("django-allauth").unwrap().title, "Ours");
        assert_eq!(Library::default().text("django-allauth").unwrap().1, Source::BuiltIn);
        let all = library.all().unwrap();
        assert_eq!(all.iter().filter(|shelved| matches!(shelved.source, Source::File(_))).count(), 2);
        assert!(matches!(library.find("nonsense"), Err(RecipeError::Unknown(_))));
    }

    #[test]
    fn a_recipe_that_others_can_change_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "mine.toml", &recipe("mine", "Mine"));
        let (library, file) = (Library::new(vec![folder.path().to_owned()]), folder.path().join("mine.toml"));
        for (path, open, closed) in
            [(file.as_path(), 0o664, 0o644), (&file, 0o646, 0o600), (folder.path(), 0o777, 0o700)]
        {
            allow(path, open);
            let error = library.find("mine").unwrap_err();
            assert!(matches!(&error, RecipeError::Writable(found) if found == path), "{error}");
            assert_eq!(Recipe::load(&file).is_err(), path == file);
            allow(path, closed);
            assert_eq!(library.find("mine").unwrap().title, "Mine");
        }
        assert!(Recipe::read(&file).is_ok());
    }

    #[test]
    fn a_broken_recipe_is_shown_and_not_used() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "broken.toml", "name = ");
        put(folder.path(), "other.toml", &recipe("another", "Other"));
        let library = Library::new(vec![folder.path().to_owned()]);
        let broken: Vec<String> =
            library.all().unwrap().into_iter().filter(|found| found.recipe.is_err()).map(|found| found.name).collect();
        assert_eq!(broken, ["broken", "other"]);
        assert!(matches!(library.find("broken"), Err(RecipeError::Malformed(_))));
        assert!(matches!(library.find("other"), Err(RecipeError::OtherName { .. })));
    }

    #[test]
    fn a_name_is_no_path() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "mine.toml", &recipe("mine", "Mine"));
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        for name in ["../mine", "", "/etc/passwd", "mine.toml"] {
            assert!(matches!(Library::new(vec![inner.clone()]).find(name), Err(RecipeError::Unknown(_))), "{name}");
        }
    }
}
