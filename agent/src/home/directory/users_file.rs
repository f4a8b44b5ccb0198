//! The file of a home that has no application to ask: who its users are, and what `homeward-agent user` does with it.
//!
//! People edit it too, so what they wrote, comments included, stays as it is where nothing changes. It is replaced whole
//! (write, fsync, rename) under a lock on its folder, and only its owner may read it: hashes of passwords are in it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use uuid::Uuid;

use crate::disk;

/// A file of that length has tens of thousands of users: it is not a small home any more.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// What a stranger at the form can make this machine do is bounded: far above what anybody recommends.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 10;
/// Shortest password that is taken, in characters (NIST SP 800-63B 3.1.1.2, where it is not the only factor).
const SHORTEST_PASSWORD: usize = 8;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersFile {
    /// Its users.
    #[serde(default, rename = "user")]
    pub(crate) users: Vec<User>,
}

/// One user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Never changes, and never belongs to anybody else.
    pub(crate) id: String,
    /// The login name.
    pub(crate) username: String,
    /// Argon2id, as a PHC string.
    pub(crate) password: Hash,
    /// Address; the operator who writes it vouches for it.
    #[serde(default)]
    pub(crate) email: String,
    /// Full name.
    #[serde(default)]
    pub(crate) name: String,
    /// Groups.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// Whether the user may not log in.
    #[serde(default)]
    pub(crate) disabled: bool,
}

/// The hash of a password. Not for logs: it can be guessed at.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Hash(PasswordHash);

/// A user to be made.
#[derive(Debug)]
pub(crate) struct NewUser {
    /// The login name.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: SecretString,
    /// Address.
    pub(crate) email: Option<String>,
    /// Full name.
    pub(crate) name: Option<String>,
    /// Groups.
    pub(crate) groups: Vec<String>,
}

/// What tells one state of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    mode: u32,
    modified: SystemTime,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum UsersFileError {
    /// Reading, locking or writing.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Hashes of passwords are in it.
    #[error("{path} is open to other users; run: chmod 600 {path}", path = .0.display())]
    TooOpen(PathBuf),
    /// Not a file of users. The parser's own sentence would quote the line, and in it a hash.
    #[error("{path} is no file of users{line}; each [[user]] needs id, username and password (argon2id), and may have email, name, groups and disabled", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, as a text.
        line: String,
    },
    /// Two users with one name or one id.
    #[error("{path} has two users {what:?}: names (of whatever case) and ids must differ", path = path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Name or id.
        what: String,
    },
    /// The name is taken.
    #[error("there is a user {0:?} already; names that differ only in case are one")]
    Taken(String),
    /// No such user.
    #[error("there is no user {0:?}; `homeward-agent user list` shows all")]
    Unknown(String),
    /// Not a name.
    #[error("a user name has 1 to 150 characters, none of them spaces or control characters")]
    Username,
    /// Nothing can be sent there.
    #[error("{0:?} is no address; give one like greta@example.org")]
    Email(String),
    /// Too short.
    #[error("a password needs at least {SHORTEST_PASSWORD} characters")]
    ShortPassword,
    /// The hash could not be made.
    #[error("the password cannot be hashed: the operating system gives no randomness or no memory")]
    NotHashed,
}

/// Not a hash that this home can check.
#[derive(Debug, Error)]
#[error("not an argon2id hash of at most 256 MiB and 10 passes")]
pub(crate) struct NotAHash;

impl UsersFile {
    /// Reads a file, and says which state of it that is.
    pub(crate) fn load(path: &Path) -> Result<(Self, Stamp), UsersFileError> {
        let (text, stamp) = read(path)?;
        Self::parse(path, &text).map(|file| (file, stamp))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, UsersFileError> {
        let malformed = |error: toml::de::Error| {
            let line = error.span().map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
            let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
            UsersFileError::Malformed { path: path.to_owned(), line }
        };
        let file: Self = toml::from_str(text).map_err(malformed)?;
        for (position, user) in file.users.iter().enumerate() {
            let same = |other: &&User| same_name(&other.username, &user.username) || other.id == user.id;
            if let Some(other) = file.users[..position].iter().find(same) {
                return Err(UsersFileError::Twice { path: path.to_owned(), what: other.username.clone() });
            }
        }
        Ok(file)
    }

    /// The user of that name.
    pub(crate) fn named(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }
}

impl Stamp {
    /// Of the file as it is now.
    pub(crate) fn of(path: &Path) -> Result<Self, UsersFileError> {
        let metadata = path.metadata().map_err(failed("read", path))?;
        let modified = metadata.modified().map_err(failed("read", path))?;
        Ok(Self { inode: metadata.ino(), length: metadata.len(), mode: metadata.mode(), modified })
    }
}

impl Hash {
    /// Of a password, with a salt of its own.
    pub(crate) fn of(password: &SecretString) -> Result<Self, UsersFileError> {
        let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
        hash.map(Self).map_err(|_| UsersFileError::NotHashed)
    }

