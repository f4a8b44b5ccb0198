//! `homeward-broker ca`.

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::cli::rotation;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show who signs certificates, who is trusted, and how many instances hold a certificate of whom.
    Show,
    /// Turn the CA: trust the next one, renew every certificate by it, then give the old one up.
    Rotate {
        /// Somebody else has the key of the CA: wait for nobody, and say who is cut off.
        #[arg(long)]
        compromised: bool,
    },
    /// Take the turn of the CA back: possible for as long as the old one is trusted.
    Rollback,
}

/// What turns.
const SUBJECT: &str = "ca";

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Show => {
            let request = v1::GetAuthorityRequest {};
            let found = admin.get_authority(request).await.map_err(|status| refusal(&status))?.into_inner();
            show(&found, output);
        }
        Command::Rotate { compromised } => {
            let order = v1::BeginRotationRequest { subject: SUBJECT.into(), compromised };
            rotation::begin(&mut admin, order, output).await?;
        }
        Command::Rollback => rotation::roll_back(&mut admin, SUBJECT.into(), output).await?,
    }
    Ok(())
}

fn show(authority: &v1::GetAuthorityResponse, output: Output) {
    let phase = if authority.phase.is_empty() { "does not turn" } else { &authority.phase };
    let version = authority.trust_bundle_version;
    let certificates = Value::from_iter(authority.certificates.iter().map(Row::json));
    let shown = json!({"trust_bundle_version": version, "phase": authority.phase, "certificates": certificates});
    output.say(&format!("Trust bundle {version}; the CA: {phase}."), &shown);
    if output == Output::Table {
        output.list(&authority.certificates);
    }
}

impl Row for v1::AuthorityCertificate {
    const COLUMNS: &'static [&'static str] = &["PIN", "ROLE", "INSTANCES", "MADE", "EXPIRES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.pin.clone(),
            self.role.clone(),
            self.instances.to_string(),
            time(self.create_time.as_ref()),
            time(self.expire_time.as_ref()),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "pin": self.pin,
            "role": self.role,
            "instances": self.instances,
            "create_time": time(self.create_time.as_ref()),
            "expire_time": time(self.expire_time.as_ref()),
        })
    }
}
