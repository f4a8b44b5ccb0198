//! Every metric of an agent. docs/telemetry.md has a line on each, and a test holds the two together.

use homeward_telemetry::metrics::{Definition, Kind};

pub(super) const BUILD: Definition =
    gauge("homeward_agent_build_info", "The version that runs, for which instance.", &["version", "name"]);
pub(super) const CONNECTED: Definition =
    gauge("homeward_agent_connected", "1 while there is a stream to a broker.", &[]);
pub(super) const IDENTITY_GOOD: Definition =
    gauge("homeward_agent_identity_good", "1 while the certificate can be shown: /readyz says the same.", &[]);
pub(super) const EXPIRY: Definition =
    gauge("homeward_agent_certificate_expiry_timestamp_seconds", "When the certificate ends.", &[]);
pub(super) const GENERATION: Definition =
    gauge("homeward_agent_certificate_generation", "Number of the certificate: one more with each renewal.", &[]);
pub(super) const APPLIED: Definition = gauge("homeward_agent_applied_revision", "The revision that is in effect.", &[]);
pub(super) const WANTED: Definition =
    gauge("homeward_agent_wanted_revision", "The revision that the broker sent last; 0 before it did.", &[]);
pub(super) const PROVED: Definition = gauge(
    "homeward_agent_credentials_proved",
    "1 if the application has shown that it uses its client credentials.",
    &[],
);
pub(super) const REFUSED: Definition =
    gauge("homeward_agent_refused_resources", "Resources that could not be put into effect, and are tried again.", &[]);
pub(super) const APPLICATION_UP: Definition =
    gauge("homeward_agent_application_up", "1 if the application answers the agent.", &[]);
pub(super) const HOME_READY: Definition =
    gauge("homeward_agent_home_ready", "1 if logins at this home can work; 0 also where it is none.", &[]);
pub(super) const CHANGES: Definition = counter(
    "homeward_agent_resource_changes_total",
    "Tries to put a resource into effect, by what came of it.",
    &["resource", "outcome", "reason"],
);
pub(super) const RELOADS: Definition =
    counter("homeward_agent_reloads_total", "Runs of the command that reloads the application.", &["outcome"]);
pub(super) const LOGINS: Definition = counter(
    "homeward_agent_home_logins_total",
    "Logins that this home has ended, by what it told the broker.",
    &["outcome"],
);
pub(super) const REQUESTS: Definition = counter(
    "homeward_agent_portal_requests_total",
    "Requests of browsers at the portal, by page; none if there is no such page.",
    &["page", "status"],
);
pub(super) const TIME: Definition = Definition {
    name: "homeward_agent_portal_request_duration_seconds",
    kind: Kind::Histogram,
    help: "How long the pages of the portal take, with all that broker and application are asked for them.",
    labels: &["page"],
};

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Definition {
    Definition { name, kind: Kind::Counter, help, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Definition {
    Definition { name, kind: Kind::Gauge, help, labels }
}
