//! The application's own database: SQLite, PostgreSQL, MySQL and MariaDB behind the same few methods. Arguments are texts,
//! whatever the columns are: the database makes of them what the column needs. Values come back as JSON.
//!
//! It is on this machine: a file, a Unix socket or a loopback address, because nothing here speaks TLS, and what goes over
//! the wire is a secret. One connection, opened when it is needed and closed when it is dropped; what was begun and not
//! committed by then is undone by the database.

mod mysql;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use sqlx::{MySqlConnection, PgConnection, SqliteConnection};
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use crate::parameters::{ParameterError, Parameters};

/// For one statement, and for opening.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Database {
    connection: Connection,
}

/// What was begun on a connection, and is undone unless it is committed.
#[derive(Debug)]
pub(crate) struct Transaction(Database);

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

/// Why a database does not do what it was asked. The address is in none of them: it has a password.
#[derive(Debug, Error)]
pub(crate) enum DatabaseError {
    /// Not an address.
    #[error(
        "the database's address is none; it must be like sqlite:///srv/app/db.sqlite3, postgres://user:password@127.0.0.1/name or mysql://user:password@127.0.0.1/name"
    )]
    Address,
    /// Over a network.
    #[error(
        "the database is not on this machine; use a loopback address or a Unix socket: nothing here speaks TLS to it"
    )]
    Elsewhere,
    /// It cannot be opened.
    #[error("the database cannot be opened: {0}; check its address, its password and that it runs")]
    NotOpened(#[source] sqlx::Error),
    /// It said no.
    #[error("the database refuses a statement: {0}")]
    Refused(#[source] sqlx::Error),
    /// Nobody says where it is.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Too slow, or locked.
    #[error("the database takes longer than 10 seconds; perhaps somebody keeps it locked")]
    TimedOut,
    /// A type that is no JSON.
    #[error(
        "the column {column} has the type {kind}, which cannot be read; leave it out, or make a text of it in the query"
    )]
    Unreadable {
        /// Its name.
        column: String,
        /// Its type.
        kind: String,
    },
}

impl Database {
    /// Connects to where this parameter says.
    pub(crate) async fn of(parameters: &Parameters, name: &str) -> Result<Self, DatabaseError> {
        let url = parameters.value(name)?.unwrap_or_default();
        Self::open(&url).await
    }

    /// Connects.
    pub(crate) async fn open(url: &str) -> Result<Self, DatabaseError> {
        let address = Url::parse(url).map_err(|_| DatabaseError::Address)?;
        let opening = async {
            Ok(match address.scheme() {
                "sqlite" => Connection::Sqlite(sqlite::open(&address).await?),
                "postgres" | "postgresql" => Connection::Postgres(postgres::open(&address).await?),
                "mysql" | "mariadb" => Connection::MySql(mysql::open(&address).await?),
                _ => return Err(DatabaseError::Address),
            })
        };
        let connection = timeout(TIMEOUT, opening).await.map_err(|_| DatabaseError::TimedOut)??;
        Ok(Self { connection })
    }

