//! The CA, as the contract writes it.

use std::collections::{BTreeSet, HashMap};

use homeward_proto::v1;

use crate::authority::{CaState, ListedCa};
use crate::grpc::admin::Service;
use crate::grpc::wire_time;

impl Service {
    pub(super) fn authority(&self) -> v1::GetAuthorityResponse {
        let state = self.authority.state();
        let holders = self.holders(&state);
        let certificates = state.authorities().into_iter().map(|ca| certificate(&ca, &holders));
        v1::GetAuthorityResponse {
            trust_bundle_version: state.bundle.version,
            certificates: certificates.collect(),
            phase: state.phase.map(|phase| phase.to_string()).unwrap_or_default(),
        }
    }

    /// How many instances hold a good certificate of which CA.
    fn holders(&self, state: &CaState) -> HashMap<String, u32> {
        let (now, mut holders) = (self.clock.now(), HashMap::new());
        for instance in self.registry.snapshot().instances() {
            let certificates = std::iter::once(&instance.certificate).chain(&instance.pending_certificate);
            let good = certificates.filter(|certificate| now < certificate.not_after);
            // One that is between two CAs counts for both, because both must stay.
            let of: BTreeSet<String> = good.map(|certificate| state.pin_of(certificate.authority.as_deref())).collect();
            of.into_iter().for_each(|pin| *holders.entry(pin).or_default() += 1);
        }
        holders
    }
}

/// A CA certificate, with the number of instances that hold a certificate of it.
fn certificate(ca: &ListedCa, holders: &HashMap<String, u32>) -> v1::AuthorityCertificate {
    let role = match (ca.signs_instances, ca.signs_brokers) {
        (true, true) => "signs instances and brokers",
        (true, false) => "signs instances",
        (false, true) => "signs brokers",
        (false, false) => "is trusted",
    };
    let pin = ca.pin.to_string();
    v1::AuthorityCertificate {
        create_time: Some(wire_time(ca.created_at)),
        expire_time: Some(wire_time(ca.expires_at)),
        role: role.to_owned(),
        instances: holders.get(&pin).copied().unwrap_or(0),
        pin,
    }
}
