//! What can be done in the console. A deed is read from a form, says what it will do and which command does the same, and
//! is done by the [`Seat`](crate::grpc::Seat) of whoever asks.

use crate::web::console::form::Form;

/// Something that ops want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A join token is made.
    CreateToken(TokenOrder),
    /// A join token is taken back.
    RevokeToken {
        /// Its id.
        id: String,
    },
    /// An instance is cut off.
    Quarantine {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// It is let in again.
    Release {
        /// Which.
        name: String,
    },
    /// It is removed.
    Evict {
        /// Which.
        name: String,
    },
    /// A relying party accepts a home, or on other terms.
    Allow(EdgeOrder),
    /// It does so no more.
    Deny {
        /// Who accepts.
        relying_party: String,
        /// Whom.
        home: String,
    },
    /// Something begins to turn.
    Turn {
        /// As the contract names it.
        subject: String,
        /// Whether the old value is known to somebody else.
        compromised: bool,
    },
    /// It is taken back.
    RollBack {
        /// As the contract names it.
        subject: String,
    },
    /// It goes on.
    Resume {
        /// As the contract names it.
        subject: String,
        /// Without those who have not acknowledged.
        force: bool,
    },
    /// A session at the broker ends.
    EndSession {
        /// Its id.
        id: String,
    },
    /// All that a user has ends.
    EndUser {
        /// user@home.
        user: String,
    },
    /// A session of the console ends.
    EndConsoleSession {
        /// Its id.
        id: String,
    },
}

/// A join token as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenOrder {
    /// Name of the instance.
    pub instance: String,
    /// In minutes.
    pub minutes: u32,
    /// What it is for.
    pub note: String,
    /// Whether an enrolled instance gets a new identity.
    pub replace: bool,
}

/// A trust edge as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeOrder {
    /// Who accepts.
    pub relying_party: String,
    /// Whom.
    pub home: String,
    /// Domains whose addresses the home may call verified.
    pub email_domains: Vec<String>,
    /// `home=relying party`.
    pub groups: Vec<String>,
    /// How the relying party's name of a user is made.
    pub username_template: String,
    /// none, first or always.
    pub consent: String,
    /// Whether the relying party may call the home's API.
    pub api_access: bool,
    /// Whether users of the home are taken for those to whom they have linked their accounts.
    pub linked: bool,
}

impl Deed {
    /// Reads one of this kind; nothing if there is no such kind, what it is about is not said, or it would hide something
    /// in the command.
    pub fn read(kind: &str, form: &Form) -> Option<Self> {
        if form.has_controls() {
            return None;
        }
        let text = |name: &str| form.text(name);
        let named = |name: &str| Some(form.text(name)).filter(|text| !text.is_empty());
        Some(match kind {
            "create-token" => Self::CreateToken(TokenOrder {
                instance: named("instance")?,
                minutes: text("minutes").parse().unwrap_or(30),
                note: text("note"),
                replace: form.has("replace"),
            }),
            "revoke-token" => Self::RevokeToken { id: named("id")? },
            "quarantine" => Self::Quarantine { name: named("name")?, reason: text("reason") },
            "release" => Self::Release { name: named("name")? },
            "evict" => Self::Evict { name: named("name")? },
            "allow" => Self::Allow(EdgeOrder {
                relying_party: named("relying_party")?,
                home: named("home")?,
                email_domains: words(&text("email_domains")),
                groups: lines(&text("groups")),
                username_template: text("username_template"),
                consent: named("consent").unwrap_or_else(|| "none".to_owned()),
                api_access: form.has("api"),
                linked: form.has("linked"),
            }),
            "deny" => Self::Deny { relying_party: named("relying_party")?, home: named("home")? },
            "turn" => Self::Turn { subject: subject(form)?, compromised: form.has("compromised") },
            "roll-back" => Self::RollBack { subject: subject(form)? },
            "resume" => Self::Resume { subject: subject(form)?, force: form.has("force") },
            "end-session" => Self::EndSession { id: named("id")? },
            "end-user" => Self::EndUser { user: named("user")? },
            "end-console-session" => Self::EndConsoleSession { id: named("id")? },
            _ => return None,
        })
    }