    /// The rows of a SELECT, as columns by name.
    pub(crate) async fn rows(
        &mut self,
        query: &str,
        arguments: &[&str],
    ) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
        let arguments: Vec<Option<&str>> = arguments.iter().copied().map(Some).collect();
        self.select(query, &arguments).await
    }

    /// Executes statements in one transaction, each with these arguments; how many rows were changed.
    pub(crate) async fn execute_all(self, statements: &[String], arguments: &[&str]) -> Result<u64, DatabaseError> {
        let arguments: Vec<Option<&str>> = arguments.iter().copied().map(Some).collect();
        let mut transaction = self.begin().await?;
        let mut changed = 0;
        for statement in statements {
            changed += transaction.execute(statement, &arguments).await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Begins to write: others wait or are waited for, or this fails, but nobody's writing is lost between what is read and
    /// what is written.
    pub(crate) async fn begin(mut self) -> Result<Transaction, DatabaseError> {
        let commands: &[&str] = match self.connection {
            // A transaction that reads before it writes must hold the lock from the start: it cannot get it later.
            Connection::Sqlite(_) => &["BEGIN IMMEDIATE"],
            // Whoever writes the row in between makes ours fail.
            Connection::Postgres(_) => &["BEGIN ISOLATION LEVEL REPEATABLE READ"],
            // What is read is locked.
            Connection::MySql(_) => &["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION"],
        };
        for command in commands {
            self.command(command).await?;
        }
        Ok(Transaction(self))
    }

    /// How an identifier is quoted.
    pub(crate) fn quoted(&self, identifier: &str) -> String {
        match self.connection {
            Connection::Sqlite(_) | Connection::Postgres(_) => format!("\"{identifier}\""),
            Connection::MySql(_) => format!("`{identifier}`"),
        }
    }

    async fn select(
        &mut self,
        query: &str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
        let selecting = async {
            match &mut self.connection {
                Connection::Sqlite(connection) => sqlite::select(connection, query, arguments).await,
                Connection::Postgres(connection) => postgres::select(connection, query, arguments).await,
                Connection::MySql(connection) => mysql::select(connection, query, arguments).await,
            }
        };
        timeout(TIMEOUT, selecting).await.map_err(|_| DatabaseError::TimedOut)?
    }

    async fn execute(&mut self, statement: &str, arguments: &[Option<&str>]) -> Result<u64, DatabaseError> {
        let executing = async {
            match &mut self.connection {
                Connection::Sqlite(connection) => sqlite::execute(connection, statement, arguments).await,
                Connection::Postgres(connection) => postgres::execute(connection, statement, arguments).await,
                Connection::MySql(connection) => mysql::execute(connection, statement, arguments).await,
            }
        };
        timeout(TIMEOUT, executing).await.map_err(|_| DatabaseError::TimedOut)?
    }

    async fn command(&mut self, command: &'static str) -> Result<(), DatabaseError> {
        let command = sqlx::raw_sql(command);
        let executing = async {
            match &mut self.connection {
                Connection::Sqlite(connection) => command.execute(connection).await.map(|_| ()),
                Connection::Postgres(connection) => command.execute(connection).await.map(|_| ()),
                Connection::MySql(connection) => command.execute(connection).await.map(|_| ()),
            }
        };
        let executed = timeout(TIMEOUT, executing).await.map_err(|_| DatabaseError::TimedOut)?;
        executed.map_err(DatabaseError::Refused)
    }
}

impl Transaction {
    /// The rows of a SELECT; arguments may be NULL.
    pub(crate) async fn select(
        &mut self,
        query: &str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<BTreeMap<String, Value>>, DatabaseError> {
        self.0.select(query, arguments).await
    }

    /// Executes one statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, statement: &str, arguments: &[Option<&str>]) -> Result<u64, DatabaseError> {
        self.0.execute(statement, arguments).await
    }

    /// How an identifier is quoted.
    pub(crate) fn quoted(&self, identifier: &str) -> String {
        self.0.quoted(identifier)
    }

    /// Makes it last.
    pub(crate) async fn commit(mut self) -> Result<(), DatabaseError> {
        self.0.command("COMMIT").await
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.connection {
            Connection::Sqlite(_) => "Database(SQLite)",
            Connection::Postgres(_) => "Database(PostgreSQL)",
            Connection::MySql(_) => "Database(MySQL)",
        })
    }
}

/// Whether nobody on a network can listen.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for local in ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["10.0.0.7", "db", "localhost.evil.example", "0.0.0.0", "::", "", "2130706433.example"] {
            assert!(!is_local(remote), "{remote}");
        }
    }

    #[tokio::test]
    async fn an_address_elsewhere_or_of_nothing_is_refused_without_a_try() {
        for remote in [
            "postgres://u:canary@db.example/app",
            "postgres://u:canary@127.0.0.1/app?host=db.example",
            "mysql://u:canary@10.0.0.7/app",
            "mariadb://u:canary@db/app",
        ] {
            let error = Database::open(remote).await.unwrap_err();
            assert!(matches!(error, DatabaseError::Elsewhere), "{remote} {error}");
            assert!(!format!("{error:?}").contains("canary"));
        }
        for bad in ["", "db.sqlite3", "oracle://x/y", "sqlite://db.sqlite3", "sqlite::memory:"] {
            assert!(matches!(Database::open(bad).await, Err(DatabaseError::Address)), "{bad}");
        }
    }
}
