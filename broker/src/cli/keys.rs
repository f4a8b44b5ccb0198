//! `homeward-broker keys`.

use clap::{Subcommand, ValueEnum};
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{all_pages, connect};
use crate::cli::output::{Output, Row, time};
use crate::cli::rotation;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List signing keys: which signs, which is to come, which is to go.
    List,
    /// Turn signing keys now: publish the next one; it signs when every connected relying party can verify with it.
    Rotate {
        /// Only the keys of this algorithm.
        #[arg(long, value_enum)]
        algorithm: Option<Algorithm>,
        /// Somebody else has the key: wait for nobody, stop publishing and accepting the old one at once, and say what
        /// breaks.
        #[arg(long)]
        compromised: bool,
    },
    /// Take the turn of an algorithm's keys back: possible for as long as the old one is published.
    Rollback {
        /// Of this algorithm.
        #[arg(long, value_enum)]
        algorithm: Algorithm,
    },
}

/// Algorithm of ID tokens.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[value(name = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[value(name = "ES256")]
    Es256,
}

impl Algorithm {
    fn subject(self) -> String {
        match self {
            Self::Rs256 => "keys/RS256".to_owned(),
            Self::Es256 => "keys/ES256".to_owned(),
        }
    }
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListSigningKeysRequest { page_size: 0, page_token };
                let page = admin.clone().list_signing_keys(request).await?.into_inner();
                Ok((page.signing_keys, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Rotate { algorithm, compromised } => {
            let subject = algorithm.map_or_else(|| "keys".to_owned(), Algorithm::subject);
            rotation::begin(&mut admin, v1::BeginRotationRequest { subject, compromised }, output).await?;
        }
        Command::Rollback { algorithm } => rotation::roll_back(&mut admin, algorithm.subject(), output).await?,
    }
    Ok(())
}

impl Row for v1::SigningKey {
    const COLUMNS: &'static [&'static str] = &["KEY", "ALGORITHM", "STATE", "SINCE", "GONE"];

    fn cells(&self) -> Vec<String> {
        let (since, gone) = (time(self.state_time.as_ref()), time(self.gone_time.as_ref()));
        vec![self.key_id.clone(), algorithm(self), state(self), since, gone]
    }

    fn json(&self) -> Value {
        json!({
            "key_id": self.key_id,
            "algorithm": algorithm(self),
            "state": state(self),
            "create_time": time(self.create_time.as_ref()),
            "state_time": time(self.state_time.as_ref()),
            "gone_time": time(self.gone_time.as_ref()),
        })
    }
}

fn algorithm(key: &v1::SigningKey) -> String {
    key.algorithm().as_str_name().trim_start_matches("SIGNING_ALGORITHM_").to_owned()
}

fn state(key: &v1::SigningKey) -> String {
    key.state().as_str_name().trim_start_matches("SIGNING_KEY_STATE_").to_lowercase()
}
