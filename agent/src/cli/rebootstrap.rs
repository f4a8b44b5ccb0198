//! `homeward-agent rebootstrap`: trusts another CA, because the operator says which.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use homeward_certs::pin::SpkiPin;
use serde_json::json;

use super::{Failure, Report, load};
use crate::RunError;
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::trust;

/// Trusts another CA of the broker, after ops replaced it in a way that this agent cannot follow by itself.
#[derive(Debug, Args)]
pub(super) struct Rebootstrap {
    /// The CA's pin, as ops see it: sha256/ and 44 characters.
    #[arg(long, value_name = "PIN")]
    pin: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no pin of a CA: it is sha256/ and 44 characters of base64; ops see it with homeward-broker ca show")]
struct NotAPin(String);

impl Rebootstrap {
    pub(super) async fn carry_out(self, config: &Path, report: Report) -> Result<(), Failure> {
        let pin = parse(&self.pin).ok_or_else(|| Failure::refused(NotAPin(self.pin.clone())))?;
        let config = load(config)?;
        let data = PrivateDir::open(&config.data_dir).map_err(Failure::refused)?;
        let _lock = data.lock().map_err(Failure::refused)?;
        let identity = Identity::load(data.clone()).map_err(Failure::refused)?.ok_or(RunError::NotEnrolled)?;
        let version = trust::rebootstrap(&identity, pin).await.map_err(Failure::refused)?;
        report.one(&[
            ("instance", json!(identity.instance())),
            ("trust_bundle_version", json!(version)),
            ("trusted_pins", json!(identity.trust_bundle().pins().iter().map(ToString::to_string).collect::<Vec<_>>())),
            ("next", json!("homeward-agent run")),
        ]);
        Ok(())
    }
}

/// As RFC 7469 2.4 writes it.
fn parse(text: &str) -> Option<SpkiPin> {
    let bytes = STANDARD.decode(text.strip_prefix("sha256/")?).ok()?;
    bytes.try_into().ok().map(SpkiPin::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_printed() {
        let pin = SpkiPin::from_bytes([7; 32]);
        assert_eq!(parse(&pin.to_string()), Some(pin));
        for bad in ["", "sha256/", "sha256/AAAA", "md5/AAAA", &pin.to_string()[7..]] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
