//! What a home says of one of its users, and what of it is believed.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Longest stable identifier, in bytes.
const MAX_HOME_USER_ID: usize = 255;

/// Longest login name, in characters: what Django stores.
const MAX_USERNAME: usize = 150;

/// Longest name, and longest name of a group, in characters.
const MAX_NAME: usize = 255;

/// Longest email address (RFC 5321 4.5.3.1.3), in bytes.
const MAX_EMAIL: usize = 254;

/// Most groups.
const MAX_GROUPS: usize = 128;

/// Most authentication methods, and their length.
const MAX_AMR: (usize, usize) = (16, 64);

/// Longest authentication context class, in bytes.
const MAX_ACR: usize = 255;

/// Most further attributes, and the length of one in characters.
const MAX_ATTRIBUTES: (usize, usize) = (32, 2048);

/// How far a home's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What a home says of a user, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertedIdentity {
    /// The home's own stable identifier.
    pub home_user_id: String,
    /// Login name.
    pub username: String,
    /// Full name, or nothing.
    pub name: String,
    /// Given name, or nothing.
    pub given_name: String,
    /// Family name, or nothing.
    pub family_name: String,
    /// Email address, or nothing.
    pub email: String,
    /// Whether the home has verified the address.
    pub email_verified: bool,
    /// Groups at the home.
    pub groups: Vec<String>,
    /// When the user last proved who they are; unset if the home does not know.
    pub auth_time: Option<Timestamp>,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// Authentication context class that the home vouches for, if it knows one. Carried through, never raised.
    #[serde(default)]
    pub acr: Option<String>,
    /// Further standard claims by name, as text; `address.<member>` for the members of an address.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Whether the user name is that of another user of this home: no name is made of it alone then. Not the home's to say:
    /// the broker finds it out.
    #[serde(default)]
    pub name_is_held: bool,
}

impl AssertedIdentity {
    /// Accepts it as it is, or refuses it: a value that is cut to fit may be somebody else's.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(self, now: Timestamp) -> Result<VerifiedIdentity, IdentityError> {
        let graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.home_user_id.len() > MAX_HOME_USER_ID || !proper(&self.home_user_id, MAX_HOME_USER_ID) {
            return Err(IdentityError::HomeUserId);
        }
        if !proper(&self.username, MAX_USERNAME) {
            return Err(IdentityError::Username);
        }
        if ![&self.name, &self.given_name, &self.family_name].into_iter().all(|name| short(name, MAX_NAME)) {
            return Err(IdentityError::Name);
        }
        if !self.email.is_empty() && !is_address(&self.email) {
            return Err(IdentityError::Email);
        }
        if self.groups.len() > MAX_GROUPS || !self.groups.iter().all(|group| proper(group, MAX_NAME)) {
            return Err(IdentityError::Groups);
        }
        let (most, longest) = MAX_AMR;
        if self.amr.len() > most || !self.amr.iter().all(|method| graphic(method) && method.len() <= longest) {
            return Err(IdentityError::Amr);
        }
        if self.acr.as_ref().is_some_and(|acr| !graphic(acr) || acr.len() > MAX_ACR) {
            return Err(IdentityError::Acr);
        }
        let (most, longest) = MAX_ATTRIBUTES;
        if self.attributes.len() > most || !self.attributes.values().all(|value| short(value, longest)) {
            return Err(IdentityError::Attributes);
        }
        if self.auth_time.is_some_and(|at| at > now + CLOCK_SKEW || at < Timestamp::from_secs(0)) {
            return Err(IdentityError::AuthTime);
        }
        Ok(VerifiedIdentity(Self { name_is_held: false, ..self }))
    }

    /// The same without what only adorns it and does not fit: nobody is kept out by a long list of groups, where there is
    /// no agent to shorten it. Nothing by which accounts are found is left out or cut.
    pub fn without_excess(mut self) -> Self {
        for name in [&mut self.name, &mut self.given_name, &mut self.family_name] {
            if !short(name, MAX_NAME) {
                name.clear();
            }
        }
        self.groups.retain(|group| proper(group, MAX_NAME));
        self.groups.truncate(MAX_GROUPS);
        let (most, longest) = MAX_ATTRIBUTES;
        let fitting = self.attributes.into_iter().filter(|(_, value)| short(value, longest));
        self.attributes = fitting.take(most).collect();
        self
    }
}

