//! `homeward-broker trust`.

use clap::{Subcommand, ValueEnum};
use homeward_proto::v1;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let a relying party accept a home's users. Said again, it replaces what was said before.
    Allow {
        /// The instance that accepts.
        #[arg(long)]
        relying_party: String,
        /// The instance whose users are accepted.
        #[arg(long)]
        home: String,
        /// A domain whose email addresses this home may call verified. May be repeated; without it the relying party
        /// sees every address of this home as unverified.
        #[arg(long = "email-domain", value_name = "DOMAIN")]
        email_domains: Vec<String>,
        /// Whether users are asked before the relying party learns anything of them.
        #[arg(long, value_name = "WHEN", value_enum, default_value_t = Consent::None)]
        consent: Consent,
        /// The relying party may call the home's API in the name of users whom the home knows (token exchange).
        #[arg(long)]
        api: bool,
    },
    /// List who accepts whom.
    List,
}

/// Whether users are asked.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Consent {
    /// Never: ops answer for it.
    None,
    /// Once, and again for anything new.
    First,
    /// At every login.
    Always,
}

impl From<Consent> for v1::ConsentPolicy {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::None => Self::None,
            Consent::First => Self::FirstTime,
            Consent::Always => Self::Always,
        }
    }
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Allow { relying_party, home, email_domains, consent, api: api_access } => {
            let consent = v1::ConsentPolicy::from(consent).into();
            let edge =
                v1::TrustEdge { relying_party, home, email_domains, consent, api_access, ..v1::TrustEdge::default() };
            let request = v1::AllowTrustRequest { trust_edge: Some(edge) };
            let allowed = admin.allow_trust(request).await.map_err(|status| refusal(&status))?.into_inner();
            let edge = allowed.trust_edge.unwrap_or_default();
            output.say(&format!("{} accepts users of {}.", edge.relying_party, edge.home), &edge.json());
        }
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListTrustEdgesRequest { page_size: 0, page_token };
                let page = admin.clone().list_trust_edges(request).await?.into_inner();
                Ok((page.trust_edges, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
    }
    Ok(())
}
