//! MySQL and MariaDB. Both take a text for a number.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::mysql::{MySqlArguments, MySqlColumn, MySqlConnectOptions, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, MySql, MySqlConnection, Row as _, TypeInfo, ValueRef};
use url::Url;

use super::{DatabaseError, is_local};

pub(super) async fn open(address: &Url) -> Result<MySqlConnection, DatabaseError> {
    let options = MySqlConnectOptions::from_url(address).map_err(|_| DatabaseError::Address)?;
    if options.get_socket().is_none() && !is_local(options.get_host()) {
        return Err(DatabaseError::Elsewhere);
    }
    let options = options.ssl_mode(MySqlSslMode::Disabled).disable_statement_logging();
    options.connect().await.map_err(DatabaseError::NotOpened)
}

pub(super) async fn select(
    connection: &mut MySqlConnection,
    query: &str,
    arguments: &[Option<&str>],
) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
    let rows = bound(query, arguments).fetch_all(connection).await.map_err(DatabaseError::Refused)?;
    rows.iter().map(read).collect()
}

pub(super) async fn execute(
    connection: &mut MySqlConnection,
    statement: &str,
    arguments: &[Option<&str>],
) -> Result<u64, DatabaseError> {
    let done = bound(statement, arguments).execute(connection).await.map_err(DatabaseError::Refused)?;
    Ok(done.rows_affected())
}

fn bound<'q>(statement: &str, arguments: &[Option<&str>]) -> sqlx::query::Query<'q, MySql, MySqlArguments> {
    let query = sqlx::query(AssertSqlSafe(statement.to_owned()));
    arguments.iter().fold(query, |query, argument| query.bind(argument.map(str::to_owned)))
}

fn read(row: &MySqlRow) -> Result<BTreeMap<String, Value>, DatabaseError> {
    row.columns().iter().map(|column| Ok((column.name().to_owned(), value(row, column)?))).collect()
}

/// A prepared statement answers in a form of its own for each type.
fn value(row: &MySqlRow, column: &MySqlColumn) -> Result<Value, DatabaseError> {
    let index = column.ordinal();
    if row.try_get_raw(index).map_err(DatabaseError::Refused)?.is_null() {
        return Ok(Value::Null);
    }
    let kind = column.type_info().name();
    let unreadable = || DatabaseError::Unreadable { column: column.name().to_owned(), kind: kind.to_owned() };
    let read = match kind {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            row.try_get_unchecked::<i64, _>(index).map(Value::from)
        }
        _ if kind.ends_with(" UNSIGNED") || kind == "YEAR" || kind == "BIT" => {
            row.try_get_unchecked::<u64, _>(index).map(Value::from)
        }
        "FLOAT" => row.try_get_unchecked::<f32, _>(index).map(Value::from),
        "DOUBLE" => row.try_get_unchecked::<f64, _>(index).map(Value::from),
        "CHAR" | "VARCHAR" | "ENUM" | "SET" | "JSON" | "DECIMAL" => {
            row.try_get_unchecked::<String, _>(index).map(Value::from)
        }
        _ if kind.ends_with("TEXT") => row.try_get_unchecked::<String, _>(index).map(Value::from),
        // A text that is compared by its bytes is told as binary: MariaDB's JSON is one.
        _ if kind.ends_with("BLOB") || kind.ends_with("BINARY") => {
            let bytes: Vec<u8> = row.try_get_unchecked(index).map_err(DatabaseError::Refused)?;
            return String::from_utf8(bytes).map(Value::from).map_err(|_| unreadable());
        }
        _ => return Err(unreadable()),
    };
    read.map_err(DatabaseError::Refused)
}
