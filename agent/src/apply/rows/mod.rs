//! Rows of the application's own database: read, then written in one transaction with the rows that refer to them, if
//! they still are what they were when the plan was made. The way back restores the columns that were set, or deletes what
//! was made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::database::{Database, DatabaseError, Transaction};
use crate::parameters::{ParameterError, Parameters};
use crate::recipe::content::Content;
use crate::recipe::sql::{Identifier, Link, Row};

/// The rows of a way.
#[derive(Debug)]
pub(crate) struct Rows(pub(super) Vec<Row>);

/// Columns and their values as texts; unset is NULL.
type Columns = BTreeMap<String, Option<String>>;

/// A row as it is and as it will be.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowEdit {
    /// The parameter that says where the database is.
    database: String,
    table: String,
    key: Columns,
    new: Columns,
    /// Unset if there is no such row.
    old: Option<Columns>,
    link: Option<NewLink>,
}

/// A row that must refer to it and does not.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLink {
    table: String,
    row: String,
    columns: Columns,
}

/// Why rows are not written.
#[derive(Debug, Error)]
pub(crate) enum RowsError {
    /// Where the database is.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// What it says.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nobody knows which one counts.
    #[error(
        "the table {table} has {count} rows for the same client, and the application would not know which one counts; delete all but one"
    )]
    Several {
        /// The table.
        table: String,
        /// How many.
        count: usize,
    },
    /// The recipe makes none.
    #[error("the table {0} has no such row, and the recipe makes none; set the application up first")]
    NoRow(String),
    /// Somebody else was faster.
    #[error("the row in {0} was changed by somebody else meanwhile; it is left as it is")]
    ChangedMeanwhile(String),
}

impl Rows {
    /// The rows that must change, and how.
    pub(super) async fn plan(
        &self,
        parameters: &Parameters,
        values: &[(&str, &str)],
    ) -> Result<Vec<RowEdit>, RowsError> {
        let mut edits = Vec::new();
        for row in &self.0 {
            let mut transaction = open(parameters, row.database.name()).await?;
            let mut edit = RowEdit {
                database: row.database.name().to_owned(),
                table: row.table.as_str().to_owned(),
                key: columns(&row.key, values),
                new: columns(&row.set, values),
                old: None,
                link: None,
            };
            edit.old = edit.read(&mut transaction).await?;
            if edit.old.is_none() && !row.create {
                return Err(RowsError::NoRow(edit.table));
            }
            if let Some(link) = &row.link {
                edit.link = edit.missing_link(&mut transaction, link, values).await?;
            }
            let same = edit.old.as_ref().is_some_and(|old| agree(old, &edit.new));
            if !same || edit.link.is_some() {
                edits.push(edit);
            }
        }
        Ok(edits)
    }