    /// For the crate that checks it.
    pub(crate) fn phc(&self) -> &PasswordHash {
        &self.0
    }
}

impl TryFrom<String> for Hash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        let hash = PasswordHash::new(&text).map_err(|_| NotAHash)?;
        // Argon2i and Argon2d are weaker each in its way (RFC 9106 4), and no other algorithm is here to check it.
        if hash.algorithm.as_str() != "argon2id" {
            return Err(NotAHash);
        }
        let params = Params::try_from(&hash).map_err(|_| NotAHash)?;
        if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES { Err(NotAHash) } else { Ok(Self(hash)) }
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// Adds a user; the identifier that it gets.
pub(crate) fn add(path: &Path, user: &NewUser) -> Result<String, UsersFileError> {
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    if !(1..=150).contains(&user.username.chars().count()) || !user.username.chars().all(plain) {
        return Err(UsersFileError::Username);
    }
    if let Some(email) = user.email.as_ref().filter(|email| !is_address(email)) {
        return Err(UsersFileError::Email(email.clone()));
    }
    let hash = hash_of_new(&user.password)?;
    let id = Uuid::new_v4().to_string();
    edit(path, |file, document| {
        if file.users.iter().any(|other| same_name(&other.username, &user.username)) {
            return Err(UsersFileError::Taken(user.username.clone()));
        }
        let mut table = Table::new();
        table["id"] = value(&id);
        table["username"] = value(&user.username);
        table["password"] = value(hash.phc().to_string());
        for (key, text) in [("email", &user.email), ("name", &user.name)] {
            if let Some(text) = text {
                table[key] = value(text);
            }
        }
        if !user.groups.is_empty() {
            table["groups"] = value(toml_edit::Array::from_iter(&user.groups));
        }
        let users = document.entry("user").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        users.as_array_of_tables_mut().ok_or_else(|| inline(path))?.push(table);
        Ok(())
    })?;
    Ok(id)
}

/// Lets a user log in, or no longer.
pub(crate) fn set_disabled(path: &Path, username: &str, disabled: Disabled) -> Result<(), UsersFileError> {
    edit(path, |_, document| {
        let table = table_of(path, document, username)?;
        match disabled {
            Disabled::Yes => table["disabled"] = value(true),
            Disabled::No => {
                table.remove("disabled");
            }
        }
        Ok(())
    })
}

/// Whether a user may not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disabled {
    /// Not any more.
    Yes,
    /// The user may.
    No,
}

/// Gives a user another password.
pub(crate) fn set_password(path: &Path, username: &str, password: &SecretString) -> Result<(), UsersFileError> {
    let hash = hash_of_new(password)?;
    edit(path, |_, document| {
        table_of(path, document, username)?["password"] = value(hash.phc().to_string());
        Ok(())
    })
}

/// Removes a user. Whoever gets the name later is somebody else, by another identifier.
pub(crate) fn remove(path: &Path, username: &str) -> Result<(), UsersFileError> {
    edit(path, |file, document| {
        let position = file.users.iter().position(|user| user.username == username);
        let position = position.ok_or_else(|| UsersFileError::Unknown(username.to_owned()))?;
        let users = document.get_mut("user").and_then(Item::as_array_of_tables_mut).ok_or_else(|| inline(path))?;
        users.remove(position);
        Ok(())
    })
}

/// Changes the file, one change at a time.
fn edit(
    path: &Path,
    change: impl FnOnce(&UsersFile, &mut DocumentMut) -> Result<(), UsersFileError>,
) -> Result<(), UsersFileError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // The folder's lock, not the file's: the file is another one after each change.
    let lock = File::open(folder).map_err(failed("open", folder))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed("lock", folder)(errno.into()))?;
    let text = match read(path) {
        Ok((text, _)) => text,
        Err(UsersFileError::Failed { source, .. }) if source.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let file = UsersFile::parse(path, &text)?;
    let malformed = |_| UsersFileError::Malformed { path: path.to_owned(), line: String::new() };
    let mut document: DocumentMut = text.parse().map_err(malformed)?;
    change(&file, &mut document)?;
    let text = document.to_string();
    // What this writes, it must be able to read.
    UsersFile::parse(path, &text)?;
    disk::replace_private(path, text.as_bytes()).map_err(failed("write", path))
}

fn table_of<'a>(path: &Path, document: &'a mut DocumentMut, username: &str) -> Result<&'a mut Table, UsersFileError> {
    let users = document.get_mut("user").and_then(Item::as_array_of_tables_mut);
    let mut tables = users.ok_or_else(|| inline(path))?.iter_mut();
    let found = tables.find(|table| table.get("username").and_then(Item::as_str) == Some(username));
    found.ok_or_else(|| UsersFileError::Unknown(username.to_owned()))
}

/// `user = [{…}]` is legal TOML, and not what this program changes.
fn inline(path: &Path) -> UsersFileError {
    UsersFileError::Malformed { path: path.to_owned(), line: " with [[user]] tables".to_owned() }
}

