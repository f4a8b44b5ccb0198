//! `homeward-broker link`.

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List users who have linked their accounts at two homes.
    List,
    /// End a link, and log the user out where he came in through the linked home.
    End {
        /// Its id, as `link list` shows it.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListLinksRequest { page_size: 0, page_token };
                let page = admin.clone().list_links(request).await?.into_inner();
                Ok((page.links, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::End { id } => {
            let ended = admin.end_link(v1::EndLinkRequest { id }).await.map_err(|status| refusal(&status))?;
            let v1::EndLinkResponse { link, sessions_ended } = ended.into_inner();
            let link = link.unwrap_or_default();
            let sentence = format!(
                "{} is not taken for {} any more; {sessions_ended} session(s) ended.",
                link.alias, link.primary
            );
            output.say(&sentence, &json!({ "link": link.json(), "sessions_ended": sessions_ended }));
        }
    }
    Ok(())
}

impl Row for v1::Link {
    const COLUMNS: &'static [&'static str] = &["ID", "USER", "IS TAKEN FOR", "SINCE", "WITHOUT EFFECT"];

    fn cells(&self) -> Vec<String> {
        let since = time(self.create_time.as_ref());
        vec![self.id.clone(), self.alias.clone(), self.primary.clone(), since, self.void_reason.clone()]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "alias": self.alias,
            "primary": self.primary,
            "create_time": time(self.create_time.as_ref()),
            "void_reason": self.void_reason,
        })
    }
}
