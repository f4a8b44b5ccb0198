//! PostgreSQL. It takes no text for a number, so each argument is cast to the type that the server says it must have; and
//! it makes the JSON of rows itself, so that no type of column is unknown here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Either, Executor, PgConnection, Postgres, SqlSafeStr, Statement, TypeInfo};
use url::Url;

use super::{DatabaseError, is_local};

pub(super) async fn open(address: &Url) -> Result<PgConnection, DatabaseError> {
    let options = PgConnectOptions::from_url(address).map_err(|_| DatabaseError::Address)?;
    let by_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    if !by_socket && !is_local(options.get_host()) {
        return Err(DatabaseError::Elsewhere);
    }
    let options = options.ssl_mode(PgSslMode::Disable).disable_statement_logging();
    options.connect().await.map_err(DatabaseError::NotOpened)
}

pub(super) async fn select(
    connection: &mut PgConnection,
    query: &str,
    arguments: &[Option<&str>],
) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
    let query = format!("SELECT row_to_json(answer)::text FROM ({query}) AS answer");
    let query = typed(connection, &query).await?;
    let query = arguments
        .iter()
        .fold(sqlx::query_scalar(AssertSqlSafe(query)), |query, argument| query.bind(argument.map(str::to_owned)));
    let rows: Vec<String> = query.fetch_all(connection).await.map_err(DatabaseError::Refused)?;
    let read = |row: &String| {
        serde_json::from_str(row).map_err(|error| DatabaseError::Refused(sqlx::Error::Decode(Box::new(error))))
    };
    rows.iter().map(read).collect()
}

pub(super) async fn execute(
    connection: &mut PgConnection,
    statement: &str,
    arguments: &[Option<&str>],
) -> Result<u64, DatabaseError> {
    let statement = typed(connection, statement).await?;
    let done = bound(statement, arguments).execute(connection).await.map_err(DatabaseError::Refused)?;
    Ok(done.rows_affected())
}

fn bound<'q>(statement: String, arguments: &[Option<&str>]) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(statement));
    arguments.iter().fold(query, |query, argument| query.bind(argument.map(str::to_owned)))
}

/// The statement with each `?` as a text that is cast to the type which the server has found for it.
async fn typed(connection: &mut PgConnection, statement: &str) -> Result<String, DatabaseError> {
    let untyped = numbered(statement, |number| format!("${number}"));
    let prepared = connection.prepare(AssertSqlSafe(untyped).into_sql_str()).await.map_err(DatabaseError::Refused)?;
    let types: Vec<String> = match prepared.parameters() {
        Some(Either::Left(types)) => types.iter().map(|kind| kind.name().to_owned()).collect(),
        Some(Either::Right(_)) | None => Vec::new(),
    };
    Ok(numbered(statement, |number| match types.get(number - 1) {
        Some(kind) => format!("CAST(${number}::text AS {kind})"),
        None => format!("${number}"),
    }))
}

/// Each `?` outside of quotes, counted from 1, as `placeholder` writes it.
fn numbered(statement: &str, placeholder: impl Fn(usize) -> String) -> String {
    let mut written = String::with_capacity(statement.len() + 16);
    let (mut quote, mut number) = (None, 0);
    for c in statement.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '?' => {
                number += 1;
                // Writing to a String cannot fail.
                let _ = written.write_str(&placeholder(number));
                continue;
            }
            Some(_) | None => {}
        }
        written.push(c);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbered_and_texts_left_alone() {
        let written =
            numbered("SELECT '?', \"a?\" FROM t WHERE a = ? AND b = 'it''s ?' AND c = ?", |n| format!("${n}"));
        assert_eq!(written, "SELECT '?', \"a?\" FROM t WHERE a = $1 AND b = 'it''s ?' AND c = $2");
    }
}
