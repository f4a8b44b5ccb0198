//! What ops are shown, as the contract writes it.

use std::collections::{BTreeMap, HashMap};

use homeward_proto::v1;
use serde_json::Value;

use crate::authority::ListedCa;
use crate::brokers::{BrokerId, Brokers};
use crate::clock::Timestamp;
use crate::config::Setting;
use crate::enrolment::{JoinTokenState, ListedJoinToken};
use crate::grpc::wire_time;
use crate::registry::{Instance, InstanceState, Sighting, SigningKeyChoice};

/// An instance, and what was last heard of its agent.
pub(super) fn instance(instance: &Instance, seen: Option<Sighting>) -> v1::Instance {
    let party = instance.relying_party.as_ref();
    let (state, quarantine_reason) = match &instance.state {
        InstanceState::Claimed { .. } => (v1::InstanceState::Claimed, String::new()),
        InstanceState::Confirmed => (v1::InstanceState::Confirmed, String::new()),
        InstanceState::Quarantined { reason, .. } => (v1::InstanceState::Quarantined, reason.clone()),
    };
    let newest = instance.pending_certificate.as_ref().unwrap_or(&instance.certificate);
    let signing_key_choice = match party.map(|party| party.signing_key_choice).unwrap_or_default() {
        SigningKeyChoice::Active => v1::SigningKeyChoice::Active,
        SigningKeyChoice::Acknowledged => v1::SigningKeyChoice::Acknowledged,
    };
    let policy =
        v1::InstancePolicy { recovery: instance.recovery.to_string(), signing_key_choice: signing_key_choice.into() };
    let mut shown = v1::Instance {
        name: instance.name.to_string(),
        display_name: instance.display_name.clone(),
        public_url: instance.public_url.clone(),
        state: state.into(),
        client_id: party.map(|party| party.client_id.to_string()).unwrap_or_default(),
        redirect_uris: party.map(|party| party.redirect_uris.clone()).unwrap_or_default(),
        portal_url: instance.home.as_ref().map(|home| home.portal_url.clone()).unwrap_or_default(),
        enrol_time: Some(wire_time(instance.enrolled_at)),
        certificate_expire_time: Some(wire_time(newest.not_after)),
        quarantine_reason,
        certificate_generation: instance.certificate.generation,
        policy: Some(policy),
        account_key: party.map(|party| party.policy.account_key.as_str().to_owned()).unwrap_or_default(),
        ..v1::Instance::default()
    };
    if let Some(seen) = seen {
        shown.online = seen.online;
        shown.last_seen_time = Some(wire_time(seen.last_seen_at));
        shown.agent_version = seen.agent_version;
        shown.applied_revision = seen.applied_revision;
        shown.wanted_revision = seen.wanted_revision;
        let refusal = seen.refusals.values().next();
        shown.problem = refusal.map_or(seen.problem, |refusal| format!("{}: {}", refusal.reason, refusal.detail));
        shown.acknowledged_key_ids = seen.acknowledged.key_ids;
        shown.trust_bundle_version = seen.acknowledged.bundle_version;
        shown.secret_version = seen.acknowledged.secret_version;
    }
    shown
}

/// The brokers that live, with how many agents each has.
pub(super) fn brokers(brokers: &Brokers, agents: &BTreeMap<BrokerId, u32>) -> Vec<v1::Broker> {
    let all = brokers.all().into_iter().map(|(id, broker)| v1::Broker {
        id: id.to_string(),
        name: broker.name,
        version: broker.version,
        start_time: Some(wire_time(broker.started_at)),
        agents: agents.get(&id).copied().unwrap_or_default(),
        on_duty: brokers.on_duty() == Some(id),
        answering: brokers.me() == id,
        http_address: broker.addresses.0,
        grpc_address: broker.addresses.1,
        remark: broker.remark.unwrap_or_default(),
        key_id: broker.keys.0,
        previous_key_id: broker.keys.1.unwrap_or_default(),
    });
    all.collect()
}

/// A setting and whose word it is.
pub(super) fn setting(setting: Setting) -> v1::Setting {
    let json = |value: Option<Value>| value.map(|value| value.to_string()).unwrap_or_default();
    let (named_by, named_time) = setting.named_by.map(|by| (by.broker, wire_time(by.at))).unzip();
    v1::Setting {
        name: setting.name,
        value_json: setting.value.to_string(),
        named_by: named_by.unwrap_or_default(),
        named_time,
        file_value_json: json(setting.file),
        until_restart_value_json: json(setting.until_restart),
    }
}

/// A join token without its secret.
pub(super) fn join_token(listed: &ListedJoinToken, now: Timestamp) -> v1::JoinToken {
    let token = &listed.token;
    let state = match token.state {
        JoinTokenState::Issued if token.expires_at <= now => v1::JoinTokenState::Expired,
        JoinTokenState::Issued => v1::JoinTokenState::Issued,
        JoinTokenState::Claimed(_) => v1::JoinTokenState::Claimed,
        JoinTokenState::Confirmed(_) => v1::JoinTokenState::Confirmed,
        JoinTokenState::Revoked => v1::JoinTokenState::Revoked,
    };
    v1::JoinToken {
        id: listed.id.to_string(),
        instance: token.instance.to_string(),
        create_time: Some(wire_time(token.created_at)),
        expire_time: Some(wire_time(token.expires_at)),
        state: state.into(),
        creator: token.creator.clone(),
        note: token.note.clone(),
    }
}

/// A CA certificate, with the number of instances that hold a certificate of it.
pub(super) fn authority_certificate(ca: &ListedCa, holders: &HashMap<String, u32>) -> v1::AuthorityCertificate {
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
