//! What the page of the audit shows.

/// What to look for in the audit; what is empty does not matter.
#[derive(Default)]
pub struct AuditSearch {
    /// What happened.
    pub kind: String,
    /// Who made it happen.
    pub actor: String,
    /// What else it is about.
    pub object: String,
    /// A user.
    pub subject: String,
    /// An instance.
    pub instance: String,
    /// Of this moment or later.
    pub since: String,
    /// Before this moment.
    pub until: String,
}

/// Records that were found.
pub struct AuditSheet {
    /// The newest first.
    pub records: Vec<AuditRow>,
    /// Search for what is older than these.
    pub older: Option<String>,
}

/// A record of the audit.
pub struct AuditRow {
    /// When.
    pub time: String,
    /// Who made it happen.
    pub actor: String,
    /// What.
    pub event: String,
    /// Whether it was refused.
    pub refused: bool,
    /// The rest: member and value.
    pub rest: Vec<(String, String)>,
}
