//! `homeward-agent doctor`: what would go wrong at this instance, as a table that ends with what to do.

use std::path::{Path, PathBuf};

use clap::Args;
use homeward_certs::identity::InstanceName;
use serde_json::json;

use super::layout::Layout;
use super::{Failure, Output, Report, password, print, print_json};
use crate::clock;
use crate::doctor::canary::Canary;
use crate::doctor::finding::{Finding, Verdict};
use crate::doctor::{self, Asks};

/// What it looks for.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Logs this user in here as a browser would, and out again: one who is there for that, without rights and without a
    /// second factor. The password goes to the portal of the user's home and nowhere else.
    #[arg(long, value_name = "USERNAME")]
    canary: Option<String>,
    /// File with the canary's password in its first line, closed to other users; asked for if unset.
    #[arg(long, value_name = "FILE", requires = "canary")]
    password_file: Option<PathBuf>,
    /// The canary's home; this instance itself if it is one, or the only one that it accepts, if unset.
    #[arg(long, value_name = "NAME", requires = "canary")]
    home: Option<InstanceName>,
}

/// The instance is not well.
#[derive(Debug, thiserror::Error)]
#[error("{}", count(*.0, "error"))]
struct Ill(usize);

impl Doctor {
    pub(super) async fn carry_out(self, config: &Path, report: Report) -> Result<(), Failure> {
        let canary = self.canary().map_err(Failure::refused)?;
        let progress = |sentence: &str| eprintln!("{sentence}");
        // On the heap: it holds everything that is asked at some time.
        let findings =
            Box::pin(doctor::examine(config, canary.as_ref(), Asks::Operator, clock::now(), &progress)).await;
        tell(&findings, report)
    }

    fn canary(self) -> Result<Option<Canary>, password::PasswordError> {
        let Self { canary, password_file, home } = self;
        let Some(username) = canary else { return Ok(None) };
        let password = password::read(password_file.as_deref(), "The canary's password: ")?;
        Ok(Some(Canary { username, password, home }))
    }
}

fn tell(findings: &[Finding], report: Report) -> Result<(), Failure> {
    let number = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (errors, warnings) = (number(Verdict::Error), number(Verdict::Warning));
    match report.0 {
        Output::Json => print_json(&json!({ "findings": findings, "errors": errors, "warnings": warnings })),
        Output::Table => {
            let layout = Layout::for_terminal();
            for Finding { verdict, about, sentence, remedy } in findings {
                layout.print(*verdict, about, sentence, remedy.as_deref());
            }
            if errors == 0 && warnings == 0 {
                print("\nAll is well.");
            } else {
                print(format_args!("\n{}, {}.", count(errors, "error"), count(warnings, "warning")));
            }
        }
    }
    if errors > 0 { Err(Failure::refused(Ill(errors))) } else { Ok(()) }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
