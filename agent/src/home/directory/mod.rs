//! Who knows the users of this home: the application, a directory server, or a file. All three answer the same three
//! questions, so that nobody else asks which it is:
//!
//! 1. whose are name and password ([`Directory::judge`]);
//! 2. may those whom this home vouched for still log in ([`Directory::accounts`]);
//! 3. what would this home say of a user, without a login ([`Directory::look_up`]).
//!
//! The application is asked by its recipe ([`application`], [`password`]), a directory server by LDAP ([`ldap`]), and the
//! file is the operator's own ([`file`], [`users_file`]).

pub(crate) mod application;
pub(crate) mod file;
pub(crate) mod ldap;
pub(crate) mod password;
pub(crate) mod users_file;

use std::net::IpAddr;

use homeward_proto::v1::VerifiedIdentity;
use thiserror::Error;

use self::application::ApplicationUsers;
use self::file::FileUsers;
use self::ldap::{LdapFailure, LdapUsers};
use self::password::SignIn;
use self::users_file::UsersFileError;
use super::decision::Note;
use super::{PortalError, TypedCredentials};
use crate::application::Application;
use crate::config::Config;

/// Who knows the users.
#[derive(Debug)]
pub(crate) enum Directory {
    /// The application.
    Application(Box<ApplicationUsers>),
    /// A directory server.
    Ldap(Box<LdapUsers>),
    /// A file of the operator's.
    File(Box<FileUsers>),
}

/// How name and password were judged.
pub(crate) enum Verdict {
    /// This is whose they are.
    Ok(Box<VerifiedIdentity>),
    /// The password is right; a code is asked for now, in the same conversation.
    CodeNeeded(Box<SignIn>),
    /// Not so.
    Refused(Note),
}

impl std::fmt::Debug for Verdict {
    /// It stands in the log: who somebody is, is for the broker.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ok(_) => f.write_str("Ok"),
            Self::CodeNeeded(_) => f.write_str("CodeNeeded"),
            Self::Refused(note) => f.debug_tuple("Refused").field(note).finish(),
        }
    }
}

/// What became of somebody whom this home vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// May log in.
    Active,
    /// May not.
    Disabled,
    /// Is not there.
    Removed,
    /// Nobody says.
    Unknown,
}

/// Why nothing can be said of a user.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    /// Only a login tells.
    #[error("this home knows nothing of its users without a login: its recipe has no [home.directory]")]
    Unsupported,
    /// Not at the moment.
    #[error("{0}")]
    Unavailable(String),
}

/// Why there is no directory.
#[derive(Debug, Error)]
pub enum NoDirectory {
    /// The section `[home.ldap]`.
    #[error("[home.ldap]: {0}")]
    Ldap(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The section `[home.file]`.
    #[error("[home.file]: {0}")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Directory {
    /// As the configuration says; `None` if the instance is no home.
    pub(crate) fn new(config: &Config, application: &Application) -> Result<Option<Self>, NoDirectory> {
        let Some(home) = &config.home else { return Ok(None) };
        let directory = match (&home.ldap, &home.users_file) {
            (Some(ldap), _) => Self::Ldap(Box::new(LdapUsers::new(ldap.clone())?)),
            (None, Some(path)) => Self::File(Box::new(FileUsers::new(path.clone())?)),
            (None, None) => Self::Application(Box::new(ApplicationUsers::new(config, application.clone()))),
        };
        Ok(Some(directory))
    }

    /// Whose name and password are. `source` is where they were typed.
    pub(crate) async fn judge(&self, typed: TypedCredentials, source: IpAddr) -> Result<Verdict, PortalError> {
        match self {
            Self::Application(users) => users.judge(typed, source).await,
            Self::Ldap(users) => users.judge(&typed).await,
            Self::File(users) => users.judge(&typed).await,
        }
    }

    /// Whether anybody can say what became of a user.
    pub(crate) fn knows_accounts(&self) -> bool {
        match self {
            Self::Application(users) => users.knows_accounts(),
            Self::Ldap(users) => users.knows_accounts(),
            Self::File(_) => true,
        }
    }

    /// What became of users, who are named as in a verified identity: of each, in this order. Whoever cannot be asked
    /// about one cannot be asked about the next: then it is no answer at all.
    pub(crate) async fn accounts(&self, home_user_ids: &[&str]) -> Result<Vec<Account>, DirectoryError> {
        match self {
            Self::Application(users) => users.accounts(home_user_ids).await,
            Self::Ldap(users) => users.accounts(home_user_ids).await,
            Self::File(users) => users.accounts(home_user_ids),
        }
    }

    /// What would be said of a user after a login; `None` if there is no user of that name.
    pub(crate) async fn look_up(&self, username: &str) -> Result<Option<VerifiedIdentity>, DirectoryError> {
        match self {
            Self::Application(users) => users.look_up(username).await,
            Self::Ldap(users) => users.look_up(username).await,
            Self::File(users) => users.look_up(username),
        }
    }

    /// Whether anybody's password could be judged now.
    pub(crate) async fn check(&self) -> Result<(), DirectoryError> {
        match self {
            // Whether it is up, others ask.
            Self::Application(_) => Ok(()),
            Self::Ldap(users) => users.check().await,
            Self::File(users) => users.check(),
        }
    }
}

impl From<LdapFailure> for NoDirectory {
    fn from(failure: LdapFailure) -> Self {
        Self::Ldap(Box::new(failure))
    }
}

impl From<UsersFileError> for NoDirectory {
    fn from(error: UsersFileError) -> Self {
        Self::File(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_in_the_log_tells_nothing_of_anybody() {
        let canary = || "canary".to_owned();
        let identity = VerifiedIdentity {
            home_user_id: canary(),
            username: canary(),
            name: canary(),
            given_name: canary(),
            family_name: canary(),
            email: canary(),
            groups: vec![canary()],
            ..Default::default()
        };
        assert_eq!(format!("{:?}", Verdict::Ok(Box::new(identity))), "Ok");
        assert_eq!(format!("{:?}", Verdict::Refused(Note::Wrong)), "Refused(Wrong)");
    }
}