fn hash_of_new(password: &SecretString) -> Result<Hash, UsersFileError> {
    if password.expose_secret().chars().count() < SHORTEST_PASSWORD {
        return Err(UsersFileError::ShortPassword);
    }
    Hash::of(password)
}

/// As far as can be told without writing to it.
fn is_address(text: &str) -> bool {
    let sides = text.split_once('@').filter(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
    sides.is_some() && text.len() <= 254 && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn read(path: &Path) -> Result<(String, Stamp), UsersFileError> {
    // The stamp first: a change while the file is read shows at the next look.
    let stamp = Stamp::of(path)?;
    let file = File::open(path).map_err(failed("read", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(UsersFileError::TooOpen(path.to_owned()));
    }
    let mut text = String::new();
    file.take(LARGEST_FILE).read_to_string(&mut text).map_err(failed("read", path))?;
    Ok((text, stamp))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UsersFileError {
    let path = path.to_owned();
    move |source| UsersFileError::Failed { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_user(username: &str) -> NewUser {
        NewUser {
            username: username.to_owned(),
            password: "correct horse".into(),
            email: Some("alice@alpha.example".to_owned()),
            name: None,
            groups: vec!["Engineering".to_owned()],
        }
    }

    #[test]
    fn an_address_and_closed_permissions_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        for bad in ["notmail", "@alpha.example", "alice@", "a@b@c", "a lice@alpha.example"] {
            let user = NewUser { email: Some(bad.to_owned()), ..new_user("alice") };
            assert!(matches!(add(&path, &user), Err(UsersFileError::Email(_))), "{bad}");
        }
        add(&path, &new_user("alice")).unwrap();
        let before = Stamp::of(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_ne!(Stamp::of(&path).unwrap(), before);
    }

    #[test]
    fn users_are_added_changed_and_removed_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let id = add(&path, &new_user("alice")).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let commented = format!("# Who is who.\n{}", std::fs::read_to_string(&path).unwrap());
        disk::replace_private(&path, commented.as_bytes()).unwrap();
        add(&path, &new_user("bob")).unwrap();
        set_disabled(&path, "alice", Disabled::Yes).unwrap();
        let (file, _) = UsersFile::load(&path).unwrap();
        let alice = file.named("alice").unwrap();
        assert_eq!((&alice.id, alice.disabled, &*alice.groups[0]), (&id, true, "Engineering"));
        assert!(!file.named("bob").unwrap().disabled);
        set_disabled(&path, "alice", Disabled::No).unwrap();
        set_password(&path, "alice", &"another horse".into()).unwrap();
        remove(&path, "bob").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Who is who.") && !text.contains("bob") && !text.contains("horse"), "{text}");
        let again = add(&path, &new_user("bob")).unwrap();
        assert!(!text.contains(&again), "the next of that name is somebody else");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        add(&path, &new_user("alice")).unwrap();
        assert!(matches!(add(&path, &new_user("Alice")), Err(UsersFileError::Taken(_))));
        assert!(matches!(add(&path, &new_user("a b")), Err(UsersFileError::Username)));
        assert!(matches!(remove(&path, "bob"), Err(UsersFileError::Unknown(_))));
        assert!(matches!(set_disabled(&path, "bob", Disabled::Yes), Err(UsersFileError::Unknown(_))));
        let short = NewUser { password: "short".into(), ..new_user("bob") };
        assert!(matches!(add(&path, &short), Err(UsersFileError::ShortPassword)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(UsersFile::load(&path), Err(UsersFileError::TooOpen(_))));
    }

    #[test]
    fn a_hash_costs_no_more_than_a_machine_has() {
        let hash = |m: u32, t: u32| {
            Hash::try_from(format!(
                "$argon2id$v=19$m={m},t={t},p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
            ))
        };
        assert!(hash(19456, 2).is_ok() && hash(262_144, 10).is_ok());
        assert!(hash(262_145, 2).is_err() && hash(19456, 11).is_err() && hash(u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn a_bad_file_is_named_and_not_quoted() {
        let path = Path::new("/etc/users.toml");
        for (bad, line) in [
            ("[[user]]\nid = '1'\nusername = 'a'\npassword = '$1$canary'", "line 4"),
            ("[[user]]\nid = '1'\nusername = 'a'", "line 1"),
            ("\n\n[[user]]\ncanary = 1", "line 4"),
        ] {
            let error = UsersFile::parse(path, bad).unwrap_err();
            let sentence = format!("{error} {error:?}");
            assert!(sentence.contains(line) && !sentence.contains("canary"), "{sentence}");
        }
        let user = |id: &str, name: &str| {
            let hash = Hash::of(&"x".into()).unwrap();
            format!("[[user]]\nid = '{id}'\nusername = '{name}'\npassword = '{}'\n", hash.phc())
        };
        for twice in [user("1", "a") + &user("1", "b"), user("1", "a") + &user("2", "A")] {
            assert!(matches!(UsersFile::parse(path, &twice), Err(UsersFileError::Twice { .. })));
        }
        assert!(!format!("{:?}", Hash::of(&"x".into()).unwrap()).contains("argon"));
    }
}
