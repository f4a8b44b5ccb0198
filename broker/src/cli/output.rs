//! What commands print: tables for people, JSON for programs.

use std::fmt;
use std::io::{ErrorKind, Write as _};

use clap::ValueEnum;
use homeward_proto::v1;
use serde_json::{Value, json};
use tabled::Table;
use tabled::builder::Builder;
use tabled::settings::peaker::Priority;
use tabled::settings::{Style, Width};

use crate::clock::Timestamp;

/// For whom to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// People.
    Table,
    /// Programs.
    Json,
}

/// Something that can be a row of a table or a JSON object.
pub(super) trait Row {
    /// Heads of the columns.
    const COLUMNS: &'static [&'static str];

    /// One text a column.
    fn cells(&self) -> Vec<String>;

    /// Everything.
    fn json(&self) -> Value;
}

/// Prints a line. Where nobody reads any more (`… | head`), the command ends without a word.
#[expect(clippy::print_stderr, reason = "what cannot be printed is said, as every other refusal")]
#[expect(clippy::disallowed_methods, reason = "commands hold nothing that would have to be flushed or put away")]
pub(super) fn print_line(text: &dyn fmt::Display) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    eprintln!("homeward-broker: the output cannot be written: {error}");
    std::process::exit(1);
}

impl Output {
    /// Prints rows, or says that there are none.
    pub(super) fn list<T: Row>(self, rows: &[T]) {
        match self {
            Self::Json => print_line(&Value::from_iter(rows.iter().map(Row::json))),
            Self::Table if rows.is_empty() => print_line(&"(none)"),
            Self::Table => print_line(&table(rows)),
        }
    }

    /// The same, with long texts on several lines, so that no line is longer than this.
    pub(super) fn list_within<T: Row>(self, width: usize, rows: &[T]) {
        match self {
            Self::Json => self.list(rows),
            Self::Table => {
                let wrapped = Width::wrap(width).keep_words(true).priority(Priority::max(true));
                print_line(table(rows).with(wrapped));
            }
        }
    }

    /// Prints one thing: a line a member for people.
    pub(super) fn show(self, value: &Value) {
        match (self, value) {
            (Self::Table, Value::Object(members)) => {
                let width = members.keys().map(String::len).max().unwrap_or(0);
                for (name, value) in members.iter().filter(|(_, value)| !is_empty(value)) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    print_line(&format_args!("{name:width$}  {text}"));
                }
            }
            (_, value) => print_line(value),
        }
    }

    /// Prints a sentence for people, or an object for programs.
    pub(super) fn say(self, sentence: &str, value: &Value) {
        match self {
            Self::Table => print_line(&sentence),
            Self::Json => print_line(value),
        }
    }
}

fn table<T: Row>(rows: &[T]) -> Table {
    let mut table = Builder::default();
    table.push_record(T::COLUMNS.iter().copied());
    rows.iter().for_each(|row| table.push_record(row.cells()));
    let mut table = table.build();
    table.with(Style::blank());
    table
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// RFC 3339, or nothing.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.map(|time| Timestamp::from_secs(time.seconds).to_string()).unwrap_or_default()
}

impl Row for v1::JoinToken {
    const COLUMNS: &'static [&'static str] = &["ID", "INSTANCE", "STATE", "EXPIRES", "CREATOR", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let state = self.state().as_str_name().trim_start_matches("JOIN_TOKEN_STATE_").to_lowercase();
        let expires = time(self.expire_time.as_ref());
        vec![self.id.clone(), self.instance.clone(), state, expires, self.creator.clone(), self.note.clone()]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "instance": self.instance,
            "state": self.state().as_str_name().trim_start_matches("JOIN_TOKEN_STATE_").to_lowercase(),
            "create_time": time(self.create_time.as_ref()),
            "expire_time": time(self.expire_time.as_ref()),
            "creator": self.creator,
            "note": self.note,
        })
    }
}

impl Row for v1::Instance {
    const COLUMNS: &'static [&'static str] = &["NAME", "STATE", "ROLES", "AGENT", "REVISION", "CERTIFICATE", "PROBLEM"];

    fn cells(&self) -> Vec<String> {
        let roles = [(!self.client_id.is_empty(), "relying party"), (!self.portal_url.is_empty(), "home")];
        let roles: Vec<&str> = roles.into_iter().filter(|(has, _)| *has).map(|(_, role)| role).collect();
        // What an agent should have is known when it has connected, which it has not yet since the broker started.
        let revision = match (self.applied_revision, self.wanted_revision) {
            (_, 0) => "-".to_owned(),
            (applied, wanted) if applied == wanted => applied.to_string(),
            (applied, wanted) => format!("{applied} of {wanted}"),
        };
        vec![
            self.name.clone(),
            self.state().as_str_name().trim_start_matches("INSTANCE_STATE_").to_lowercase(),
            roles.join(", "),
            if self.online { "online".to_owned() } else { "offline".to_owned() },
            revision,
            time(self.certificate_expire_time.as_ref()),
            if self.quarantine_reason.is_empty() { self.problem.clone() } else { self.quarantine_reason.clone() },
        ]
    }

    fn json(&self) -> Value {
        let policy = self.policy.clone().unwrap_or_default();
        let signing_key_choice = policy.signing_key_choice().as_str_name().trim_start_matches("SIGNING_KEY_CHOICE_");
        let signing_key_choice = signing_key_choice.to_lowercase();
        json!({
            "name": self.name,
            "display_name": self.display_name,
            "public_url": self.public_url,
            "state": self.state().as_str_name().trim_start_matches("INSTANCE_STATE_").to_lowercase(),
            "quarantine_reason": self.quarantine_reason,
            "client_id": self.client_id,
            "redirect_uris": self.redirect_uris,
            "portal_url": self.portal_url,
            "enrol_time": time(self.enrol_time.as_ref()),
            "certificate_expire_time": time(self.certificate_expire_time.as_ref()),
            "online": self.online,
            "last_seen_time": time(self.last_seen_time.as_ref()),
            "agent_version": self.agent_version,
            "applied_revision": self.applied_revision,
            "wanted_revision": self.wanted_revision,
            "problem": self.problem,
            "certificate_generation": self.certificate_generation,
            "recovery_policy": policy.recovery,
            "signing_key_choice": signing_key_choice,
            "acknowledged_key_ids": self.acknowledged_key_ids,
            "trust_bundle_version": self.trust_bundle_version,
            "secret_version": self.secret_version,
            "account_key": self.account_key,
            "trust_problems": self.trust_problems,
        })
    }
}

