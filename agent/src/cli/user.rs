//! `homeward-agent user`: the users of a home that has a file of them (home method `file`). What is changed counts at once:
//! an agent that runs reads the file again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::json;

use super::password::{self, PasswordError};
use super::{Failure, Report, load};
use crate::home::directory::users_file::{self, Disabled, NewUser, UsersFile, UsersFileError};

/// Users.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Adds a user; the password is asked for, or comes from a file.
    Add(Add),
    /// Lists all users.
    List,
    /// Lets a user log in no more; sessions elsewhere end within [home] watch_every.
    Disable {
        /// The login name.
        username: String,
    },
    /// Lets a disabled user log in again.
    Enable {
        /// The login name.
        username: String,
    },
    /// Gives a user another password.
    Password {
        /// The login name.
        username: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Removes a user; whoever gets the name later is somebody else everywhere.
    Remove {
        /// The login name.
        username: String,
    },
}

/// A user to be added.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The login name.
    username: String,
    /// Address; this home vouches for it.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Full name.
    #[arg(long)]
    name: Option<String>,
    /// A group; may be repeated.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    password: PasswordSource,
}

/// Where a password comes from. Never from an argument: everybody on the machine can read those.
#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// File with the password in its first line, closed to other users; asked for if unset.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Why the file is not changed.
#[derive(Debug, thiserror::Error)]
enum UserError {
    #[error("this agent has no file of users: set [home] methods = [\"file\"] and [home.file] users_file")]
    NoFile,
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl User {
    pub(super) fn carry_out(self, config: &Path, report: Report) -> Result<(), Failure> {
        let config = load(config)?;
        let path = config.home.and_then(|home| home.users_file).ok_or(UserError::NoFile).map_err(Failure::refused)?;
        let (done, sentence) = match self {
            Self::List => return list(&path, report),
            Self::Add(add) => return add.carry_out(&path, report),
            Self::Disable { username } => (
                users_file::set_disabled(&path, &username, Disabled::Yes),
                format!("{username} is disabled; sessions elsewhere end within [home] watch_every."),
            ),
            Self::Enable { username } => {
                (users_file::set_disabled(&path, &username, Disabled::No), format!("{username} may log in again."))
            }
            Self::Password { username, password } => {
                let password = password.read().map_err(Failure::refused)?;
                let done = users_file::set_password(&path, &username, &password);
                (done, format!("{username} has another password now."))
            }
            Self::Remove { username } => (
                users_file::remove(&path, &username),
                format!("{username} is removed; sessions elsewhere end after two rounds of [home] watch_every."),
            ),
        };
        done.map_err(Failure::refused)?;
        eprintln!("{sentence}");
        Ok(())
    }
}

impl Add {
    fn carry_out(self, path: &Path, report: Report) -> Result<(), Failure> {
        let Self { username, email, name, groups, password } = self;
        let password = password.read().map_err(Failure::refused)?;
        let user = NewUser { username, password, email, name, groups };
        let id = users_file::add(path, &user).map_err(Failure::refused)?;
        report.one(&[("username", json!(user.username)), ("id", json!(id))]);
        Ok(())
    }
}

impl PasswordSource {
    fn read(&self) -> Result<SecretString, UserError> {
        Ok(password::read(self.password_file.as_deref(), "Password: ")?)
    }
}

fn list(path: &Path, report: Report) -> Result<(), Failure> {
    let file = match UsersFile::load(path) {
        Ok((file, _)) => file,
        Err(UsersFileError::Failed { source, .. }) if source.kind() == ErrorKind::NotFound => {
            eprintln!("There is no {} yet; `homeward-agent user add` makes it.", path.display());
            UsersFile::default()
        }
        Err(error) => return Err(Failure::refused(error)),
    };
    let row = |user: &users_file::User| {
        let optional = |text: &str| if text.is_empty() { json!(null) } else { json!(text) };
        vec![
            json!(user.username),
            optional(&user.name),
            optional(&user.email),
            json!(user.groups),
            json!(user.disabled),
            json!(user.id),
        ]
    };
    let rows: Vec<_> = file.users.iter().map(row).collect();
    report.many(&["username", "name", "email", "groups", "disabled", "id"], &rows);
    Ok(())
}
