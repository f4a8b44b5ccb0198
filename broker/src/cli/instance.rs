//! `homeward-broker instance`.

use clap::Subcommand;
use homeward_proto::v1;

use crate::cli::admin::{connect, refusal};
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
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = v1::ListInstancesRequest { page_size: 0, page_token };
                let page = admin.list_instances(request).await.map_err(|status| refusal(&status))?.into_inner();
                all.extend(page.instances);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
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
