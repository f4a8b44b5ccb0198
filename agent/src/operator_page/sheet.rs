//! What the page shows at one moment, put together from what the agent knows. The words are those of `homeward-agent status`
//! and of the doctor.

use homeward_proto::v1::{AgentState, KeySetProofMethod, Resource};
use time::OffsetDateTime;

use super::configured::Place;
use super::examination;
use super::fact::{Fact, Moment, Said, Section};
use crate::contact::LastContact;
use crate::doctor::configuration::sentence;
use crate::doctor::finding::{Finding, Verdict};
use crate::doctor::{credentials, identity};
use crate::identity::Identity;
use crate::resources::applied::Versions;
use crate::resources::standing::State;
use crate::resources::wanted::Wanted;
use crate::resources::{RESOURCES, words};

/// All of it.
#[derive(Debug)]
pub(super) struct Sheet {
    /// The name of the instance.
    pub(super) instance: String,
    /// When this was so.
    pub(super) now: Moment,
    /// What somebody has to do something about.
    pub(super) attention: Vec<Finding>,
    /// What the doctor found, or looks at.
    pub(super) doctor: Doctor,
    /// What is so.
    pub(super) sections: Vec<Section>,
    /// Each thing that the broker sends, and whether it is in effect.
    pub(super) resources: Vec<Line>,
    /// Where the client's credentials are written.
    pub(super) places: Vec<Place>,
    /// What is configured.
    pub(super) configured: Section,
}

/// A thing that the broker sends.
#[derive(Debug)]
pub(super) struct Line {
    /// What it is.
    pub(super) resource: String,
    /// Whether it is in effect.
    pub(super) verdict: Verdict,
    /// The same in words.
    pub(super) word: &'static str,
    /// Why it is not.
    pub(super) why: String,
    /// For how long.
    pub(super) since: Option<Moment>,
}

/// The doctor.
#[derive(Debug)]
pub(super) struct Doctor {
    /// Since when it looks, if it does, and at what.
    pub(super) under_way: Option<(Moment, Option<String>)>,
    /// What it found last, and when.
    pub(super) last: Option<(Moment, Vec<Finding>)>,
}

/// What the broker wants to be in effect: versions, and nothing of what has them.
pub(super) struct Versioning {
    revision: u64,
    versions: Versions,
    is_met: bool,
}

/// What is known of the instance at one moment.
pub(super) struct Known<'a> {
    /// Who it is.
    pub(super) identity: &'a Identity,
    /// When the certificate is to be renewed.
    pub(super) renewal: OffsetDateTime,
    /// What is in effect, and what is not.
    pub(super) standing: State,
    /// What should be.
    pub(super) wanted: Versioning,
    /// Whether there is a stream to the broker.
    pub(super) connected: bool,
    /// When there was one.
    pub(super) contact: LastContact,
    /// How the application is; unset if there is nothing to ask it.
    pub(super) application: Option<AgentState>,
    /// What the doctor says.
    pub(super) doctor: examination::State,
    /// The application's name, if it is to have credentials.
    pub(super) relying_party: Option<&'a str>,
    /// Whether it is a home.
    pub(super) vouches: bool,
    /// Since when the agent runs.
    pub(super) started: OffsetDateTime,
}

