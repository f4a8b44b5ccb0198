//! What a recipe says to the application's database. Only the recipe's own text is SQL: values are arguments, and names of
//! tables and columns are plain identifiers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use super::RecipeError;
use super::content::{Content, check_text};
use super::placeholders::{Parameter, Placeholders};

/// A question with one argument.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Where the database is.
    pub database: Parameter,
    /// One SELECT; the argument is `?`.
    pub query: String,
}

/// Changes with one argument.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statements {
    /// Where the database is.
    pub database: Parameter,
    /// In this order, in one transaction; the argument is `?` in each.
    pub execute: Vec<String>,
}

/// A row with the client's credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Where the database is.
    pub database: Parameter,
    /// The table.
    pub table: Identifier,
    /// Columns that find the row.
    pub key: BTreeMap<Identifier, Content>,
    /// Columns that are set. An object or a list is stored as JSON text.
    pub set: BTreeMap<Identifier, Content>,
    /// Whether the row is made if it is missing.
    #[serde(default = "yes")]
    pub create: bool,
    /// A row of another table that refers to this one.
    pub link: Option<Link>,
}

/// A row that refers to another one by its column `id`, made if it is missing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The table.
    pub table: Identifier,
    /// The column that has the other row's id.
    pub row: Identifier,
    /// The other columns.
    pub set: BTreeMap<Identifier, Content>,
}

/// The name of a table or a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Identifier(String);

/// Not a name.
#[derive(Debug, Error)]
#[error("{0:?} is no name of a table or column: it must be of letters, digits and _, and begin with no digit")]
pub struct NotAnIdentifier(String);

impl Query {
    pub(super) fn check(&self, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        check_database(&self.database, place, known)?;
        check_statement(&self.query, place)
    }
}

impl Statements {
    pub(super) fn check(&self, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        check_database(&self.database, place, known)?;
        if self.execute.is_empty() {
            return Err(RecipeError::Statement { place, rule: "at least one statement is needed" });
        }
        self.execute.iter().try_for_each(|statement| check_statement(statement, place))
    }
}

impl Row {
    pub(super) fn check(&self, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "relying_party.ways.rows";
        check_database(&self.database, PLACE, known)?;
        if self.key.is_empty() || self.set.is_empty() {
            return Err(RecipeError::Incomplete("relying_party.ways.rows needs key and set"));
        }
        let values =
            self.key.values().chain(self.set.values()).chain(self.link.iter().flat_map(|link| link.set.values()));
        let all = known.all();
        for value in values {
            value.check(&all).map_err(|source| RecipeError::Placeholder { place: PLACE, source })?;
        }
        Ok(())
    }
}

impl Identifier {
    /// The name; it needs no quotes to be safe, but may be a reserved word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Identifier {
    type Error = NotAnIdentifier;

    fn try_from(text: String) -> Result<Self, NotAnIdentifier> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(plain) {
            return Err(NotAnIdentifier(text));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_database(database: &Parameter, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
    let text = format!("${{{}}}", database.name());
    check_text(&text, &known.all()).map_err(|source| RecipeError::Placeholder { place, source })
}

/// Values come in by arguments only, and a statement is one.
fn check_statement(statement: &str, place: &'static str) -> Result<(), RecipeError> {
    let rule = if statement.contains("${") {
        "values are arguments, never text of the statement"
    } else if statement.contains(';') {
        "each statement stands alone, without a semicolon"
    } else if !statement.contains('?') {
        "a statement without its argument ? would be about everybody"
    } else {
        return Ok(());
    };
    Err(RecipeError::Statement { place, rule })
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_one_and_is_about_somebody() {
        for bad in ["DELETE FROM s", "DELETE FROM s WHERE u = '${subject}'", "SELECT ?; DELETE FROM s"] {
            assert!(check_statement(bad, "rows").is_err(), "{bad}");
        }
        check_statement("DELETE FROM s WHERE u = ?", "rows").unwrap();
    }

    #[test]
    fn names_are_plain() {
        for bad in ["", "a b", "a;", "a\"b", "1a", "a.b", "ä"] {
            assert!(Identifier::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(
            Identifier::try_from("socialaccount_socialapp".to_owned()).unwrap().as_str(),
            "socialaccount_socialapp"
        );
    }
}
