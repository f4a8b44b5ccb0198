//! How a relying party's name of a user is made: by a template on the trust edge.
//!
//! What comes out consists of letters, digits, `.`, `_`, `-`, `+` and `@`, which is what applications take as a user name.
//! Two users of one home never get one name: a value that had to be respelt, or cut, or that another user had before,
//! carries a piece of the subject behind a `+`, and a value that looks as if it did is respelt itself. That the names of
//! two homes never meet is what [`UsernameTemplate::names_the_home`] says.

use std::fmt;
use std::str::FromStr;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::registry::{Subject, VerifiedIdentity};

/// Longest template, in bytes.
const MAX_TEMPLATE: usize = 64;

/// Longest name that is made, in characters: what Django stores.
const MAX_NAME: usize = 150;

/// Characters of the subject that tell respelt names apart.
const PIECE: usize = 12;

/// How `preferred_username` is made: text around one value of the user, and the name of the home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsernameTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Value),
    Home,
}

/// The value of the user that a template is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Username,
    Email,
    LocalPart,
}

impl Value {
    /// Nothing if the home said nothing of the kind.
    fn of(self, identity: &VerifiedIdentity) -> Option<&str> {
        let value = match self {
            Self::Username => identity.username.as_str(),
            Self::Email => identity.email.as_str(),
            Self::LocalPart => identity.email.rsplit_once('@')?.0,
        };
        (!value.is_empty()).then_some(value)
    }
}

impl UsernameTemplate {
    /// As the first release had it: the name that the user has at home. For edges that it stored.
    pub fn name_at_home() -> Self {
        Self { parts: vec![Part::Value(Value::Username)] }
    }

    /// The name of this user, if the home said what it is made of.
    pub fn name(&self, identity: &VerifiedIdentity, subject: &Subject, home: &InstanceName) -> Option<String> {
        let value = self.value().of(identity)?;
        let around: usize = self.parts.iter().map(|part| part.length(home)).sum();
        let room = MAX_NAME.saturating_sub(around);
        let value = if identity.name_is_held { respelt(value, subject, room) } else { spelt(value, subject, room) };
        let text = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Value(_) => value.as_str(),
            Part::Home => home.as_str(),
        });
        Some(text.collect())
    }

    /// Whether names of two homes never meet: the home stands last, behind a character that no home's name has, so that
    /// every such name says by its end whose it is.
    pub fn names_the_home(&self) -> bool {
        match self.parts.as_slice() {
            [.., Part::Text(text), Part::Home] => text.ends_with(['@', '+', '_']),
            _ => false,
        }
    }

    /// Whether the name is the email address and nothing else.
    pub fn is_email(&self) -> bool {
        self.parts == [Part::Value(Value::Email)]
    }

    /// Whether it is made of the email address, or of a part of it.
    pub fn needs_email(&self) -> bool {
        self.value() != Value::Username
    }

    /// Whether it drops the domain of the address, which then only the trust edge can say.
    pub fn needs_domain(&self) -> bool {
        self.value() == Value::LocalPart
    }

    fn value(&self) -> Value {
        let value = self.parts.iter().find_map(|part| match part {
            Part::Value(value) => Some(*value),
            Part::Text(_) | Part::Home => None,
        });
        // There is one: it does not parse without.
        value.unwrap_or(Value::Username)
    }
}

impl Default for UsernameTemplate {
    /// `{username}@{home}`: two homes may each have an alice, and an application takes equal names for one user.
    fn default() -> Self {
        Self { parts: vec![Part::Value(Value::Username), Part::Text("@".to_owned()), Part::Home] }
    }
}

impl Part {
    /// How much of a name is not the user's value.
    fn length(&self, home: &InstanceName) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Home => home.as_str().len(),
            Self::Value(_) => 0,
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Home => "{home}",
            Self::Value(Value::Username) => "{username}",
            Self::Value(Value::Email) => "{email}",
            Self::Value(Value::LocalPart) => "{local_part}",
        }
    }

    /// The first part of a text, and what is behind it.
    fn read(text: &str) -> Result<(Self, &str), UsernameTemplateError> {
        let placeholders =
            [Self::Home, Self::Value(Value::Username), Self::Value(Value::Email), Self::Value(Value::LocalPart)];
        for part in placeholders {
            if let Some(rest) = text.strip_prefix(part.as_str()) {
                return Ok((part, rest));
            }
        }
        let end = text.find('{').unwrap_or(text.len());
        let (plain, rest) = text.split_at(end);
        let good = !plain.is_empty() && plain.chars().all(is_plain);
        if good { Ok((Self::Text(plain.to_owned()), rest)) } else { Err(UsernameTemplateError) }
    }
}

impl FromStr for UsernameTemplate {
    type Err = UsernameTemplateError;

    fn from_str(text: &str) -> Result<Self, UsernameTemplateError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (part, behind) = Part::read(rest)?;
            parts.push(part);
            rest = behind;
        }
        let count = |is: fn(&Part) -> bool| parts.iter().filter(|part| is(part)).count();
        // With two values of the user one name could be made in two ways.
        let values = count(|part| matches!(part, Part::Value(_)));
        let homes = count(|part| *part == Part::Home);
        let good = text.len() <= MAX_TEMPLATE && values == 1 && homes <= 1;
        if good { Ok(Self { parts }) } else { Err(UsernameTemplateError) }
    }
}

impl TryFrom<String> for UsernameTemplate {
    type Error = UsernameTemplateError;