impl Known<'_> {
    /// As it is shown, but for what is configured.
    pub(super) fn sections(&self, now: OffsetDateTime) -> Vec<Section> {
        vec![self.instance(now), self.certificate(now), self.in_effect(now), self.trust()]
    }

    fn instance(&self, now: OffsetDateTime) -> Section {
        let identity = self.identity;
        let application = self.application.as_ref().map(|state| match state.application_healthy {
            true => Fact::word("Application", Verdict::Ok, "answers", None),
            false => Fact::word("Application", Verdict::Warning, "does not answer", None),
        });
        let mut facts = vec![
            Fact::code("Instance", identity.instance().to_string()),
            Fact::code("Trust domain", identity.trust_domain().to_string()),
            Fact::code("Issuer", identity.issuer()),
            Fact::code("Broker", identity.agent_url()),
            self.connection(now),
        ];
        facts.extend(application);
        facts.push(Fact::text("Agent", env!("CARGO_PKG_VERSION")));
        facts.push(Fact::at("Runs since", self.started, now));
        Section { id: "instance", title: "This instance", facts, command: "homeward-agent status" }
    }

    fn connection(&self, now: OffsetDateTime) -> Fact {
        let since = |seconds| Moment::noted(seconds, now).map(Said::At);
        if self.connected {
            return Fact::word("Connected", Verdict::Ok, "yes", since(self.contact.connected_at));
        }
        Fact::word("Connected", Verdict::Warning, "no", since(self.contact.lost_at))
    }

    fn certificate(&self, now: OffsetDateTime) -> Section {
        let (identity, found) = (self.identity, identity::certificate(self.identity, now));
        let facts = vec![
            Fact::word("Certificate", found.verdict, found.verdict.word(), Some(Said::Text(found.sentence))),
            Fact::code("Serial", identity.certificate_serial().unwrap_or_else(|| "unknown".to_owned())),
            Fact::text("Certificate generation", identity.certificate_generation().to_string()),
            Fact::at("Certificate expires", identity.expires_at(), now),
            Fact::at("Renews itself", self.renewal, now),
            Fact::text("Trust bundle version", identity.bundle_version().to_string()),
        ];
        Section { id: "certificate", title: "Certificate", facts, command: "homeward-agent status" }
    }

    fn in_effect(&self, now: OffsetDateTime) -> Section {
        let applied = &self.standing.applied;
        let at = |seconds| Moment::noted(seconds, now).map(Said::At);
        let mut revision = Fact::text("Applied revision", applied.revision.to_string());
        revision.said.extend(at(applied.revision_at));
        if !self.wanted.is_met {
            revision.said.push(Said::Text(format!("(the broker is at {})", self.wanted.revision)));
        }
        let proved = match applied.proved {
            true => Fact::word("Credentials proved", Verdict::Ok, "yes", at(applied.proved_at)),
            false => Fact::word("Credentials proved", Verdict::Warning, "no", None),
        };
        let mut facts = vec![revision];
        if self.relying_party.is_some() {
            facts.push(Fact::codes("Client id", applied.client_id.clone(), "none yet"));
            facts.push(proved);
            facts.push(Fact::codes("Removed settings", applied.removed.clone(), "none"));
            facts.push(Fact::codes("Keys it verifies with", applied.proved_keys.key_ids.clone(), "none yet"));
            let mut known = Fact::text("How that is known", how(&applied.proved_keys.method));
            known.said.extend(at(applied.keys_proved_at));
            facts.push(known);
        }
        Section { id: "effect", title: "In effect", facts, command: "homeward-agent status" }
    }

    fn trust(&self) -> Section {
        let names = self.standing.applied.homes.iter().map(|(name, shown)| match shown == name || shown.is_empty() {
            true => name.clone(),
            false => format!("{name} ({shown})"),
        });
        let accepts = self.relying_party.map(|_| Fact::codes("Accepts homes", names, "none"));
        let accepted = "only the broker knows: ask ops, who see it with homeward-broker trust list";
        let accepted = self.vouches.then(|| Fact::text("Accepted by", accepted));
        let facts = accepts.into_iter().chain(accepted).collect();
        Section { id: "trust", title: "Trust", facts, command: "homeward-agent status" }
    }

    /// Each thing that the broker sends.
    pub(super) fn resources(&self, now: OffsetDateTime) -> Vec<Line> {
        let there = |resource: &Resource| {
            self.wanted.versions.of(*resource).or(self.standing.applied.versions.of(*resource)).is_some()
        };
        RESOURCES.into_iter().filter(there).map(|resource| self.line(resource, now)).collect()
    }

    fn line(&self, resource: Resource, now: OffsetDateTime) -> Line {
        let name = words(resource.as_str_name(), "RESOURCE_");
        let line = |verdict, word| Line { resource: name, verdict, word, why: String::new(), since: None };
        let applied = self.standing.applied.versions.of(resource);
        if let Some(refusal) = self.standing.refusals.get(&resource) {
            let since = self.standing.refused_since.get(&resource).map(|since| Moment::new(*since, now));
            let why = format!("{} {}", sentence(&refusal.detail), refusal.reason);
            return Line { why, since, ..line(Verdict::Warning, "not in effect") };
        }
        match self.wanted.versions.of(resource) {
            Some(wanted) if applied != Some(wanted) => line(Verdict::Warning, "under way"),
            _ => line(Verdict::Ok, "in effect"),
        }
    }

    /// What somebody has to do something about.
    pub(super) fn attention(&self, now: OffsetDateTime) -> Vec<Finding> {
        let mut findings = vec![identity::certificate(self.identity, now)];
        if !self.connected {
            let why = self.contact.broke.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let said = format!("There is no connection to the broker{why}. What was applied stays in effect.");
            findings.push(Finding::warning(
                "connection",
                said,
                "the agent tries again by itself; the doctor looks at the way there",
            ));
        }
        if self.application.as_ref().is_some_and(|state| !state.application_healthy) {
            findings.push(Finding::warning(
                "application",
                "The application does not answer.",
                "start it; the doctor says how it was asked",
            ));
        }
        if let Some(title) = self.relying_party {
            findings.push(credentials::in_effect(&self.standing.applied, title));
        }
        for (resource, refusal) in &self.standing.refusals {
            let what = words(resource.as_str_name(), "RESOURCE_");
            let remedy = "mend that; the agent tries again by itself, and what was there before stays meanwhile";
            findings.push(Finding::warning(&what, sentence(&refusal.detail), remedy));
        }
        findings.retain(|finding| finding.verdict != Verdict::Ok);
        findings
    }

    /// What the doctor says.
    pub(super) fn doctor(&self, now: OffsetDateTime) -> Doctor {
        let examination::State { under_way, last } = self.doctor.clone();
        Doctor {
            under_way: under_way.map(|look| (Moment::new(look.since, now), look.at)),
            last: last.map(|found| (Moment::new(found.of, now), found.all)),
        }
    }
}

