//! What the running broker says of itself.

use std::collections::BTreeSet;

use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use tonic::transport::Channel;

use crate::cli::admin::{all_pages, refusal};
use crate::cli::doctor::finding::Finding;
use crate::clock::Timestamp;

/// Most names in one sentence.
const NAMED: usize = 5;

/// What it said.
pub(super) struct Inside {
    /// Where browsers are to reach it.
    pub(super) public_url: String,
    /// Where agents are to reach it.
    pub(super) agent_url: String,
    /// Name of the federation in certificates.
    pub(super) trust_domain: String,
    /// Its signing keys.
    pub(super) key_ids: BTreeSet<String>,
    brokers: Vec<v1::Broker>,
    kek: v1::GetKeyEncryptionKeyResponse,
    instances: Vec<v1::Instance>,
}

impl Inside {
    pub(super) async fn ask(admin: &mut AdminServiceClient<Channel>) -> anyhow::Result<Self> {
        let settings = admin.list_settings(v1::ListSettingsRequest {}).await.map_err(|status| refusal(&status))?;
        let settings = settings.into_inner().settings;
        let text = |name: &str| {
            let found = settings.iter().find(|setting| setting.name == name);
            found.and_then(|found| serde_json::from_str::<String>(&found.value_json).ok()).unwrap_or_default()
        };
        let brokers = admin.list_brokers(v1::ListBrokersRequest {}).await.map_err(|status| refusal(&status))?;
        let kek = admin.get_key_encryption_key(v1::GetKeyEncryptionKeyRequest {}).await;
        let keys = all_pages(async |page_token| {
            let request = v1::ListSigningKeysRequest { page_size: 0, page_token };
            let page = admin.clone().list_signing_keys(request).await?.into_inner();
            Ok((page.signing_keys, page.next_page_token))
        });
        let instances = all_pages(async |page_token| {
            let request = v1::ListInstancesRequest { page_size: 0, page_token };
            let page = admin.clone().list_instances(request).await?.into_inner();
            Ok((page.instances, page.next_page_token))
        });
        Ok(Self {
            public_url: text("public_url"),
            agent_url: text("agent_url"),
            trust_domain: text("trust_domain"),
            key_ids: keys.await?.into_iter().map(|key| key.key_id).collect(),
            brokers: brokers.into_inner().brokers,
            kek: kek.map_err(|status| refusal(&status))?.into_inner(),
            instances: instances.await?,
        })
    }

    pub(super) fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings = vec![self.of_brokers(), self.of_kek()];
        findings.extend(self.remarks());
        findings.extend(self.of_agents(now));
        findings
    }

    fn of_brokers(&self) -> Finding {
        let versions: BTreeSet<_> = self.brokers.iter().map(|broker| broker.version.as_str()).collect();
        let sentence = format!("{} at this store, version {}", count(self.brokers.len(), "broker"), named(&versions));
        if versions.len() > 1 {
            return Finding::warning("broker", sentence, "bring all brokers to the newest of these versions");
        }
        Finding::ok("broker", sentence)
    }

    fn remarks(&self) -> impl Iterator<Item = Finding> {
        let remarked = self.brokers.iter().filter(|broker| !broker.remark.is_empty());
        remarked.map(|broker| Finding::warning("broker", format!("{}: {}", broker.name, broker.remark), "as it says"))
    }

    fn of_kek(&self) -> Finding {
        match self.kek.unreadable_records {
            0 => {
                let sealed = self.kek.sealed_records;
                Finding::ok("sealing", format!("{sealed} sealed records can be read with the key {}", self.kek.key_id))
            }
            unreadable => Finding::error(
                "sealing",
                format!("{unreadable} sealed records cannot be read with the key {}", self.kek.key_id),
                "configure the key that sealed them as previous_key_encryption_key_file; see homeward-broker kek show",
            ),
        }
    }

    fn of_agents(&self, now: Timestamp) -> Vec<Finding> {
        let good = |instance: &&v1::Instance| instance.state() == v1::InstanceState::Confirmed;
        let those = |what: &dyn Fn(&v1::Instance) -> bool| -> Vec<&str> {
            let which = self.instances.iter().filter(good).filter(|instance| what(instance));
            which.map(|instance| instance.name.as_str()).collect()
        };
        let ended = |instance: &v1::Instance| {
            let ends = instance.certificate_expire_time.as_ref();
            ends.is_some_and(|ends| Timestamp::from_secs(ends.seconds) <= now)
        };
        let mut findings = Vec::new();
        let mut note = |names: &[&str], what: &str, remedy: &str| {
            if !names.is_empty() {
                let sentence = format!("{} {what}: {}", count(names.len(), "agent"), named(names));
                findings.push(Finding::warning("agents", sentence, remedy));
            }
        };
        let there = "there: homeward-agent status; homeward-agent doctor";
        let cut_off = self.instances.iter().filter(|it| it.state() == v1::InstanceState::Quarantined);
        note(
            &cut_off.map(|it| it.name.as_str()).collect::<Vec<_>>(),
            "in quarantine (instance show NAME says why)",
            "homeward-broker instance release NAME; after an alarm: homeward-broker token create --instance NAME --replace",
        );
        note(
            &those(&|it| !it.online && !ended(it)),
            "not connected",
            "there: systemctl start homeward-agent; homeward-agent doctor",
        );
        let come_back =
            "there: start the agent, it comes back by its recovery key; or a new one: token create --replace";
        note(&those(&|it| !it.online && ended(it)), "without a certificate that is good", come_back);
        note(&those(&|it| it.online && !it.problem.is_empty()), "with a problem (instance show NAME)", there);
        let behind = |it: &v1::Instance| it.online && it.problem.is_empty() && it.applied_revision < it.wanted_revision;
        note(&those(&behind), "behind: not everything is in effect", there);
        if findings.is_empty() {
            let number = self.instances.iter().filter(good).count();
            findings.push(Finding::ok("agents", format!("{} connected, and up to date", count(number, "agent"))));
        }
        findings
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The first of them.
fn named<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> String {
    let all: Vec<_> = names.into_iter().copied().collect();
    let first = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{first} …") } else { first }
}
