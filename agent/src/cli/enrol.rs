//! `homeward-agent enrol`: from a join token to an identity.

use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use homeward_certs::join_token::{JoinToken, JoinTokenError};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, Report, load};
use crate::clock;
use crate::config::Config;
use crate::disk::PrivateDir;
use crate::enrolment::{self, Existing};
use crate::identity::Identity;
use crate::secret_file::{self, SecretFileError};

/// Longest input that may be a join token.
const LONGEST_TOKEN: u64 = 16 * 1024;

/// Enrols this instance with a join token from ops.
#[derive(Debug, Args)]
pub(super) struct Enrol {
    #[command(flatten)]
    source: Source,
    /// Give up the identity that this agent has already.
    #[arg(long)]
    replace: bool,
    /// Do nothing where there is an identity already, whatever the token: for containers, which do this at every start.
    #[arg(long, conflicts_with = "replace")]
    if_needed: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The join token. Other users of this machine can see it while the command runs: prefer --token-file.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// A file with the join token, closed to other users; - is standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source(…)")
    }
}

#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("cannot read the join token from standard input: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("the join token: {0}")]
    File(#[from] SecretFileError),
    #[error(transparent)]
    NotAToken(#[from] JoinTokenError),
}

impl Enrol {
    pub(super) async fn carry_out(self, config: &Path, report: Report) -> Result<(), Failure> {
        let config = load(config)?;
        if self.if_needed && is_enrolled(&config)? {
            eprintln!("This instance is enrolled already.");
            return Ok(());
        }
        let token = self.source.read().map_err(Failure::refused)?;
        let existing = if self.replace { Existing::Replace } else { Existing::Keep };
        let progress = |sentence: &str| eprintln!("{sentence}");
        let enrolled = enrolment::enrol(&config, &token, existing, progress).await.map_err(Failure::refused)?;
        if let Some(skew) = enrolled.clock_skew {
            let side = if skew.is_negative() { "behind" } else { "ahead of" };
            let seconds = skew.whole_seconds().unsigned_abs();
            eprintln!("This machine's clock is {seconds} s {side} the broker's: set it, or logins will fail.");
        }
        let identity = &enrolled.identity;
        report.one(&[
            ("instance", json!(identity.instance())),
            ("issuer", json!(identity.issuer())),
            ("broker", json!(identity.agent_url())),
            ("certificate_expires_at", json!(clock::rfc3339(identity.expires_at()))),
            ("next", json!("homeward-agent run")),
        ]);
        Ok(())
    }
}

fn is_enrolled(config: &Config) -> Result<bool, Failure> {
    let data = PrivateDir::open(&config.data_dir).map_err(Failure::refused)?;
    Ok(Identity::load(data).map_err(Failure::refused)?.is_some())
}

impl Source {
    fn read(self) -> Result<JoinToken, TokenError> {
        let mut text = Zeroizing::new(self.token.unwrap_or_default());
        match self.token_file.as_deref() {
            None => {}
            Some(path) if path == Path::new("-") => {
                let stdin = std::io::stdin();
                if stdin.is_terminal() {
                    eprintln!("Paste the join token, then press Enter and Ctrl-D:");
                }
                stdin.take(LONGEST_TOKEN).read_to_string(&mut text)?;
            }
            Some(path) => text = secret_file::read_all(path)?,
        }
        Ok(text.parse()?)
    }
}
