//! What a deed is called, what it will do, and the command that does the same.

use crate::web::console::deed::{Deed, EdgeOrder, TokenOrder};

/// A deed in words.
pub(super) struct Words {
    /// Heads the page: a question.
    pub(super) title: String,
    /// What will happen, a sentence each.
    pub(super) effects: Vec<&'static str>,
    /// On the button.
    pub(super) button: &'static str,
}

/// What is said when a deed of this kind is done.
pub(super) fn done(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "create-token" => "The join token is made.",
        "revoke-token" => "The join token is revoked.",
        "quarantine" => "The instance is quarantined.",
        "release" => "The instance is released.",
        "evict" => "The instance is evicted.",
        "allow" => "The trust edge is allowed.",
        "deny" => "The trust edge is denied.",
        "turn" => "The rotation has begun.",
        "roll-back" => "The rotation is taken back.",
        "resume" => "The rotation goes on.",
        "end-session" => "The session is over.",
        "end-user" => "The sessions are over.",
        "end-console-session" => "The session of the console is over.",
        _ => return None,
    })
}

impl Words {
    fn new(title: String, effects: &[&'static str], button: &'static str) -> Self {
        Self { title, effects: effects.to_vec(), button }
    }

    /// Of this deed.
    pub(super) fn of(deed: &Deed) -> Self {
        match deed {
            Deed::CreateToken(order) if order.replace => Self::new(
                format!("Make a join token that gives {} a new identity?", order.instance),
                &[
                    "Whoever has it can become this instance, once. It is shown on the next page and never again.",
                    "When it is used, the certificate that the instance has now stops working, and a quarantine ends.",
                ],
                "Make the join token",
            ),
            Deed::CreateToken(order) => Self::new(
                format!("Make a join token for {}?", order.instance),
                &["Whoever has it can enrol as this instance, once. It is shown on the next page and never again."],
                "Make the join token",
            ),
            Deed::RevokeToken { id } => Self::new(
                format!("Revoke join token {id}?"),
                &["Nobody can enrol with it any more. An instance that has enrolled with it stays."],
                "Revoke the join token",
            ),
            Deed::Quarantine { name, .. } => Self::new(
                format!("Quarantine {name}?"),
                &[
                    "Nobody logs in there, and none of its users logs in anywhere else.",
                    "Its agent is cut off within a second, and stops. Sessions that it vouched for end everywhere.",
                    "It stays enrolled: a release takes this back. Ended sessions stay ended.",
                ],
                "Quarantine",
            ),
            Deed::Release { name } => Self::new(
                format!("Release {name} from quarantine?"),
                &[
                    "Logins from and to it work as before when its agent runs: start it, if it has stopped. Users sign in anew.",
                ],
                "Release",
            ),
            Deed::Evict { name } => Self::new(
                format!("Evict {name} for good?"),
                &[
                    "Its trust edges, its client and its certificate are gone. Sessions that it vouched for end.",
                    "If it enrols again under this name, it is another instance: applications know its users as strangers.",
                    "This cannot be taken back. To cut it off for a while, quarantine it.",
                ],
                "Evict for good",
            ),
            Deed::Allow(order) => Self::new(
                format!("Let {} accept users of {}?", order.relying_party, order.home),
                &[
                    "Both consents are given: the home releases its users, the relying party accepts them.",
                    "What was allowed between the two before is replaced. Tokens that rest on it go on.",
                ],
                "Allow",
            ),
            Deed::Deny { relying_party, home } => Self::new(
                format!("Let {relying_party} accept users of {home} no more?"),
                &["Tokens and sessions at the relying party that rest on this end now. Accounts there stay."],
                "Deny",
            ),
            Deed::Turn { .. } | Deed::RollBack { .. } | Deed::Resume { .. } => Self::of_rotation(deed),
            Deed::EndSession { .. } => Self::new(
                "End this session?".to_owned(),
                &["The browser is signed out at the broker, and every application that it entered is told."],
                "End the session",
            ),
            Deed::EndUser { user } => Self::new(
                format!("End all sessions of {user}?"),
                &[
                    "The user is signed out at the broker, at home and at every application that was entered.",
                    "Access that would outlive the sessions ends too. The user may sign in again.",
                ],
                "End all sessions",
            ),
            Deed::EndConsoleSession { .. } => Self::new(
                "End this session of the console?".to_owned(),
                &["The browser is signed out of this console at once, on every broker."],
                "End the session",
            ),
        }
    }

    fn of_rotation(deed: &Deed) -> Self {
        match deed {
            Deed::Turn { subject, compromised: true } => Self::new(
                format!("Turn {} at once, because somebody else has the old value?", thing(subject)),
                &[
                    "Nobody is waited for. The old value is given up now.",
                    "Logins fail wherever the new one has not arrived; the page of the rotation says where that is.",
                ],
                "Turn at once",
            ),
            Deed::Turn { subject, .. } => Self::new(
                format!("Turn {}?", thing(subject)),
                &[
                    "The next value is handed out first. It is used when everyone who needs it has acknowledged it.",
                    "If somebody does not, the rotation pauses and says who; nothing breaks meanwhile.",
                    "It can be taken back until the old value is given up.",
                ],
                "Begin",
            ),
            Deed::Resume { subject, force: true } => Self::new(
                format!("Let the rotation of {} go on without those who have not acknowledged?", thing(subject)),
                &["Whoever has not acknowledged is left behind: logins there may fail until its agent has caught up."],
                "Go on without them",
            ),
            Deed::Resume { subject, .. } => Self::new(
                format!("Let the rotation of {} wait anew?", thing(subject)),
                &["The time for acknowledgements begins again. Nothing else changes."],
                "Wait anew",
            ),
            other => Self::new(
                format!("Take the rotation of {} back?", other.subject().map(thing).unwrap_or_default()),
                &["What was used before is used again, and the new value is given up."],
                "Take it back",
            ),
        }
    }
}

impl Deed {
    fn subject(&self) -> Option<&str> {
        match self {
            Self::Turn { subject, .. } | Self::RollBack { subject } | Self::Resume { subject, .. } => Some(subject),
            _ => None,
        }
    }

