//! What only the operator knows of this installation: `[app.parameters]`. Of a parameter `x_file` the file's content is
//! the value of `${x}`, and a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::recipe::placeholders::name_of_content;
use crate::secret_file::{self, SecretFileError};

/// What a recipe asks to know, and what the operator says.
#[derive(Clone, Default)]
pub struct Parameters {
    /// Declared by the recipe; each with its value if there is one.
    values: BTreeMap<String, Option<String>>,
}

/// Values for placeholders. Dropping them overwrites them.
#[derive(Default)]
pub(crate) struct Values(Vec<(String, Zeroizing<String>)>);

/// Why a parameter has no value. No secret is in it.
#[derive(Debug, Error)]
pub enum ParameterError {
    /// The operator has not given it.
    #[error("[app.parameters] lacks {0}, which the recipe needs; `homeward-agent recipe show NAME` says what it is")]
    Missing(String),
    /// Its path depends on where the agent was started.
    #[error("[app.parameters] {name}: the path {path} must be absolute", path = .path.display())]
    Relative {
        /// The parameter.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// Its file.
    #[error("[app.parameters] {name}: {source}")]
    File {
        /// The parameter.
        name: String,
        /// Why not.
        #[source]
        source: SecretFileError,
    },
}

impl fmt::Debug for Parameters {
    /// What the operator says may be an address with a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name)).finish()
    }
}

impl Parameters {
    /// Those that the recipe declares, with the values of the configuration.
    pub fn new(declared: &BTreeMap<String, String>, given: &BTreeMap<String, String>) -> Self {
        Self { values: declared.keys().map(|name| (name.clone(), given.get(name).cloned())).collect() }
    }

    /// What the operator says, where it is not the content of a file.
    pub fn plain(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_deref()
    }

    /// Whether the operator has said what a placeholder of this name needs.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        let mut given = self.values.iter().filter(|(_, value)| value.is_some()).map(|(parameter, _)| parameter);
        given.any(|parameter| parameter == name || name_of_content(parameter) == Some(name))
    }

    /// The values of those of these names that are parameters; others are somebody else's to fill.
    pub(crate) fn values<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Values, ParameterError> {
        let mut values = Values::default();
        for name in names {
            if let Some(value) = self.value(name)? {
                values.0.push((name.to_owned(), value));
            }
        }
        Ok(values)
    }

    /// The value of one; `None` if it is no parameter of the recipe.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Zeroizing<String>>, ParameterError> {
        let missing = |name: &str| ParameterError::Missing(name.to_owned());
        if let Some(value) = self.values.get(name) {
            return value.clone().map(Zeroizing::new).ok_or_else(|| missing(name)).map(Some);
        }
        let file = self.values.iter().find(|(parameter, _)| name_of_content(parameter) == Some(name));
        match file {
            Some((parameter, path)) => {
                let path = path.as_ref().ok_or_else(|| missing(parameter))?;
                read(parameter, Path::new(path)).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl Values {
    /// As placeholders are filled with.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

fn read(name: &str, path: &Path) -> Result<Zeroizing<String>, ParameterError> {
    let name = || name.to_owned();
    if path.is_relative() {
        return Err(ParameterError::Relative { name: name(), path: path.to_owned() });
    }
    secret_file::read(path).map_err(|source| ParameterError::File { name: name(), source })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "operators write files as they like")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn parameters(path: &Path) -> Parameters {
        let declared =
            ["database_url_file", "token_file", "python", "manage"].map(|name| (name.to_owned(), String::new()));
        let given = [("database_url_file", path.to_str().unwrap()), ("python", "/usr/bin/python3")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Parameters::new(&declared.into(), &given.into())
    }

    #[test]
    fn the_content_of_a_file_is_read_when_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let parameters = parameters(&path);
        assert!(matches!(
            parameters.value("database_url"),
            Err(ParameterError::File { source: SecretFileError::Unreadable { .. }, .. })
        ));
        for text in ["one\n", " two \n"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            let values = parameters.values(["python", "database_url", "username"]).unwrap();
            assert_eq!(values.pairs(), [("python", "/usr/bin/python3"), ("database_url", text.trim())]);
        }
        assert_eq!(parameters.plain("database_url_file"), path.to_str());
        assert!(matches!(parameters.value("manage"), Err(ParameterError::Missing(name)) if name == "manage"));
        assert!(matches!(parameters.value("token"), Err(ParameterError::Missing(name)) if name == "token_file"));
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "canary").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = parameters(&path).value("database_url").unwrap_err();
        assert!(
            matches!(error, ParameterError::File { source: SecretFileError::Open(_), .. })
                && !format!("{error} {error:?}").contains("canary")
        );
        let parameters = parameters(Path::new("canary"));
        assert!(matches!(parameters.value("database_url"), Err(ParameterError::Relative { .. })));
        assert_eq!(format!("{parameters:?}"), "{\"database_url_file\", \"python\"}", "no value is printed");
    }
}
