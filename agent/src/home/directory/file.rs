//! Home method `file`: the users are in a file of the operator's ([`users_file`](super::users_file)). It is read again when
//! it has changed, so that whom the operator disables is out within the time of the accounts' watch.
//!
//! Whether a name exists is not told by how long an answer takes: a password is hashed for every try, for unknown names
//! against a hash that nothing fits.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use homeward_proto::v1::VerifiedIdentity;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use super::users_file::{Hash, Stamp, User, UsersFile, UsersFileError};
use super::{Account, DirectoryError, Verdict};
use crate::home::decision::Note;
use crate::home::{PortalError, TypedCredentials, vouching};

/// How many passwords are hashed at once: each takes 19 MiB, and a processor.
const AT_ONCE: usize = 2;

/// The users of a file.
#[derive(Debug)]
pub(crate) struct FileUsers {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<UsersFile>)>>,
    /// What the passwords of unknown names are compared with.
    nobodys: Hash,
    hashing: Semaphore,
}

impl FileUsers {
    /// Those of this file, which may not be there yet.
    pub(super) fn new(path: PathBuf) -> Result<Self, UsersFileError> {
        let nobodys = Hash::of(&"nobody's".into())?;
        Ok(Self { path, read: Mutex::default(), nobodys, hashing: Semaphore::new(AT_ONCE) })
    }

    /// Whether the password is this user's.
    pub(super) async fn judge(&self, typed: &TypedCredentials) -> Result<Verdict, PortalError> {
        let file = match self.current() {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(%error, "nobody can log in: the file of users cannot be used");
                return Ok(Verdict::Refused(Note::ApplicationDown));
            }
        };
        let user = file.named(&typed.username);
        let hash = user.map_or(&self.nobodys, |user| &user.password).clone();
        let is_right = self.verify(typed, hash).await;
        match user {
            Some(user) if is_right && user.disabled => Ok(Verdict::Refused(Note::Disabled)),
            Some(user) if is_right => Ok(Verdict::Ok(Box::new(vouched(user)?))),
            Some(_) | None => Ok(Verdict::Refused(Note::Wrong)),
        }
    }

    /// What became of users.
    pub(super) fn accounts(&self, home_user_ids: &[&str]) -> Result<Vec<Account>, DirectoryError> {
        let file = self.current().map_err(|error| DirectoryError::Unavailable(error.to_string()))?;
        let account = |id: &&str| match file.users.iter().find(|user| user.id == *id) {
            Some(user) if user.disabled => Account::Disabled,
            Some(_) => Account::Active,
            None => Account::Removed,
        };
        Ok(home_user_ids.iter().map(account).collect())
    }

    /// What would be said of a user.
    pub(super) fn look_up(&self, username: &str) -> Result<Option<VerifiedIdentity>, DirectoryError> {
        let file = self.current().map_err(|error| DirectoryError::Unavailable(error.to_string()))?;
        let identity = file.named(username).map(vouched).transpose();
        identity.map_err(|error| DirectoryError::Unavailable(error.to_string()))
    }

    /// Whether the file can be used.
    pub(super) fn check(&self) -> Result<(), DirectoryError> {
        self.current().map(|_| ()).map_err(|error| DirectoryError::Unavailable(error.to_string()))
    }

    /// The file as it is now.
    fn current(&self) -> Result<Arc<UsersFile>, UsersFileError> {
        let stamp = Stamp::of(&self.path)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, file)) = &*read
            && *known == stamp
        {
            return Ok(file.clone());
        }
        let (file, stamp) = UsersFile::load(&self.path)?;
        let file = Arc::new(file);
        *read = Some((stamp, file.clone()));
        Ok(file)
    }

    async fn verify(&self, typed: &TypedCredentials, hash: Hash) -> bool {
        let Ok(_turn) = self.hashing.acquire().await else { return false };
        let password = typed.password.clone();
        let verify = move || Argon2::default().verify_password(password.expose_secret().as_bytes(), hash.phc()).is_ok();
        tokio::task::spawn_blocking(verify).await.unwrap_or(false)
    }
}

/// The operator wrote the address, and vouches for it.
fn vouched(user: &User) -> Result<VerifiedIdentity, PortalError> {
    vouching::checked(VerifiedIdentity {
        home_user_id: user.id.clone(),
        username: user.username.clone(),
        name: user.name.clone(),
        email: user.email.clone(),
        email_verified: true,
        groups: user.groups.clone(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::users_file::{Disabled, NewUser, add, remove, set_disabled};
    use super::*;

    #[tokio::test]
    async fn who_is_in_the_file_logs_in_until_the_operator_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let users = FileUsers::new(path.clone()).unwrap();
        let judge = async |username: &str, password: &str| {
            let typed = TypedCredentials { username: username.to_owned(), password: password.into() };
            users.judge(&typed).await.unwrap()
        };
        let down = judge("alice", "correct horse").await;
        assert!(matches!(down, Verdict::Refused(Note::ApplicationDown)), "no file yet");
        let (password, email) = ("correct horse".into(), Some("alice@alpha.example".to_owned()));
        let alice = NewUser { username: "alice".to_owned(), password, email, name: None, groups: Vec::new() };
        let id = add(&path, &alice).unwrap();
        let Verdict::Ok(identity) = judge("alice", "correct horse").await else { panic!("refused") };
        assert_eq!(
            (&identity.home_user_id, &*identity.email, identity.email_verified),
            (&id, "alice@alpha.example", true)
        );
        assert_eq!(users.look_up("alice").unwrap().unwrap(), *identity);
        assert_eq!(users.look_up("bob").unwrap(), None);
        for (username, password) in [("alice", "wrong"), ("alice", ""), ("bob", "correct horse"), ("", "")] {
            let verdict = judge(username, password).await;
            assert!(matches!(verdict, Verdict::Refused(Note::Wrong)), "{username} {verdict:?}");
        }
        assert_eq!(users.accounts(&[&id]).unwrap(), [Account::Active]);
        set_disabled(&path, "alice", Disabled::Yes).unwrap();
        assert_eq!(users.accounts(&[&id]).unwrap(), [Account::Disabled]);
        assert!(matches!(judge("alice", "correct horse").await, Verdict::Refused(Note::Disabled)));
        assert!(
            matches!(judge("alice", "wrong").await, Verdict::Refused(Note::Wrong)),
            "strangers learn nothing of it"
        );
        remove(&path, "alice").unwrap();
        assert_eq!(users.accounts(&[&id]).unwrap(), [Account::Removed]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(users.accounts(&[&id]).ok(), None, "a missing file says nothing of anybody");
    }
}
