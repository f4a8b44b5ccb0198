//! Which placeholders may stand where. A name is open (it may stand in an address, a command, a log) or secret (only in
//! headers, bodies, files and database addresses).

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::content::placeholder;

/// A parameter whose name ends so is a file; its content is a secret, known by the name without the ending.
const FILE_ENDING: &str = "_file";

/// The placeholders of one place.
#[derive(Debug, Clone, Default)]
pub struct Placeholders<'a> {
    open: Vec<&'a str>,
    secret: Vec<&'a str>,
}

/// Exactly one parameter: `${name}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Parameter(String);

/// Not one parameter.
#[derive(Debug, Error)]
#[error("{0:?} must be one parameter, for example \"${{config_file}}\"")]
pub struct NotAParameter(String);

impl<'a> Placeholders<'a> {
    /// What a recipe's `[parameters]` give: each by its own name, and the content of each file.
    pub fn of_parameters(parameters: &'a BTreeMap<String, String>) -> Self {
        let open = parameters.keys().map(String::as_str).collect();
        Self { open, secret: parameters.keys().filter_map(|name| name_of_content(name)).collect() }
    }

    /// And these, which may be seen.
    #[must_use]
    pub fn with(mut self, names: &[&'a str]) -> Self {
        self.open.extend(names);
        self
    }

    /// And these, which may not.
    #[must_use]
    pub fn with_secret(mut self, names: &[&'a str]) -> Self {
        self.secret.extend(names);
        self
    }

    /// Those that may be seen.
    pub fn open(&self) -> &[&'a str] {
        &self.open
    }

    /// All of them.
    pub fn all(&self) -> Vec<&'a str> {
        self.open.iter().chain(&self.secret).copied().collect()
    }
}

impl Parameter {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Parameter {
    type Error = NotAParameter;

    fn try_from(text: String) -> Result<Self, NotAParameter> {
        match placeholder(&text) {
            Some(name) if !name.contains("${") => Ok(Self(name.to_owned())),
            _ => Err(NotAParameter(text)),
        }
    }
}

/// By which name the content of a file parameter is known.
pub(crate) fn name_of_content(parameter: &str) -> Option<&str> {
    parameter.strip_suffix(FILE_ENDING).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_file_is_a_secret_and_its_path_is_none() {
        let parameters = ["python", "database_url_file", "_file"].map(|name| (name.to_owned(), String::new())).into();
        let known = Placeholders::of_parameters(&parameters).with(&["username"]).with_secret(&["password"]);
        assert_eq!(known.open(), ["_file", "database_url_file", "python", "username"]);
        assert_eq!(known.all()[4..], ["database_url", "password"]);
    }

    #[test]
    fn a_parameter_stands_alone() {
        assert_eq!(Parameter::try_from("${config_file}".to_owned()).unwrap().name(), "config_file");
        for bad in ["config_file", "/etc/${x}", "${a}${b}", ""] {
            assert!(Parameter::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