/// Whether a text has so many characters at most, and none that controls anything.
fn short(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
}

fn proper(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && short(text, most)
}

/// One address, as applications read it: what could be two of them, or a name in front of one, is none. Quoted local parts
/// (RFC 5321 4.1.2) are none either; nobody has one.
fn is_address(email: &str) -> bool {
    let parts = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '"');
    parts && email.len() <= MAX_EMAIL && !email.chars().any(odd)
}

/// What a home vouches for, within all limits. Made by [`AssertedIdentity::verify`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VerifiedIdentity(AssertedIdentity);

/// Between the home's own id of a user and the number of the incarnation, in `home_user_id`: no home can say it, being a
/// control character.
const INCARNATION: char = '\u{1f}';

impl VerifiedIdentity {
    /// The same, of a later user who has the id of one whom the home removed.
    pub(super) fn of_incarnation(self, incarnation: u32) -> Self {
        let home_user_id = Self::id_of(&self.0.home_user_id, incarnation);
        Self(AssertedIdentity { home_user_id, ..self.0 })
    }

    /// The same, with whether another user of the home has the name.
    pub fn whose_name_is_held(self, name_is_held: bool) -> Self {
        Self(AssertedIdentity { name_is_held, ..self.0 })
    }

    /// The id that stands for a user of this incarnation.
    pub(super) fn id_of(home_user_id: &str, incarnation: u32) -> String {
        match incarnation {
            0 => home_user_id.to_owned(),
            later => format!("{home_user_id}{INCARNATION}{later}"),
        }
    }

    /// The id by which the home itself knows the user.
    pub fn id_at_home(&self) -> &str {
        Self::part_of_home(&self.0.home_user_id)
    }

    /// The id by which the home itself knows the user of whom this is made.
    pub fn part_of_home(home_user_id: &str) -> &str {
        home_user_id.split(INCARNATION).next().unwrap_or_default()
    }
}

impl Deref for VerifiedIdentity {
    type Target = AssertedIdentity;

    fn deref(&self) -> &AssertedIdentity {
        &self.0
    }
}

