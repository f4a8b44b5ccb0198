//! `homeward-broker instance`.

use clap::Subcommand;
use homeward_proto::v1;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List instances: state, roles, agent, revision in use.
    List,
    /// Show one instance.
    Show {
        /// Its name.
        name: String,
    },
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
    }
    Ok(())
}