    /// Writes them: all those of one database together.
    pub(super) async fn put(&self, parameters: &Parameters, edits: &[RowEdit]) -> Result<(), RowsError> {
        for edits in edits.chunk_by(|one, next| one.database == next.database) {
            let Some(first) = edits.first() else { continue };
            let mut transaction = open(parameters, &first.database).await?;
            for edit in edits {
                edit.write(&mut transaction).await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Restores what was there; what somebody else has changed since stays, and is told when the rest is done.
    pub(super) async fn undo(&self, parameters: &Parameters, edits: &[RowEdit]) -> Result<(), RowsError> {
        let mut changed = None;
        for edit in edits.iter().rev() {
            let mut transaction = open(parameters, &edit.database).await?;
            match edit.restore(&mut transaction).await {
                Ok(()) => transaction.commit().await?,
                Err(error @ RowsError::ChangedMeanwhile(_)) => changed = Some(error),
                Err(error) => return Err(error),
            }
        }
        changed.map_or(Ok(()), Err)
    }
}

impl RowEdit {
    /// For people.
    pub(super) fn describe(&self) -> String {
        let verb = if self.old.is_some() { "change" } else { "make" };
        let columns: Vec<&str> = self.new.keys().map(String::as_str).collect();
        format!("{verb} the row of this client in {}: {}", self.table, columns.join(", "))
    }

    /// The columns that are to be set, as they are; `None` if there is no row.
    async fn read(&self, transaction: &mut Transaction) -> Result<Option<Columns>, RowsError> {
        let names: Vec<String> = self.new.keys().map(|name| transaction.quoted(name)).collect();
        let (place, arguments) = self.place(transaction);
        let query = format!("SELECT {} FROM {place}", names.join(", "));
        let rows = transaction.select(&query, &arguments).await?;
        if rows.len() > 1 {
            return Err(RowsError::Several { table: self.table.clone(), count: rows.len() });
        }
        Ok(rows.into_iter().next().map(|row| row.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
    }

    async fn id(&self, transaction: &mut Transaction) -> Result<Option<String>, RowsError> {
        let (place, arguments) = self.place(transaction);
        let query = format!("SELECT {} FROM {place}", transaction.quoted("id"));
        let rows = transaction.select(&query, &arguments).await?;
        Ok(rows.first().and_then(|row| row.get("id")).and_then(text))
    }

    async fn missing_link(
        &self,
        transaction: &mut Transaction,
        link: &Link,
        values: &[(&str, &str)],
    ) -> Result<Option<NewLink>, RowsError> {
        let (table, row) = (link.table.as_str().to_owned(), link.row.as_str().to_owned());
        let new = NewLink { table, row, columns: columns(&link.set, values) };
        let Some(id) = self.id(transaction).await? else { return Ok(Some(new)) };
        let columns = new.with(&id);
        let (place, arguments) = place(transaction, &new.table, &columns);
        let query = format!("SELECT {} FROM {place}", transaction.quoted(&new.row));
        Ok(if transaction.select(&query, &arguments).await?.is_empty() { Some(new) } else { None })
    }

    async fn write(&self, transaction: &mut Transaction) -> Result<(), RowsError> {
        let now = self.read(transaction).await?;
        if now != self.old {
            return Err(RowsError::ChangedMeanwhile(self.table.clone()));
        }
        match &self.old {
            Some(_) => self.update(transaction, &self.new).await?,
            None => {
                let all: Columns = self.key.iter().chain(&self.new).map(|(a, b)| (a.clone(), b.clone())).collect();
                insert(transaction, &self.table, &all).await?;
            }
        }
        if let (Some(link), Some(id)) = (&self.link, self.id(transaction).await?) {
            insert(transaction, &link.table, &link.with(&id)).await?;
        }
        Ok(())
    }

    async fn restore(&self, transaction: &mut Transaction) -> Result<(), RowsError> {
        match self.read(transaction).await? {
            // The write did not happen, or somebody has deleted the row: nothing of it is left.
            None => return Ok(()),
            now if now == self.old => {}
            Some(now) if agree(&now, &self.new) => {}
            Some(_) => return Err(RowsError::ChangedMeanwhile(self.table.clone())),
        }
        if let (Some(link), Some(id)) = (&self.link, self.id(transaction).await?) {
            delete(transaction, &link.table, &link.with(&id)).await?;
        }
        match &self.old {
            Some(old) => self.update(transaction, old).await,
            None => delete(transaction, &self.table, &self.key).await,
        }
    }

    async fn update(&self, transaction: &mut Transaction, columns: &Columns) -> Result<(), RowsError> {
        let names: Vec<String> = columns.keys().map(|name| format!("{} = ?", transaction.quoted(name))).collect();
        let (place, of_key) = place(transaction, "", &self.key);
        let statement = format!("UPDATE {} SET {}{place}", transaction.quoted(&self.table), names.join(", "));
        let mut arguments: Vec<Option<&str>> = columns.values().map(Option::as_deref).collect();
        arguments.extend(of_key);
        transaction.execute(&statement, &arguments).await?;
        Ok(())
    }

    fn place(&self, transaction: &Transaction) -> (String, Vec<Option<&str>>) {
        place(transaction, &self.table, &self.key)
    }
}

impl NewLink {
    /// All columns, for the row of this id.
    fn with(&self, id: &str) -> Columns {
        let mut columns = self.columns.clone();
        columns.insert(self.row.clone(), Some(id.to_owned()));
        columns
    }
}

async fn open(parameters: &Parameters, database: &str) -> Result<Transaction, RowsError> {
    Ok(Database::of(parameters, database).await?.begin().await?)
}

async fn insert(transaction: &mut Transaction, table: &str, columns: &Columns) -> Result<(), RowsError> {
    let names: Vec<String> = columns.keys().map(|name| transaction.quoted(name)).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let statement = format!("INSERT INTO {} ({}) VALUES ({places})", transaction.quoted(table), names.join(", "));
    let arguments: Vec<Option<&str>> = columns.values().map(Option::as_deref).collect();
    transaction.execute(&statement, &arguments).await?;
    Ok(())
}

async fn delete(transaction: &mut Transaction, table: &str, columns: &Columns) -> Result<(), RowsError> {
    let (place, arguments) = place(transaction, table, columns);
    transaction.execute(&format!("DELETE FROM {place}"), &arguments).await?;
    Ok(())
}

/// `table WHERE column = ? AND …`, and the arguments. All names are identifiers that the recipe's check let pass.
fn place<'a>(transaction: &Transaction, table: &str, columns: &'a Columns) -> (String, Vec<Option<&'a str>>) {
    let condition = |(name, value): (&String, &Option<String>)| match value {
        Some(_) => format!("{} = ?", transaction.quoted(name)),
        None => format!("{} IS NULL", transaction.quoted(name)),
    };
    let conditions: Vec<String> = columns.iter().map(condition).collect();
    let table = if table.is_empty() { String::new() } else { transaction.quoted(table) };
    let arguments = columns.values().filter(|value| value.is_some()).map(Option::as_deref).collect();
    (format!("{table} WHERE {}", conditions.join(" AND ")), arguments)
}

fn columns(recipe: &BTreeMap<Identifier, Content>, values: &[(&str, &str)]) -> Columns {
    recipe.iter().map(|(name, content)| (name.as_str().to_owned(), text(&content.render(values)))).collect()
}

/// A value as every database takes it for whatever column it is for.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        // Not every database knows `true` for a column of numbers; all know 1 for a column of booleans.
        Value::Bool(bool) => Some(u8::from(*bool).to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

/// Whether columns have these values, as the database writes them.
fn agree(now: &Columns, wanted: &Columns) -> bool {
    let same = |now: &str, wanted: &str| {
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        now == wanted || json(now).is_some_and(|now| !now.is_number() && Some(now) == json(wanted))
    };
    wanted.iter().all(|(name, wanted)| match (now.get(name), wanted) {
        (Some(Some(now)), Some(wanted)) => same(now, wanted),
        (Some(None), None) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests;
