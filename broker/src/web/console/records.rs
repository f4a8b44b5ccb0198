//! What the page of the audit shows.

/// What to look for in the audit; what is empty does not matter.
#[derive(Clone, Default)]
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
    /// Before this place, as a page named it.
    pub before: String,
}

impl AuditSearch {
    /// The address of its page.
    pub(super) fn address(&self) -> String {
        let before = [("before", self.before.as_str())];
        let said = self.fields().into_iter().chain(before).filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
        format!("/console/audit?{query}")
    }

    /// What is looked for: options of `audit list` and fields of the page have the same names.
    pub(super) fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("kind", &self.kind),
            ("actor", &self.actor),
            ("object", &self.object),
            ("subject", &self.subject),
            ("instance", &self.instance),
            ("since", &self.since),
            ("until", &self.until),
        ]
    }
}

/// Records that were found.
#[derive(Default)]
pub struct AuditSheet {
    /// The newest first.
    pub records: Vec<AuditRow>,
    /// The place before which more may be found.
    pub older: Option<String>,
    /// How far back was searched, if not everything was.
    pub back_to: String,
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
