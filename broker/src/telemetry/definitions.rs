//! Every metric that a broker counts or shows. docs/telemetry.md has a line on each, and a test holds the two together.

use homeward_telemetry::metrics::{Definition, Kind};

/// What is counted as it happens.
pub(super) const HTTP_REQUESTS: Definition = counter(
    "homeward_http_requests_total",
    "Requests of browsers and applications, by the address that answered; none if there is no such address.",
    &["route", "method", "status"],
);
pub(super) const HTTP_TIME: Definition = Definition {
    name: "homeward_http_request_duration_seconds",
    kind: Kind::Histogram,
    help: "How long answers to browsers and applications take.",
    labels: &["route"],
};
pub(super) const GRPC_REQUESTS: Definition = counter(
    "homeward_grpc_requests_total",
    "Calls of agents and ops, by how they were answered; a stream by how it began.",
    &["method", "code"],
);
pub(super) const GRPC_TIME: Definition = Definition {
    name: "homeward_grpc_request_duration_seconds",
    kind: Kind::Histogram,
    help: "How long answers to agents and ops take; for a stream, how long until it begins.",
    labels: &["method"],
};
pub(super) const STORE_TIME: Definition = Definition {
    name: "homeward_store_operation_duration_seconds",
    kind: Kind::Histogram,
    help: "How long the store takes to read, and to commit durably.",
    labels: &["operation"],
};
pub(super) const STORE_ERRORS: Definition = counter(
    "homeward_store_errors_total",
    "What the store did not do. Conflicts are everyday: the loser of two who change the same decides again.",
    &["operation", "reason"],
);

/// Who runs.
pub const BUILD: Definition = gauge("homeward_build_info", "The version that runs.", &["version"]);
/// Whether logins can work.
pub const READY: Definition = gauge("homeward_ready", "1 if /readyz says so: logins can work here.", &[]);
/// Whether the store told everything.
pub const INCOMPLETE: Definition = gauge(
    "homeward_scrape_incomplete",
    "1 if the store did not tell in time what turns, or which logouts are on their way: that is left out here.",
    &[],
);
/// The brokers of the store.
pub const BROKERS: Definition = gauge("homeward_brokers", "Brokers that live, on this store.", &[]);
/// Whether this broker works for all.
pub const ON_DUTY: Definition =
    gauge("homeward_broker_on_duty", "1 if this broker does what one broker does for all.", &[]);

/// What was decided.
pub const EVENTS: Definition = counter(
    "homeward_audit_events_total",
    "Decisions and changes, as they are noted in the audit: logins and refusals of every kind.",
    &["event", "outcome", "reason"],
);
/// Logins at relying parties.
pub const LOGINS: Definition = counter(
    "homeward_logins_total",
    "Logins that were decided, by the relying party that asked.",
    &["relying_party", "outcome"],
);
/// What homes said.
pub const ANSWERS: Definition =
    counter("homeward_home_answers_total", "Answers of homes, by home: a user, or why not.", &["home", "outcome"]);
/// What waits for the disk.
pub const AUDIT_WAITING: Definition = gauge("homeward_audit_waiting_records", "Records that wait for the disk.", &[]);
/// Whether it works.
pub const AUDIT_FAILING: Definition = gauge("homeward_audit_failing", "1 while the audit cannot be written.", &[]);

/// What was too much.
pub const LIMITED: Definition = counter(
    "homeward_limited_total",
    "What was turned away, left out or ended because there was too much of it, and of which no answer tells: connections, records of the audit, sessions, grants.",
    &["limit"],
);

/// Instances by state.
pub const INSTANCES: Definition = gauge("homeward_instances", "Enrolled instances.", &["state"]);
/// Whether its agent is there.
pub const INSTANCE_ONLINE: Definition =
    gauge("homeward_instance_online", "1 if the agent of an active instance is connected to a broker.", &["name"]);
/// Whether it lags.
pub const INSTANCE_BEHIND: Definition =
    gauge("homeward_instance_behind", "1 if an active instance does not use the newest revision.", &["name"]);
