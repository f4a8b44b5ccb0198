//! What the page of those without agent shows: homes that are identity providers, relying parties that register
//! themselves, and the clients of all.

use crate::web::console::Moment;

/// All of it.
pub struct AgentlessSheet {
    /// Homes.
    pub homes: Vec<UpstreamRow>,
    /// Relying parties.
    pub relying_parties: Vec<RegistrationRow>,
    /// Clients, of instances too.
    pub clients: Vec<ClientRow>,
}

/// A home without agent.
pub struct UpstreamRow {
    /// Its name.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// Where its provider is.
    pub provider: String,
    /// What the broker is called there.
    pub client_id: String,
    /// What is wrong with it; empty if it can be used.
    pub problem: String,
    /// The page that says what to paste where.
    pub setup: String,
    /// When it was changed.
    pub changed: Option<Moment>,
}

/// A relying party without agent.
pub struct RegistrationRow {
    /// Its name.
    pub name: String,
    /// How many clients it has.
    pub clients: u32,
    /// How many more it may register.
    pub left: u32,
    /// Whether its initial access token is good still.
    pub open: bool,
    /// Until when that is good.
    pub until: Option<Moment>,
    /// When it was opened.
    pub opened: Option<Moment>,
}

/// A client.
pub struct ClientRow {
    /// As OAuth knows it.
    pub id: String,
    /// Whose it is.
    pub relying_party: String,
    /// The name people read.
    pub display_name: String,
    /// How it authenticates.
    pub auth_method: String,
    /// Whether an agent looks after it.
    pub enrolled: bool,
    /// What it must, in words.
    pub must: String,
    /// What it may ask tokens for.
    pub may: String,
}

/// A relying party that was just opened.
pub struct FreshRegistration {
    /// Its name.
    pub name: String,
    /// The initial access token.
    pub token: String,
    /// Where its application registers.
    pub endpoint: String,
    /// How many clients it may register.
    pub clients: u32,
    /// Until when.
    pub until: Option<Moment>,
}
