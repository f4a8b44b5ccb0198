//! What a trust map shows: instances, and who of them lets whose users in.

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What names it.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// What it is.
    pub roles: Roles,
    /// How it is.
    pub standing: Standing,
    /// Where more is to be read of it.
    pub href: Option<String>,
}

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// It recognises its own users.
    Home,
    /// It asks for logins.
    RelyingParty,
    /// One as well as the other.
    Both,
}

/// How an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Well.
    Healthy,
    /// Not: why, in a few words.
    Unhealthy(String),
    /// Cut off.
    Quarantined,
}

/// That a relying party lets a home's users in, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who vouches: its name.
    pub home: String,
    /// Who lets in: its name.
    pub relying_party: String,
    /// Whether both agree.
    pub consent: Consent,
}

/// Whether both sides of an edge agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They do.
    Both,
    /// The home does not release its users to the relying party.
    NotReleased,
    /// The relying party does not accept the home.
    NotAccepted,
}