    /// As it stands in the address.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateToken(_) => "create-token",
            Self::RevokeToken { .. } => "revoke-token",
            Self::Quarantine { .. } => "quarantine",
            Self::Release { .. } => "release",
            Self::Evict { .. } => "evict",
            Self::Allow(_) => "allow",
            Self::Deny { .. } => "deny",
            Self::Turn { .. } => "turn",
            Self::RollBack { .. } => "roll-back",
            Self::Resume { .. } => "resume",
            Self::EndSession { .. } => "end-session",
            Self::EndUser { .. } => "end-user",
            Self::EndConsoleSession { .. } => "end-console-session",
        }
    }

    /// What a form has to hold to ask for it again.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let flag = |name, is: bool| is.then(|| (name, "yes".to_owned()));
        match self {
            Self::CreateToken(order) => {
                let minutes = order.minutes.to_string();
                let told = [("instance", order.instance.clone()), ("minutes", minutes), ("note", order.note.clone())];
                told.into_iter().chain(flag("replace", order.replace)).collect()
            }
            Self::Allow(order) => {
                let told = [
                    ("relying_party", order.relying_party.clone()),
                    ("home", order.home.clone()),
                    ("email_domains", order.email_domains.join(" ")),
                    ("groups", order.groups.join("\n")),
                    ("username_template", order.username_template.clone()),
                    ("consent", order.consent.clone()),
                ];
                told.into_iter().chain(flag("api", order.api_access)).chain(flag("linked", order.linked)).collect()
            }
            Self::Quarantine { name, reason } => vec![("name", name.clone()), ("reason", reason.clone())],
            Self::Release { name } | Self::Evict { name } => vec![("name", name.clone())],
            Self::Deny { relying_party, home } => {
                vec![("relying_party", relying_party.clone()), ("home", home.clone())]
            }
            Self::Turn { subject, compromised } => {
                std::iter::once(("subject", subject.clone())).chain(flag("compromised", *compromised)).collect()
            }
            Self::Resume { subject, force } => {
                std::iter::once(("subject", subject.clone())).chain(flag("force", *force)).collect()
            }
            Self::RollBack { subject } => vec![("subject", subject.clone())],
            Self::RevokeToken { id } | Self::EndSession { id } | Self::EndConsoleSession { id } => {
                vec![("id", id.clone())]
            }
            Self::EndUser { user } => vec![("user", user.clone())],
        }
    }

    /// The page to go on with when it is done.
    pub fn back(&self) -> String {
        match self {
            Self::CreateToken(_) | Self::RevokeToken { .. } => "/console/tokens".to_owned(),
            Self::Quarantine { name, .. } | Self::Release { name } => format!("/console/instances/{name}"),
            Self::Evict { .. } => "/console/instances".to_owned(),
            Self::Allow(_) | Self::Deny { .. } => "/console/trust".to_owned(),
            Self::Turn { .. } | Self::RollBack { .. } | Self::Resume { .. } => "/console/turning".to_owned(),
            Self::EndSession { .. } | Self::EndUser { .. } | Self::EndConsoleSession { .. } => {
                "/console/sessions".to_owned()
            }
        }
    }
}

/// What turns, if there is such a thing.
fn subject(form: &Form) -> Option<String> {
    let text = form.text("subject");
    let known = match text.split_once('/') {
        Some((kind, name)) => matches!(kind, "keys" | "secret") && !name.is_empty(),
        None => matches!(text.as_str(), "keys" | "secrets" | "ca"),
    };
    known.then_some(text)
}

/// What stands between spaces, commas and line ends.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_that_is_asked_for_again_is_the_same() {
        let edge = EdgeOrder {
            relying_party: "beta".into(),
            home: "alpha".into(),
            email_domains: vec!["a.example".into(), "b.example".into()],
            groups: vec!["R & D=research".into(), "*=*".into()],
            username_template: "{username}".into(),
            consent: "first".into(),
            api_access: true,
            linked: true,
        };
        let token = TokenOrder { instance: "beta".into(), minutes: 90, note: "for Bea".into(), replace: true };
        let name = || "beta".to_owned();
        for deed in [
            Deed::CreateToken(token),
            Deed::RevokeToken { id: "1".into() },
            Deed::Quarantine { name: name(), reason: "stolen".into() },
            Deed::Release { name: name() },
            Deed::Evict { name: name() },
            Deed::Allow(edge),
            Deed::Deny { relying_party: name(), home: "alpha".into() },
            Deed::Turn { subject: "keys".into(), compromised: true },
            Deed::RollBack { subject: "ca".into() },
            Deed::Resume { subject: "secret/beta".into(), force: true },
            Deed::EndSession { id: "1".into() },
            Deed::EndUser { user: "alice@alpha".into() },
            Deed::EndConsoleSession { id: "1".into() },
        ] {
            let form = Form::of(deed.fields());
            assert_eq!(Deed::read(deed.kind(), &form), Some(deed));
        }
        assert_eq!(Deed::read("reboot", &Form::of([])), None);
        for hidden in ["a\u{3}b", "a\u{1b}[2Jb"] {
            assert_eq!(Deed::read("evict", &Form::of([("name", hidden.to_owned())])), None, "{hidden:?}");
        }
        assert_eq!(Deed::read("evict", &Form::of([])), None);
    }
}