impl Versioning {
    /// Of what is wanted, beside what is applied.
    pub(super) fn of(wanted: &Wanted, applied: &Versions) -> Self {
        let mut versions = Versions::default();
        RESOURCES.into_iter().for_each(|resource| versions.set(resource, wanted.version(resource)));
        Self { revision: wanted.revision, versions, is_met: wanted.is_met_by(applied) }
    }
}

impl Doctor {
    /// Whether it found anything to mend.
    pub(super) fn is_worried(&self) -> bool {
        self.last.iter().flat_map(|(_, findings)| findings).any(|finding| finding.verdict != Verdict::Ok)
    }

    /// How many findings there are of a kind, as the command counts them.
    pub(super) fn count(&self) -> String {
        let all = self.last.iter().flat_map(|(_, findings)| findings);
        let number = |verdict| all.clone().filter(|finding| finding.verdict == verdict).count();
        let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        match (number(Verdict::Error), number(Verdict::Warning)) {
            (0, 0) => "All is well.".to_owned(),
            (errors, warnings) => format!("{}, {}.", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
}

/// How it is known that the application verifies with the keys, for people.
fn how(method: &str) -> &'static str {
    match KeySetProofMethod::from_str_name(method) {
        Some(KeySetProofMethod::Shown) => "the application names them",
        Some(KeySetProofMethod::Warmed) => "the application fetched them when the agent made it",
        Some(KeySetProofMethod::NoCache) => "the application keeps none: it fetches them at each login",
        Some(KeySetProofMethod::MaxAge) => "every cache of older ones has expired",
        Some(KeySetProofMethod::NoRelyingParty) => "this instance verifies nothing: it is no relying party",
        Some(KeySetProofMethod::Unspecified) | None => "not yet",
    }
}
