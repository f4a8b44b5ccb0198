//! `homeward-broker client`.

use clap::{Args, Subcommand};
use homeward_proto::v1;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List clients: of instances, and those that registered themselves.
    List,
    /// Change what a client must and may do; what is not said stays.
    Policy {
        /// Its client id, or the name of the instance or relying party whose only client it is.
        client: String,
        #[command(flatten)]
        policy: Box<Demands>,
    },
}

/// What is to be changed.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(super) struct Demands {
    /// A set of demands: fapi2 for all that FAPI 2.0 Security Profile wants, or none.
    #[arg(long, value_name = "NAME", value_parser = ["none", "fapi2"])]
    profile: Option<String>,
    /// Every authorization request must be pushed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_par: Option<bool>,
    /// Every authorization request must carry a PKCE challenge.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_pkce: Option<bool>,
    /// Access tokens must be bound to a key of the client.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_dpop: Option<bool>,
    /// What it may ask tokens for, comma-separated, for example authorization_code,refresh_token.
    #[arg(long, value_name = "LIST")]
    grant_types: Option<String>,
    /// Whether other relying parties know its users by other subjects.
    #[arg(long, value_name = "TYPE", value_parser = ["public", "pairwise"])]
    subject_type: Option<String>,
    /// By what it finds the account of a user who comes again. What it goes by must be one user's for ever.
    #[arg(long, value_name = "CLAIM", value_parser = ["subject", "email", "username"])]
    account_key: Option<String>,
    /// How its ID tokens are signed.
    #[arg(long, value_name = "ALG", value_parser = ["RS256", "ES256"])]
    id_token_alg: Option<String>,
    /// The ID token carries the claims of userinfo too.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    claims_in_id_token: Option<bool>,
}

impl From<Demands> for v1::ClientPolicy {
    fn from(policy: Demands) -> Self {
        Self {
            profile: policy.profile,
            require_par: policy.require_par,
            require_pkce: policy.require_pkce,
            require_dpop: policy.require_dpop,
            grant_types: policy.grant_types,
            subject_type: policy.subject_type,
            id_token_alg: policy.id_token_alg,
            account_key: policy.account_key,
            claims_in_id_token: policy.claims_in_id_token,
        }
    }
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListClientsRequest { page_size: 0, page_token };
                let page = admin.clone().list_clients(request).await?.into_inner();
                Ok((page.clients, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Policy { client, policy } => {
            let request = v1::SetClientPolicyRequest { client, policy: Some((*policy).into()) };
            let changed = admin.set_client_policy(request).await.map_err(|status| refusal(&status))?.into_inner();
            output.show(&changed.client.unwrap_or_default().json());
        }
    }
    Ok(())
}
