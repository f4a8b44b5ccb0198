//! `homeward-agent status`: what is on disk of this instance: who it is, what it uses, and when the broker was last talked
//! to. A dead identity is a failure: monitoring needs no more than the exit code.

use std::path::Path;

use serde_json::json;
use time::OffsetDateTime;

use super::{Failure, Report, load};
use crate::RunError;
use crate::clock;
use crate::contact::LastContact;
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::resources::applied::Applied;

/// Why the identity is of no use as it is.
#[derive(Debug, thiserror::Error)]
enum Dead {
    #[error("the broker has sent this agent away: {0}")]
    Dismissed(String),
    #[error(
        "the certificate has expired at {expires_at}, and the broker was last connected {last}; start the agent, which tries to recover it, and look at its log"
    )]
    Expired { expires_at: String, last: String },
}

pub(super) fn carry_out(config: &Path, report: Report) -> Result<(), Failure> {
    let config = load(config)?;
    let data = PrivateDir::open(&config.data_dir).map_err(Failure::refused)?;
    let identity = Identity::load(data.clone()).map_err(Failure::refused)?.ok_or(RunError::NotEnrolled)?;
    let applied = Applied::load(&data).map_err(Failure::refused)?;
    let contact = LastContact::load(&data).map_err(Failure::refused)?;
    let now = clock::now();
    let expired = identity.expires_at() <= now;
    let running = matches!(data.lock(), Err(crate::disk::DiskError::InUse { .. }));
    let homes: Vec<&String> = applied.homes.iter().map(|(name, _)| name).collect();
    report.one(&[
        ("instance", json!(identity.instance())),
        ("issuer", json!(identity.issuer())),
        ("broker", json!(identity.agent_url())),
        ("running", json!(running)),
        (
            "connected",
            json!(running && contact.lost_at.is_none() && contact.broke.is_none() && contact.connected_at.is_some()),
        ),
        ("last_connected_at", json!(last_connected(&contact))),
        ("not_connected_because", json!(contact.broke)),
        ("dismissed", json!(contact.dismissed)),
        ("certificate_generation", json!(identity.certificate_generation())),
        ("certificate_expires_at", json!(clock::rfc3339(identity.expires_at()))),
        ("certificate_expired", json!(expired)),
        ("trust_bundle_version", json!(identity.bundle_version())),
        ("applied_revision", json!(applied.revision)),
        ("applied_revision_at", json!(moment(applied.revision_at))),
        ("client_id", json!(applied.client_id)),
        ("credentials_proved", json!(applied.proved)),
        ("credentials_proved_at", json!(moment(applied.proved_at))),
        ("removed_settings", json!(applied.removed)),
        ("accepts_homes", json!(homes)),
    ]);
    if let Some(why) = contact.dismissed {
        return Err(Failure::refused(Dead::Dismissed(why)));
    }
    if expired {
        let last = last_connected(&contact).map_or_else(|| "never".to_owned(), |at| format!("at {at}"));
        return Err(Failure::refused(Dead::Expired { expires_at: clock::rfc3339(identity.expires_at()), last }));
    }
    Ok(())
}

/// The end of the last stream, or the beginning of the one that lives.
fn last_connected(contact: &LastContact) -> Option<String> {
    moment(contact.lost_at.or(contact.connected_at))
}

fn moment(at: Option<i64>) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(at?).ok().map(clock::rfc3339)
}
