//! The keys that seal what is stored.

use homeward_proto::v1;

use crate::grpc::desk::{Seat, lower, refusal};
use crate::web::console::{DataKeyRow, Refusal, SealingSheet};

impl Seat {
    /// What seals, and what an old key seals still.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn sealing(&self) -> Result<SealingSheet, Refusal> {
        let found = self.client.clone().get_key_encryption_key(self.ask(v1::GetKeyEncryptionKeyRequest {})).await;
        let found = found.map_err(|status| refusal(&status))?.into_inner();
        let advice = advice(&found);
        let data_keys = found.data_keys.into_iter().map(|key| DataKeyRow {
            state: lower(key.state().as_str_name(), "DATA_KEY_STATE_"),
            since: self.moment(key.state_time.as_ref()),
            gone: self.moment(key.gone_time.as_ref()),
            by_configured: key.key_id == found.key_id,
            id: key.id,
            sealed_by: key.key_id,
        });
        let brokers = found.brokers.into_iter().map(|broker| [broker.name, broker.key_id, broker.previous_key_id]);
        Ok(SealingSheet {
            data_keys: data_keys.collect(),
            brokers: brokers.collect(),
            key: found.key_id,
            source: found.source,
            previous: found.previous_key_id,
            records: (found.sealed_records, found.stale_records, found.unreadable_records),
            advice,
        })
    }
}

/// What ops are to do, the most urgent of it.
fn advice(found: &v1::GetKeyEncryptionKeyResponse) -> String {
    let others = found.brokers.iter().filter(|broker| !broker.key_id.is_empty() && broker.key_id != found.key_id);
    let others: Vec<&str> = others.map(|broker| broker.name.as_str()).collect();
    if found.unreadable_records > 0 {
        return format!(
            "No configured key opens {} records: a data key, or the key that sealed it, is lost.",
            found.unreadable_records
        );
    }
    if found.data_keys.iter().any(|key| key.key_id != found.key_id) {
        return "Another key-encryption key seals data keys still: turn them.".to_owned();
    }
    if !others.is_empty() {
        return format!("{} runs with another key configured, and will not start again with that.", others.join(", "));
    }
    if found.stale_records > 0 {
        return format!("A retired data key seals {} records still: finish the turn.", found.stale_records);
    }
    String::new()
}
