//! `homeward-broker registration`.

use std::time::Duration;

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::json;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row, print_line, time};
use crate::cli::token::duration;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let an application without agent register itself. The initial access token is printed now and never again; said
    /// again, it makes another one and the old one ends.
    Open {
        /// Name of the relying party, for `trust allow`: 1 to 63 of a-z, 0-9 and -.
        name: String,
        /// How many clients the token registers.
        #[arg(long, default_value_t = 1)]
        clients: u32,
        /// How long the token works, for example 30m, 2h or 7d: from a minute to 30 days.
        #[arg(long, default_value = "1h", value_parser = duration)]
        lifetime: Duration,
    },
    /// List relying parties without agent.
    List,
    /// Remove a relying party without agent: its token, its clients and its trust edges.
    Close {
        /// Its name.
        name: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Open { name, clients, lifetime } => {
            let lifetime_duration = Some(prost_types::Duration::try_from(lifetime)?);
            let request = v1::OpenRegistrationRequest { relying_party: name, lifetime_duration, clients };
            let opened = admin.open_registration(request).await.map_err(|status| refusal(&status))?.into_inner();
            show(&opened, output);
        }
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListRegistrationsRequest { page_size: 0, page_token };
                let page = admin.clone().list_registrations(request).await?.into_inner();
                Ok((page.registrations, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Close { name } => {
            let request = v1::CloseRegistrationRequest { relying_party: name.clone() };
            let closed = admin.close_registration(request).await.map_err(|status| refusal(&status))?.into_inner();
            let clients = closed.clients_removed;
            let shown = json!({"relying_party": name, "clients_removed": clients});
            output.say(&format!("{name} is gone, and {clients} client(s) with it."), &shown);
        }
    }
    Ok(())
}

fn show(opened: &v1::OpenRegistrationResponse, output: Output) {
    let endpoint = &opened.registration_endpoint;
    let registration = opened.registration.clone().unwrap_or_default();
    match output {
        Output::Json => {
            let mut shown = registration.json();
            shown["initial_access_token"] = json!(opened.initial_access_token);
            shown["registration_endpoint"] = json!(endpoint);
            print_line(&shown);
        }
        Output::Table => {
            let (name, until) = (&registration.relying_party, time(registration.expire_time.as_ref()));
            print_line(&format_args!(
                "{name} may register {} client(s) at {endpoint}, until {until}.",
                registration.clients_left
            ));
            print_line(&"Give this initial access token to whoever sets the application up:");
            print_line(&opened.initial_access_token);
        }
    }
}
