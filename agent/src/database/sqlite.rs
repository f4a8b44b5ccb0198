//! SQLite: a file, in whatever journal mode the application keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row as _, Sqlite, SqliteConnection, TypeInfo, ValueRef};
use url::Url;

use super::DatabaseError;

/// How long the application may be writing meanwhile.
const BUSY: Duration = Duration::from_secs(5);

pub(super) async fn open(address: &Url) -> Result<SqliteConnection, DatabaseError> {
    let path = address.to_file_path().ok().filter(|path| path.is_absolute() && path.file_name().is_some());
    let path = path.ok_or(DatabaseError::Address)?;
    // A database that is not there is not made: the application would find it empty.
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let options = options.busy_timeout(BUSY).disable_statement_logging();
    options.connect().await.map_err(DatabaseError::NotOpened)
}

pub(super) async fn select(
    connection: &mut SqliteConnection,
    query: &str,
    arguments: &[Option<&str>],
) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
    let rows = bound(query, arguments).fetch_all(connection).await.map_err(DatabaseError::Refused)?;
    rows.iter().map(read).collect()
}

pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statement: &str,
    arguments: &[Option<&str>],
) -> Result<u64, DatabaseError> {
    let done = bound(statement, arguments).execute(connection).await.map_err(DatabaseError::Refused)?;
    Ok(done.rows_affected())
}

/// A text that meets a numeric column is taken for the number (SQLite, "Datatypes" 3.4 and 4.2).
fn bound<'q>(statement: &str, arguments: &'q [Option<&'q str>]) -> sqlx::query::Query<'q, Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(statement.to_owned()));
    arguments.iter().fold(query, |query, argument| query.bind(argument.map(str::to_owned)))
}

fn read(row: &SqliteRow) -> Result<BTreeMap<String, Value>, DatabaseError> {
    let read_one = |column: &sqlx::sqlite::SqliteColumn| {
        let name = column.name().to_owned();
        let raw = row.try_get_raw(column.ordinal()).map_err(DatabaseError::Refused)?;
        // Each value has a type of its own here, whatever the column was declared as.
        let kind = if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() };
        let value = match kind.as_str() {
            "NULL" => Ok(Value::Null),
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(column.ordinal()).map(Value::from),
            "REAL" => row.try_get_unchecked::<f64, _>(column.ordinal()).map(Value::from),
            "TEXT" | "DATE" | "TIME" | "DATETIME" => {
                row.try_get_unchecked::<String, _>(column.ordinal()).map(Value::from)
            }
            _ => return Err(DatabaseError::Unreadable { column: name, kind }),
        };
        Ok((name, value.map_err(DatabaseError::Refused)?))
    };
    row.columns().iter().map(read_one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Database;
    use super::*;

    async fn database() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.sqlite3");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let tables = "CREATE TABLE u (id INTEGER PRIMARY KEY, name VARCHAR(50), active BOOL, score REAL, seen DATETIME);\
                      INSERT INTO u VALUES (7, 'alice', 1, 1.5, '2026-01-01 00:00:00'), (8, NULL, 0, NULL, NULL);";
        sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
        let url = format!("sqlite://{}", path.to_str().unwrap().replace(' ', "%20"));
        (folder, url)
    }

    #[tokio::test]
    async fn texts_meet_columns_of_any_type() {
        let (_folder, url) = database().await;
        let mut database = Database::open(&url).await.unwrap();
        let rows = database.rows("SELECT * FROM u WHERE id = ?", &["7"]).await.unwrap();
        let expected = json!([{"id": 7, "name": "alice", "active": 1, "score": 1.5, "seen": "2026-01-01 00:00:00"}]);
        assert_eq!(serde_json::to_value(rows).unwrap(), expected);
        let hostile = "x' OR '1'='1";
        assert!(database.rows("SELECT * FROM u WHERE name = ?", &[hostile]).await.unwrap().is_empty());
        assert!(database.rows("SELECT * FROM none WHERE a = ?", &["1"]).await.is_err());
    }

    #[tokio::test]
    async fn statements_count_together_or_not_at_all() {
        let (_folder, url) = database().await;
        let statements = ["UPDATE u SET active = 0 WHERE id = ?", "DELETE FROM u WHERE id = ?"].map(str::to_owned);
        assert_eq!(Database::open(&url).await.unwrap().execute_all(&statements, &["7"]).await.unwrap(), 2);
        let broken = ["DELETE FROM u WHERE id = ?", "DELETE FROM none WHERE id = ?"].map(str::to_owned);
        assert!(Database::open(&url).await.unwrap().execute_all(&broken, &["8"]).await.is_err());
        let rows = Database::open(&url).await.unwrap().rows("SELECT id FROM u WHERE ? = '1'", &["1"]).await.unwrap();
        assert_eq!(serde_json::to_value(rows).unwrap(), json!([{"id": 8}]));
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.sqlite3");
        let url = format!("sqlite://{}", path.display());
        assert!(matches!(Database::open(&url).await, Err(DatabaseError::NotOpened(_))));
        assert!(!path.exists());
    }
}
