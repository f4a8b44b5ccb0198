//! What the console's pages show: words, ready to be put into them.

use crate::clock::Timestamp;
use crate::web::picture::{Plot, Timeline};
use crate::web::{ago, ahead};

/// A moment, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339.
    pub iso: String,
    /// As people say it.
    pub words: String,
}

impl Moment {
    /// As seen from now.
    pub fn of(at: Timestamp, now: Timestamp) -> Self {
        let words = if now < at { ahead(now, at) } else { ago(now, at) };
        Self { iso: at.to_string(), words }
    }
}

/// Why something was not done, or cannot be shown: one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sentence.
    pub sentence: String,
    /// Whose fault it is.
    pub fault: Fault,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for is not there.
    Unknown,
    /// What was asked for cannot be done so.
    Asker,
    /// The broker's.
    Broker,
}

/// Something that ops have to look after.
pub struct Attention {
    /// What, in one sentence.
    pub sentence: String,
    /// Where to go on.
    pub page: String,
}

/// The first page.
pub struct Overview {
    /// What ops have to look after, the most urgent first.
    pub attention: Vec<Attention>,
    /// Instances: how many there are, and of how many the agent is online.
    pub instances: (usize, usize),
    /// Trust edges.
    pub edges: usize,
    /// Rotations that run.
    pub turning: usize,
    /// What happens next by itself.
    pub next: Option<MoveRow>,
    /// Logins and failures of the last two days.
    pub plot: Plot,
    /// The brokers that live.
    pub brokers: Vec<BrokerRow>,
}

/// A broker that lives.
pub struct BrokerRow {
    /// What its machine calls itself.
    pub name: String,
    /// Of its program.
    pub version: String,
    /// When it started.
    pub started: Moment,
    /// Agents that are connected to it.
    pub agents: u32,
    /// What it does beside answering.
    pub duty: &'static str,
}

/// An instance in a row.
pub struct InstanceRow {
    /// Its name.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// claimed, confirmed or quarantined.
    pub state: String,
    /// Whether it may log anybody in.
    pub active: bool,
    /// What it is.
    pub roles: String,
    /// Whether its agent is connected.
    pub online: bool,
    /// Last sign of life.
    pub seen: Option<Moment>,
    /// What the agent says of itself.
    pub version: String,
    /// End of the newest certificate.
    pub certificate: Option<Moment>,
    /// Whether that is so near that a renewal must have failed.
    pub certificate_late: bool,
    /// The revision in use, and the one that should be.
    pub revision: String,
    /// What ails it.
    pub problem: String,
}