/// Why a home's word is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// See the limits above.
    #[error("home_user_id must be 1 to 255 bytes without control characters")]
    HomeUserId,
    /// See the limits above.
    #[error("username must be 1 to 150 characters without control characters")]
    Username,
    /// See the limits above.
    #[error("a name must be at most 255 characters without control characters")]
    Name,
    /// Not an address.
    #[error("email must be an address of at most 254 bytes, or empty")]
    Email,
    /// Too many, or a bad one.
    #[error("at most 128 groups, each of 1 to 255 characters without control characters")]
    Groups,
    /// Too many, or a bad one.
    #[error("at most 16 authentication methods, each of 1 to 64 printable characters")]
    Amr,
    /// Not printable, or too long.
    #[error("acr must be 1 to {MAX_ACR} printable characters, or empty")]
    Acr,
    /// Too many, or a bad one.
    #[error("at most 32 further attributes, each of at most 2048 characters without control characters")]
    Attributes,
    /// In the future.
    #[error("auth_time lies in the future: set the clock of the home")]
    AuthTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn verify(change: impl FnOnce(&mut AssertedIdentity)) -> Result<VerifiedIdentity, IdentityError> {
        let mut identity = AssertedIdentity {
            home_user_id: "1".into(),
            username: "alice".into(),
            name: String::new(),
            given_name: String::new(),
            family_name: String::new(),
            email: String::new(),
            email_verified: false,
            groups: Vec::new(),
            auth_time: Some(NOW),
            amr: vec!["pwd".into()],
            acr: None,
            attributes: BTreeMap::new(),
            name_is_held: false,
        };
        change(&mut identity);
        identity.verify(NOW)
    }

    #[test]
    fn what_fits_is_taken_unchanged() {
        assert!(verify(|_| {}).is_ok());
        assert_eq!(verify(|i| i.username = "é".repeat(150)).unwrap().username, "é".repeat(150));
        assert!(verify(|i| i.email = "alice@alpha.example".into()).is_ok());
        assert!(verify(|i| i.auth_time = None).is_ok());
        assert!(verify(|i| i.auth_time = Some(NOW + CLOCK_SKEW)).is_ok());
        assert!(verify(|i| i.groups = vec!["staff".into(); 128]).is_ok());
    }

    // B10
    #[test]
    fn what_does_not_fit_is_refused_and_never_cut() {
        use IdentityError as E;
        let late = NOW + CLOCK_SKEW + Duration::from_secs(1);
        let cases: Vec<(Result<VerifiedIdentity, E>, E)> = vec![
            (verify(|i| i.home_user_id.clear()), E::HomeUserId),
            (verify(|i| i.home_user_id = "x".repeat(256)), E::HomeUserId),
            (verify(|i| i.home_user_id = "é".repeat(128)), E::HomeUserId),
            (verify(|i| i.home_user_id = "1\0".into()), E::HomeUserId),
            (verify(|i| i.username = " ".into()), E::Username),
            (verify(|i| i.username = "x".repeat(151)), E::Username),
            (verify(|i| i.username = "a\r\nb".into()), E::Username),
            (verify(|i| i.name = "x".repeat(256)), E::Name),
            (verify(|i| i.family_name = "\u{1b}[2J".into()), E::Name),
            (verify(|i| i.email = "alice".into()), E::Email),
            (verify(|i| i.email = "a b@alpha.example".into()), E::Email),
            (verify(|i| i.email = "@alpha.example".into()), E::Email),
            (verify(|i| i.email = "admin@beta.example,a@alpha.example".into()), E::Email),
            (verify(|i| i.email = "admin@beta.example@alpha.example".into()), E::Email),
            (verify(|i| i.email = "<admin@beta.example>a".into()), E::Email),
            (verify(|i| i.email = "\"a;b\"@alpha.example".into()), E::Email),
            (verify(|i| i.email = format!("{}@a.example", "x".repeat(250))), E::Email),
            (verify(|i| i.groups = vec!["staff".into(); 129]), E::Groups),
            (verify(|i| i.groups = vec![String::new()]), E::Groups),
            (verify(|i| i.amr = vec!["p w".into()]), E::Amr),
            (verify(|i| i.amr = vec!["pwd".into(); 17]), E::Amr),
            (verify(|i| i.auth_time = Some(late)), E::AuthTime),
            (verify(|i| i.auth_time = Some(Timestamp::from_secs(-1))), E::AuthTime),
        ];
        for (index, (refused, rule)) in cases.into_iter().enumerate() {
            assert_eq!(refused.err(), Some(rule), "case {index}");
        }
    }

    #[test]
    fn what_only_adorns_a_user_keeps_nobody_out() {
        let large = |i: &mut AssertedIdentity| {
            i.name = "x".repeat(256);
            i.groups = (0..200).map(|n| format!("group {n}")).chain(["a\r\nb".into()]).collect();
            i.attributes.insert("picture".into(), "x".repeat(2049));
            i.attributes.insert("locale".into(), "de".into());
        };
        let fitted = |change: fn(&mut AssertedIdentity)| {
            verify(|i| {
                large(i);
                change(i);
                *i = i.clone().without_excess();
            })
        };
        let who = fitted(|_| {}).unwrap();
        assert_eq!((who.name.as_str(), who.groups.len(), who.groups[127].as_str()), ("", 128, "group 127"));
        assert_eq!(who.attributes.keys().collect::<Vec<_>>(), ["locale"]);
        assert_eq!(fitted(|i| i.username = "x".repeat(151)).err(), Some(IdentityError::Username));
        assert_eq!(fitted(|i| i.email = "a,b@c.example".into()).err(), Some(IdentityError::Email));
        assert_eq!(fitted(|i| i.home_user_id = "x".repeat(256)).err(), Some(IdentityError::HomeUserId));
    }
}
