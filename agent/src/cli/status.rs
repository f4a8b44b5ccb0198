//! `homeward-agent status`: what is on disk of this instance. (Whether it is online, the broker knows better.)

use std::path::Path;

use serde_json::json;

use super::{Failure, Report, load};
use crate::RunError;
use crate::apply::applied::Applied;
use crate::clock;
use crate::disk::PrivateDir;
use crate::identity::Identity;

pub(super) fn carry_out(config: &Path, report: Report) -> Result<(), Failure> {
    let config = load(config)?;
    let data = PrivateDir::open(&config.data_dir).map_err(Failure::refused)?;
    let identity = Identity::load(data.clone()).map_err(Failure::refused)?.ok_or(RunError::NotEnrolled)?;
    let applied = Applied::load(&data).map_err(Failure::refused)?;
    let homes: Vec<&String> = applied.homes.iter().map(|(name, _)| name).collect();
    report.one(&[
        ("instance", json!(identity.instance())),
        ("issuer", json!(identity.issuer())),
        ("broker", json!(identity.agent_url())),
        ("running", json!(matches!(data.lock(), Err(crate::disk::DiskError::InUse { .. })))),
        ("certificate_generation", json!(identity.certificate_generation())),
        ("certificate_expires_at", json!(clock::rfc3339(identity.expires_at()))),
        ("certificate_expired", json!(identity.expires_at() <= clock::now())),
        ("trust_bundle_version", json!(identity.bundle_version())),
        ("applied_revision", json!(applied.revision)),
        ("client_id", json!(applied.client_id)),
        ("credentials_proved", json!(applied.proved)),
        ("accepts_homes", json!(homes)),
    ]);
    Ok(())
}