/// Whether users can log in there.
pub const INSTANCE_HOME_READY: Definition =
    gauge("homeward_instance_home_ready", "1 if logins at this home can work.", &["name"]);
/// What it could not take.
pub const INSTANCE_REFUSED: Definition = gauge(
    "homeward_instance_refused_resources",
    "Resources that an active instance could not take, and why stands in `instance show`.",
    &["name"],
);
/// When it was heard.
pub const INSTANCE_SEEN: Definition = gauge(
    "homeward_instance_last_seen_timestamp_seconds",
    "When an active instance's agent last said anything.",
    &["name"],
);
/// Begin of its certificate.
pub const INSTANCE_ISSUED: Definition = gauge(
    "homeward_instance_certificate_issued_timestamp_seconds",
    "When the certificate that an active instance uses was made.",
    &["name"],
);
/// End of its certificate.
pub const INSTANCE_EXPIRY: Definition = gauge(
    "homeward_instance_certificate_expiry_timestamp_seconds",
    "When the certificate that an active instance uses ends.",
    &["name"],
);

/// End of CAs.
pub const CA_EXPIRY: Definition =
    gauge("homeward_ca_expiry_timestamp_seconds", "When the CA ends that signs instances, or brokers.", &["signs"]);
/// End of the broker's own certificate.
pub const LEAF_EXPIRY: Definition = gauge(
    "homeward_broker_certificate_expiry_timestamp_seconds",
    "When the certificate that this broker shows to agents ends.",
    &[],
);
/// Begin of the public address's certificate.
pub const PUBLIC_ISSUED: Definition = gauge(
    "homeward_public_certificate_issued_timestamp_seconds",
    "From when on the certificate that browsers are shown is good, where the broker itself speaks TLS.",
    &[],
);
/// End of it.
pub const PUBLIC_EXPIRY: Definition = gauge(
    "homeward_public_certificate_expiry_timestamp_seconds",
    "When the certificate that browsers are shown ends, where the broker itself speaks TLS.",
    &[],
);
/// Whether a CA gives one.
pub const ACME_TRIES: Definition = gauge(
    "homeward_acme_failed_tries",
    "Tries in a row at the CA of [tls.acme] that brought no certificate; one that still runs counts.",
    &[],
);
/// Signing keys by state.
pub const SIGNING_KEYS: Definition =
    gauge("homeward_signing_keys", "Signing keys that are published.", &["algorithm", "state"]);
/// Whether a broker could start with them.
pub const SIGNING_KEYS_FIT: Definition = gauge(
    "homeward_signing_keys_fit",
    "0 while the signing keys in the store are not fit for use; logins go on with the ones from before.",
    &[],
);
/// What turns.
pub const ROTATIONS: Definition = gauge("homeward_rotations_running", "What turns.", &["subject", "phase"]);
/// Who holds it up.
pub const ROTATION_WAITING: Definition =
    gauge("homeward_rotation_waiting_instances", "Instances that running rotations wait for.", &["subject"]);
/// What stands still.
pub const ROTATION_PAUSED: Definition =
    gauge("homeward_rotations_paused", "Rotations that have paused and wait for ops.", &["subject"]);
/// What comes next.
pub const ROTATION_NEXT: Definition = gauge(
    "homeward_rotation_next_timestamp_seconds",
    "When something of this kind next turns, or goes on, by itself at the earliest.",
    &["subject"],
);

/// Logouts on their way.
pub const LOGOUTS_WAITING: Definition =
    gauge("homeward_logouts_waiting", "Logouts on their way to applications; 10000 stands for more.", &[]);
/// How tries went.
pub const LOGOUT_TRIES: Definition = counter(
    "homeward_logout_tries_total",
    "Tries to bring a logout to an application, by what came of it.",
    &["outcome"],
);
const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Definition {
    Definition { name, kind: Kind::Counter, help, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Definition {
    Definition { name, kind: Kind::Gauge, help, labels }
}