/// An instance on a page of its own.
pub struct InstanceSheet {
    /// As in the list.
    pub row: InstanceRow,
    /// What else is known of it.
    pub facts: Vec<(&'static str, String)>,
    /// What is wrong with its trust edges.
    pub trust_problems: Vec<String>,
}

/// A join token.
pub struct TokenRow {
    /// Its id.
    pub id: String,
    /// Whom it enrols.
    pub instance: String,
    /// What became of it.
    pub state: String,
    /// Whether it can still be used.
    pub usable: bool,
    /// When it stops working.
    pub expires: Option<Moment>,
    /// Who made it.
    pub creator: String,
    /// What it is for.
    pub note: String,
}

/// A join token that was just made.
pub struct FreshToken {
    /// The secret.
    pub text: String,
    /// Whom it enrols.
    pub instance: String,
    /// Whether an enrolled instance gets a new identity by it.
    pub replace: bool,
    /// When it stops working.
    pub expires: Option<Moment>,
}

/// A trust edge.
pub struct EdgeRow {
    /// Who accepts.
    pub relying_party: String,
    /// Whether it is able to, and why not.
    pub accepts: &'static str,
    /// Whom.
    pub home: String,
    /// Whether it is able to, and why not.
    pub releases: &'static str,
    /// How names are made.
    pub username_template: String,
    /// `home=relying party`.
    pub groups: Vec<String>,
    /// Domains that the home may vouch for.
    pub email_domains: Vec<String>,
    /// none, first or always.
    pub consent: &'static str,
    /// Whether the home's API may be called.
    pub api_access: bool,
    /// Whether its users are taken for those to whom they have linked their accounts.
    pub linked: bool,
    /// When it was changed.
    pub changed: Option<Moment>,
}

/// All edges, and whom others could be made of.
pub struct TrustSheet {
    /// By relying party and home.
    pub edges: Vec<EdgeRow>,
    /// Who can accept.
    pub relying_parties: Vec<String>,
    /// Who can be accepted.
    pub homes: Vec<String>,
}

/// What a login would come to.
pub struct Explained {
    /// Where what is known of the user comes from.
    pub source: &'static str,
    /// Claim, what the home says, what the relying party gets, why.
    pub claims: Vec<[String; 4]>,
    /// What the relying party's application would make of it.
    pub account: Option<(String, Vec<String>)>,
    /// What would go wrong, each with what to do.
    pub problems: Vec<String>,
}

/// Keys, secrets and the CA.
pub struct TurningSheet {
    /// What was, is and will be in use, drawn.
    pub timeline: Timeline,
    /// What turns now or has paused, and what has ended lately.
    pub rotations: Vec<RotationCard>,
    /// Signing keys.
    pub keys: Vec<KeyRow>,
    /// Certificates of the CA.
    pub authorities: Vec<AuthorityRow>,
    /// Version of the trust bundle.
    pub bundle: u64,
    /// Relying parties whose secret can be turned.
    pub secrets: Vec<String>,
    /// What will happen by itself.
    pub plan: Vec<MoveRow>,
}

/// A rotation.
pub struct RotationCard {
    /// As the contract names it.
    pub subject: String,
    /// running, paused, done or rolled back.
    pub state: String,
    /// Whether it turns still, has paused, or neither.
    pub turns: bool,
    /// Whether it waits for ops.
    pub paused: bool,
    /// All phases, and whether it is in this one.
    pub phases: Vec<(String, bool)>,
    /// What is waited for.
    pub gate: String,
    /// How many have acknowledged, of how many.
    pub acknowledged: (u32, u32),
    /// Who has not.
    pub laggards: Vec<LaggardRow>,
    /// How many more have not.
    pub unnamed: usize,
    /// When it began.
    pub began: Option<Moment>,
    /// Who began it.
    pub creator: String,
    /// When the gate fails, or opens.
    pub deadline: Option<Moment>,
    /// Why it has paused, or how it ended.
    pub reason: String,
    /// What happens next, or what ops can do.
    pub next: String,
}

/// Who has not acknowledged.
pub struct LaggardRow {
    /// Its name.
    pub instance: String,
    /// Whether its agent is connected.
    pub online: bool,
    /// Last sign of life.
    pub seen: Option<Moment>,
    /// Since when it is waited for.
    pub waiting: Option<Moment>,
    /// Why, as far as it is known.
    pub reason: String,
}

/// A signing key.
pub struct KeyRow {
    /// Its thumbprint.
    pub id: String,
    /// RS256 or ES256.
    pub algorithm: &'static str,
    /// pending, active or retired.
    pub state: String,
    /// Since when.
    pub since: Option<Moment>,
    /// When it is deleted.
    pub gone: Option<Moment>,
}

/// A certificate of the CA.
pub struct AuthorityRow {
    /// sha256/…
    pub pin: String,
    /// What it does.
    pub role: String,
    /// Its end.
    pub expires: Option<Moment>,
    /// How many instances hold a certificate of it.
    pub instances: u32,
}

/// Something that will happen by itself.
pub struct MoveRow {
    /// When, at the earliest.
    pub at: Option<Moment>,
    /// What turns.
    pub subject: String,
    /// What happens.
    pub what: String,
    /// What must be true first.
    pub gate: String,
}

/// A session at the broker.
pub struct SignedInRow {
    /// Its id.
    pub id: String,
    /// user@home.
    pub user: String,
    /// When it began.
    pub began: Option<Moment>,
    /// The last login.
    pub used: Option<Moment>,
    /// What was entered.
    pub entered: String,
}

impl SignedInRow {
    /// The user in an address.
    pub fn user_query(&self) -> String {
        encoded(&self.user)
    }
}

/// A session of the console.
pub struct AtConsoleRow {
    /// Its id.
    pub id: String,
    /// Whether it is the one that looks.
    pub own: bool,
    /// Who it is.
    pub who: String,
    /// As the audit names him.
    pub actor: String,
    /// When it began.
    pub began: Option<Moment>,
    /// When it was used.
    pub used: Option<Moment>,
}

impl AtConsoleRow {
    /// Who it is, in an address.
    pub fn actor_query(&self) -> String {
        encoded(&self.actor)
    }
}

/// A text as it stands in an address.
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Who is signed in.
pub struct SessionsSheet {
    /// At the broker: one page.
    pub sessions: Vec<SignedInRow>,
    /// Names the page behind this one; empty on the last.
    pub next: String,
    /// At the console.
    pub at_console: Vec<AtConsoleRow>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_said_as_people_say_them() {
        let now = Timestamp::from_secs(1_800_000_000);
        let later = |secs| Moment::of(now + Duration::from_secs(secs), now).words;
        assert_eq!(
            [later(1), later(60), later(7199), later(864_000)],
            ["in a moment", "in 1 minute", "in 1 hour", "in 10 days"]
        );
        assert_eq!(Moment::of(now - Duration::from_secs(7200), now).words, "2 hours ago");
    }
}
