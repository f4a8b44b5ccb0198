//! Whose files credentials are: names from the configuration, looked up once in `/etc/passwd` and `/etc/group`. (Users
//! that only a name service knows are given by number.)

use rustix::fs::{Gid, Uid};
use thiserror::Error;

/// User and group of a file; what is unset stays the agent's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<Uid>,
    /// The group.
    pub group: Option<Gid>,
}

/// Why an owner is not known.
#[derive(Debug, Error)]
pub enum OwnerError {
    /// Not in `/etc/passwd`.
    #[error("there is no user {0:?} in /etc/passwd; correct owner, or give the user's number")]
    NoUser(String),
    /// Not in `/etc/group`.
    #[error("there is no group {0:?} in /etc/group; correct group, or give the group's number")]
    NoGroup(String),
    /// The tables cannot be read.
    #[error("cannot look up owner and group: {0}")]
    Unreadable(#[from] std::io::Error),
}

impl Owner {
    /// Looks names (or numbers) up.
    pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Self, OwnerError> {
        let user = user
            .map(|name| number("/etc/passwd", name)?.ok_or_else(|| OwnerError::NoUser(name.to_owned())))
            .transpose()?;
        let group = group
            .map(|name| number("/etc/group", name)?.ok_or_else(|| OwnerError::NoGroup(name.to_owned())))
            .transpose()?;
        Ok(Self { user: user.map(Uid::from_raw), group: group.map(Gid::from_raw) })
    }
}

fn number(table: &str, name: &str) -> Result<Option<u32>, OwnerError> {
    // chown(2) takes the largest number for "leave as it is".
    if let Some(number) = name.parse().ok().filter(|number| *number != u32::MAX) {
        return Ok(Some(number));
    }
    Ok(find(&std::fs::read_to_string(table)?, name))
}

/// `name:password:number:…`
fn find(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up() {
        let table = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/bin/false\n";
        assert_eq!(find(table, "www-data"), Some(33));
        assert_eq!(find(table, "www"), None);
        assert_eq!(Owner::resolve(Some("0"), None).unwrap().user, Some(Uid::ROOT));
        assert!(matches!(Owner::resolve(None, Some("no-such-group")), Err(OwnerError::NoGroup(_))));
        assert!(Owner::resolve(Some("4294967295"), None).is_err());
    }
}
