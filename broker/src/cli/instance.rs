//! `homeward-broker instance`.

use anyhow::bail;
use clap::{ArgGroup, Subcommand, ValueEnum};
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use serde_json::json;
use tonic::transport::Channel;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row};
use crate::config::Config;
use crate::registry::RecoveryPolicy;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List instances: state, roles, agent, revision in use.
    List,
    /// Show one instance.
    Show {
        /// Its name.
        name: String,
    },
    /// Cut an instance off: no login from or to it, its agent's stream ends within a second.
    Quarantine {
        /// Its name.
        name: String,
        /// Why, in one sentence; `instance show` says it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a quarantine that ops ordered. One that an alarm raised is ended by `token create --replace` only.
    Release {
        /// Its name.
        name: String,
    },
    /// Remove an instance with its trust edges and its client.
    Evict {
        /// Its name.
        name: String,
        /// Do it; without this the command says what would be lost.
        #[arg(long)]
        yes: bool,
    },
    /// Change how the broker treats an instance.
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Policy {
        /// Its name.
        name: String,
        /// How often it may come back by its recovery key after its certificate has expired: off, always, or a number.
        #[arg(long, group = "change", value_name = "off|always|N")]
        recovery: Option<RecoveryPolicy>,
        /// With which key its tokens are signed: the active one, or the newest that it has acknowledged.
        #[arg(long, group = "change")]
        signing_key: Option<SigningKey>,
    },
}

/// With which key tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SigningKey {
    /// With the active one, always.
    Active,
    /// With the newest that the instance has acknowledged.
    Acknowledged,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListInstancesRequest { page_size: 0, page_token };
                let page = admin.clone().list_instances(request).await?.into_inner();
                Ok((page.instances, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Show { name } => {
            let request = v1::GetInstanceRequest { name };
            let found = admin.get_instance(request).await.map_err(|status| refusal(&status))?.into_inner();
            output.show(&found.instance.unwrap_or_default().json());
        }
        Command::Quarantine { name, reason } => {
            let request = v1::QuarantineInstanceRequest { name, reason };
            let done = admin.quarantine_instance(request).await.map_err(|status| refusal(&status))?.into_inner();
            let instance = done.instance.unwrap_or_default();
            let sentence = format!("{} is quarantined: {}.", instance.name, instance.quarantine_reason);
            output.say(&sentence, &instance.json());
        }
        Command::Release { name } => {
            let request = v1::ReleaseInstanceRequest { name };
            let done = admin.release_instance(request).await.map_err(|status| refusal(&status))?.into_inner();
            let instance = done.instance.unwrap_or_default();
            let sentence = format!(
                "{} may log users in again. If its agent has stopped, start it again: its identity is good as it was.",
                instance.name
            );
            output.say(&sentence, &instance.json());
        }
        Command::Evict { name, yes: false } => bail!("{}", what_would_be_lost(&mut admin, name).await?),
        Command::Evict { name, yes: true } => evict(&mut admin, name, output).await?,
        Command::Policy { name, recovery, signing_key } => {
            let policy = policy(recovery, signing_key);
            let request = v1::SetInstancePolicyRequest { name, policy: Some(policy) };
            let done = admin.set_instance_policy(request).await.map_err(|status| refusal(&status))?.into_inner();
            output.show(&done.instance.unwrap_or_default().json());
        }
    }
    Ok(())
}

async fn evict(admin: &mut AdminServiceClient<Channel>, name: String, output: Output) -> anyhow::Result<()> {
    let request = v1::EvictInstanceRequest { name: name.clone() };
    let done = admin.evict_instance(request).await.map_err(|status| refusal(&status))?.into_inner();
    let edges = done.trust_edges_removed;
    let shown = json!({"name": name, "trust_edges_removed": edges});
    output.say(&format!("{name} is gone, and {edges} trust edge(s) with it."), &shown);
    Ok(())
}

/// What ops are to know before they evict an instance.
async fn what_would_be_lost(admin: &mut AdminServiceClient<Channel>, name: String) -> anyhow::Result<String> {
    let request = v1::GetInstanceRequest { name };
    let found = admin.get_instance(request).await.map_err(|status| refusal(&status))?.into_inner();
    let instance = found.instance.unwrap_or_default();
    let edges = all_pages(async |page_token| {
        let request = v1::ListTrustEdgesRequest { page_size: 0, page_token };
        let page = admin.clone().list_trust_edges(request).await?.into_inner();
        Ok((page.trust_edges, page.next_page_token))
    })
    .await?;
    let name = &instance.name;
    let edges = edges.iter().filter(|edge| edge.relying_party == *name || edge.home == *name).count();
    let client = if instance.client_id.is_empty() { "" } else { ", its client" };
    Ok(format!(
        "{name} would lose its identity{client} and {edges} trust edge(s), and its users would be strangers when it \
         enrols again: say --yes if that is what you want, or cut it off with `homeward-broker instance quarantine {name}`"
    ))
}

/// What is to be changed, as the contract writes it.
fn policy(recovery: Option<RecoveryPolicy>, signing_key: Option<SigningKey>) -> v1::InstancePolicy {
    let signing_key_choice = match signing_key {
        None => v1::SigningKeyChoice::Unspecified,
        Some(SigningKey::Active) => v1::SigningKeyChoice::Active,
        Some(SigningKey::Acknowledged) => v1::SigningKeyChoice::Acknowledged,
    };
    let recovery = recovery.map(|recovery| recovery.to_string()).unwrap_or_default();
    v1::InstancePolicy { recovery, signing_key_choice: signing_key_choice.into() }
}
