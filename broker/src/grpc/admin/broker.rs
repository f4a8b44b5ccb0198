//! The brokers and what they agree on, as the contract writes them.

use homeward_proto::v1;
use serde_json::Value;

use crate::config::Setting;
use crate::grpc::admin::Service;
use crate::grpc::wire_time;

impl Service {
    /// The brokers that live, with how many agents each has.
    pub(super) fn living(&self) -> Vec<v1::Broker> {
        let (brokers, agents) = (&self.brokers, self.fleet.liveness().agents_by_broker());
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

    pub(super) fn all_settings(&self) -> Vec<v1::Setting> {
        self.settings.all().into_iter().map(setting).collect()
    }
}

/// A setting and whose word it is.
fn setting(setting: Setting) -> v1::Setting {
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
