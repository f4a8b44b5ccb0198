//! `homeward-broker broker`.

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the brokers that run on this store, where each listens and how many agents it has, and which one sweeps, posts
    /// logouts and moves rotations for all.
    List,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List => {
            let listed = admin.list_brokers(v1::ListBrokersRequest {}).await.map_err(|status| refusal(&status))?;
            output.list(&listed.into_inner().brokers);
        }
    }
    Ok(())
}

impl Row for v1::Broker {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "BROKER", "VERSION", "SINCE", "HTTP", "GRPC", "AGENTS", "DUTY", "REMARK"];

    fn cells(&self) -> Vec<String> {
        let duty = if self.on_duty { "yes" } else { "" };
        let name = if self.answering { format!("{} (this one)", self.name) } else { self.name.clone() };
        let since = time(self.start_time.as_ref());
        let (http, grpc) = (self.http_address.clone(), self.grpc_address.clone());
        let (agents, remark) = (self.agents.to_string(), self.remark.clone());
        vec![name, self.id.clone(), self.version.clone(), since, http, grpc, agents, duty.to_owned(), remark]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "start_time": time(self.start_time.as_ref()),
            "agents": self.agents,
            "on_duty": self.on_duty,
            "answering": self.answering,
            "http_address": self.http_address,
            "grpc_address": self.grpc_address,
            "remark": self.remark,
            "key_id": self.key_id,
            "previous_key_id": self.previous_key_id,
        })
    }
}