    fn try_from(text: String) -> Result<Self, UsernameTemplateError> {
        text.parse()
    }
}

impl From<UsernameTemplate> for String {
    fn from(template: UsernameTemplate) -> Self {
        template.to_string()
    }
}

impl fmt::Display for UsernameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| f.write_str(part.as_str()))
    }
}

/// Not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user name template has one of {{username}}, {{email}} and {{local_part}}, at most one {{home}}, and otherwise letters, \
     digits and . _ - + @; at most {MAX_TEMPLATE} characters: for example {{username}}@{{home}}"
)]
pub struct UsernameTemplateError;

/// A value of the user as it may stand in a name of which it gets so many characters.
fn spelt(value: &str, subject: &Subject, room: usize) -> String {
    if value.len() <= room && value.chars().all(is_plain) && !looks_respelt(value) {
        return value.to_owned();
    }
    respelt(value, subject, room)
}

fn respelt(value: &str, subject: &Subject, room: usize) -> String {
    let spelt = value.chars().map(|c| if is_plain(c) && c != '+' { c } else { '_' });
    with_piece(spelt.take(room.saturating_sub(PIECE + 1)), subject)
}

/// What [`spelt`] makes of other values: nobody chooses a name that is another one's, respelt.
fn looks_respelt(value: &str) -> bool {
    value.rsplit_once('+').is_some_and(|(_, piece)| piece.len() == PIECE)
}

/// A text with a piece of the subject behind it.
pub(super) fn with_piece(text: impl Iterator<Item = char>, subject: &Subject) -> String {
    let piece = subject.as_str().chars().take(PIECE);
    text.chain(std::iter::once('+')).chain(piece).collect()
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::registry::AssertedIdentity;

    fn identity(username: &str, email: &str) -> VerifiedIdentity {
        let said = serde_json::json!({
            "home_user_id": "1", "username": username, "name": "", "given_name": "", "family_name": "", "email": email,
            "email_verified": true, "groups": [], "auth_time": null, "amr": [],
        });
        let said: AssertedIdentity = serde_json::from_value(said).unwrap();
        said.verify(Timestamp::from_secs(0)).unwrap()
    }

    fn named(template: &str, username: &str) -> String {
        let subject: Subject = serde_json::from_value("s-u_b3456789abcdef".into()).unwrap();
        let identity = identity(username, "Al.Ice+x@corp.example");
        template.parse::<UsernameTemplate>().unwrap().name(&identity, &subject, &"alpha".parse().unwrap()).unwrap()
    }

    #[test]
    fn names_follow_the_template() {
        for (template, username, name) in [
            ("{username}@{home}", "alice", "alice@alpha"),
            ("{username}@{home}", "alice@corp.example", "alice@corp.example@alpha"),
            ("{username}", "alice", "alice"),
            ("{username}", "a+b", "a+b"),
            ("{email}", "alice", "Al.Ice+x@corp.example"),
            ("{local_part}_{home}", "alice", "Al.Ice+x_alpha"),
            ("{home}.{username}", "alice", "alpha.alice"),
            ("ext-{username}", "alice", "ext-alice"),
            ("{username}@{home}", "a b", "a_b+s-u_b3456789@alpha"),
            ("{username}", "Zoë/x+y", "Zo__x_y+s-u_b3456789"),
        ] {
            assert_eq!(named(template, username), name, "{template} {username}");
        }
        assert_eq!(UsernameTemplate::default().to_string(), "{username}@{home}");
        assert_eq!(UsernameTemplate::name_at_home().to_string(), "{username}");
    }

    #[test]
    fn nobody_chooses_the_name_that_another_user_gets() {
        let respelt = named("{username}", "a b");
        assert_ne!(named("{username}", &respelt), respelt);
        assert_ne!(named("{username}@{home}", &format!("{respelt}@alpha")), format!("{respelt}@alpha"));
        let (long, longer) =
            (named("{username}@{home}", &"x".repeat(149)), named("{username}@{home}", &"x".repeat(150)));
        assert_eq!((long.len(), long.ends_with("+s-u_b3456789@alpha"), longer.len()), (150, true, 150));
        assert_eq!(named("{username}@{home}", &"x".repeat(144)).len(), 150);
    }

    #[test]
    fn a_name_of_nothing_is_none() {
        let subject: Subject = serde_json::from_value("s".into()).unwrap();
        let template: UsernameTemplate = "{email}".parse().unwrap();
        assert_eq!(template.name(&identity("alice", ""), &subject, &"alpha".parse().unwrap()), None);
    }

    #[test]
    fn other_templates_are_refused() {
        for bad in [
            "",
            "alice",
            "{home}",
            "{username}{email}",
            "{username}{home}{home}",
            "{user}",
            "{username} {home}",
            "{username}@{home}}",
            "{",
            "é{username}",
            &format!("{{username}}{}", "x".repeat(64)),
        ] {
            assert!(bad.parse::<UsernameTemplate>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_template_names_the_home_where_no_user_can() {
        for (template, names) in [
            ("{username}@{home}", true),
            ("{local_part}_{home}", true),
            ("{username}-at+{home}", true),
            ("{username}", false),
            ("{email}", false),
            // A home a-b with a user c, or a home a with a user b-c?
            ("{home}-{username}", false),
            ("{username}-{home}", false),
            ("{username}{home}", false),
            ("{username}@{home}.example", false),
        ] {
            assert_eq!(template.parse::<UsernameTemplate>().unwrap().names_the_home(), names, "{template}");
        }
    }
}