    /// The command that does the same.
    pub fn command(&self) -> String {
        let arguments = match self {
            Self::CreateToken(order) => create_token(order),
            Self::RevokeToken { id } => format!("token revoke {}", quoted(id)),
            Self::Quarantine { name, reason } => {
                // Typed on the page that shows the command: what is pasted before that asks for it.
                let reason = if reason.is_empty() { String::new() } else { quoted(reason) };
                format!("instance quarantine {} --reason {reason}", quoted(name)).trim_end().to_owned()
            }
            Self::Release { name } => format!("instance release {}", quoted(name)),
            Self::Evict { name } => format!("instance evict {} --yes", quoted(name)),
            Self::Allow(order) => allow(order),
            Self::Deny { relying_party, home } => {
                format!("trust deny --relying-party {} --home {}", quoted(relying_party), quoted(home))
            }
            Self::Turn { subject, compromised } => turn("rotate", subject) + flag(" --compromised", *compromised),
            Self::RollBack { subject } => turn("rollback", subject),
            Self::Resume { subject, force } => {
                format!("rotation resume {}{}", quoted(subject), flag(" --force", *force))
            }
            Self::EndSession { id } => format!("session end --session={}", quoted(id)),
            Self::EndUser { user } => format!("session end --user {}", quoted(user)),
            Self::EndConsoleSession { id } => format!("console session end {}", quoted(id)),
        };
        format!("homeward-broker {arguments}")
    }
}

fn create_token(order: &TokenOrder) -> String {
    let mut text = format!("token create --instance {} --lifetime {}m", quoted(&order.instance), order.minutes);
    if !order.note.is_empty() {
        text = format!("{text} --note {}", quoted(&order.note));
    }
    text + flag(" --replace", order.replace)
}

fn allow(order: &EdgeOrder) -> String {
    let (party, home) = (quoted(&order.relying_party), quoted(&order.home));
    let mut text = format!("trust allow --relying-party {party} --home {home}");
    for domain in &order.email_domains {
        text = format!("{text} --email-domain {}", quoted(domain));
    }
    for group in &order.groups {
        text = format!("{text} --group {}", quoted(group));
    }
    if !order.username_template.is_empty() {
        text = format!("{text} --username-template {}", quoted(&order.username_template));
    }
    let flags = format!("{}{}", flag(" --api", order.api_access), flag(" --linked", order.linked));
    format!("{text} --consent {}{flags}", quoted(&order.consent))
}

fn turn(verb: &str, subject: &str) -> String {
    match subject.split_once('/') {
        Some(("keys", algorithm)) => format!("keys {verb} --algorithm {}", quoted(algorithm)),
        Some((_, instance)) => format!("secret {verb} --instance {}", quoted(instance)),
        None if subject == "secrets" => format!("secret {verb} --all"),
        None => format!("{} {verb}", quoted(subject)),
    }
}

/// With the space before it.
fn flag(name: &'static str, is: bool) -> &'static str {
    if is { name } else { "" }
}

/// The command that explains a login: relying party, home, login name.
pub(super) fn explain([relying_party, home, username]: &[String; 3]) -> String {
    let user = format!("{username}@{home}");
    format!("homeward-broker trust explain --user {} --rp {}", quoted(&user), quoted(relying_party))
}

/// What turns, for people.
fn thing(subject: &str) -> String {
    match subject.split_once('/') {
        Some(("keys", algorithm)) => format!("the {algorithm} signing keys"),
        Some((_, instance)) => format!("the client secret of {instance}"),
        None if subject == "keys" => "the signing keys".to_owned(),
        None if subject == "secrets" => "all client secrets".to_owned(),
        None => "the CA".to_owned(),
    }
}

/// One word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_ops_would_type() {
        let turn = |subject: &str| Deed::Turn { subject: subject.into(), compromised: false }.command();
        assert_eq!(turn("keys"), "homeward-broker keys rotate");
        assert_eq!(turn("keys/ES256"), "homeward-broker keys rotate --algorithm ES256");
        assert_eq!(turn("secret/beta"), "homeward-broker secret rotate --instance beta");
        assert_eq!(turn("secrets"), "homeward-broker secret rotate --all");
        assert_eq!(turn("ca"), "homeward-broker ca rotate");
        let deed = Deed::Turn { subject: "ca".into(), compromised: true };
        assert_eq!(deed.command(), "homeward-broker ca rotate --compromised");
        let deed = Deed::RollBack { subject: "secret/beta".into() };
        assert_eq!(deed.command(), "homeward-broker secret rollback --instance beta");
    }

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        let reason = "it's stolen; $(reboot) `reboot`\nreboot".to_owned();
        let command = Deed::Quarantine { name: "beta".into(), reason }.command();
        let expected =
            "homeward-broker instance quarantine beta --reason 'it'\\''s stolen; $(reboot) `reboot`\nreboot'";
        assert_eq!(command, expected);
        let asked = ["beta", "alpha", "x; reboot"].map(str::to_owned);
        assert_eq!(explain(&asked), "homeward-broker trust explain --user 'x; reboot@alpha' --rp beta");
        let deed = Deed::Quarantine { name: "beta".into(), reason: String::new() };
        assert_eq!(deed.command(), "homeward-broker instance quarantine beta --reason");
        let deed = Deed::EndSession { id: "$(reboot)".into() };
        assert_eq!(deed.command(), "homeward-broker session end --session='$(reboot)'");
    }
}