impl Row for v1::TrustEdge {
    const COLUMNS: &'static [&'static str] = &[
        "RELYING PARTY",
        "ACCEPTS HOME",
        "USER NAME",
        "GROUPS",
        "VERIFIED EMAIL DOMAINS",
        "CONSENT",
        "API",
        "LINKED",
        "CHANGED",
    ];

    fn cells(&self) -> Vec<String> {
        let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
        let (changed, api) = (time(self.update_time.as_ref()), yes(self.api_access));
        let consent = consent(self.consent()).to_owned();
        vec![
            self.relying_party.clone(),
            self.home.clone(),
            self.username_template.clone(),
            group_lines(self).join(", "),
            self.email_domains.join(", "),
            consent,
            api,
            yes(self.linked),
            changed,
        ]
    }

    fn json(&self) -> Value {
        json!({
            "relying_party": self.relying_party,
            "home": self.home,
            "username_template": self.username_template,
            "groups": group_lines(self),
            "email_domains": self.email_domains,
            "consent": consent(self.consent()),
            "api_access": self.api_access,
            "linked": self.linked,
            "update_time": time(self.update_time.as_ref()),
        })
    }
}

impl Row for v1::Registration {
    const COLUMNS: &'static [&'static str] = &["RELYING PARTY", "CLIENTS", "MAY REGISTER", "UNTIL", "OPENED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.relying_party.clone(),
            self.clients.to_string(),
            self.clients_left.to_string(),
            time(self.expire_time.as_ref()),
            time(self.create_time.as_ref()),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "relying_party": self.relying_party,
            "clients": self.clients,
            "clients_left": self.clients_left,
            "expire_time": time(self.expire_time.as_ref()),
            "create_time": time(self.create_time.as_ref()),
        })
    }
}

impl Row for v1::Client {
    const COLUMNS: &'static [&'static str] =
        &["CLIENT ID", "RELYING PARTY", "NAME", "AGENT", "AUTHENTICATION", "GRANTS", "DEMANDS"];

    fn cells(&self) -> Vec<String> {
        let policy = self.policy.clone().unwrap_or_default();
        let demands = [
            (policy.profile() == "fapi2", "fapi2"),
            (policy.require_par(), "par"),
            (policy.require_pkce(), "pkce"),
            (policy.require_dpop(), "dpop"),
        ];
        let demands: Vec<&str> = demands.into_iter().filter(|(is, _)| *is).map(|(_, demand)| demand).collect();
        vec![
            self.client_id.clone(),
            self.relying_party.clone(),
            self.display_name.clone(),
            if self.enrolled { "yes".to_owned() } else { String::new() },
            self.auth_method.clone(),
            policy.grant_types().replace("urn:ietf:params:oauth:grant-type:", "").replace(',', ", "),
            demands.join(", "),
        ]
    }

    fn json(&self) -> Value {
        let policy = self.policy.clone().unwrap_or_default();
        json!({
            "client_id": self.client_id,
            "relying_party": self.relying_party,
            "display_name": self.display_name,
            "auth_method": self.auth_method,
            "enrolled": self.enrolled,
            "profile": policy.profile(),
            "require_par": policy.require_par(),
            "require_pkce": policy.require_pkce(),
            "require_dpop": policy.require_dpop(),
            "grant_types": policy.grant_types().split(',').collect::<Vec<_>>(),
            "subject_type": policy.subject_type(),
            "id_token_alg": policy.id_token_alg(),
            "claims_in_id_token": policy.claims_in_id_token(),
            "account_key": policy.account_key(),
        })
    }
}

/// As `trust allow` takes them.
fn group_lines(edge: &v1::TrustEdge) -> Vec<String> {
    edge.groups.iter().map(|line| format!("{}={}", line.home_group, line.relying_party_group)).collect()
}

/// As `trust allow` takes it.
fn consent(policy: v1::ConsentPolicy) -> &'static str {
    match policy {
        v1::ConsentPolicy::Unspecified | v1::ConsentPolicy::None => "none",
        v1::ConsentPolicy::FirstTime => "first",
        v1::ConsentPolicy::Always => "always",
    }
}
