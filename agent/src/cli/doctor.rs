//! `homeward-agent doctor`: what would go wrong at this instance, as a table that ends with what to do.

use std::path::Path;

use serde_json::json;

use super::layout::Layout;
use super::{Failure, Output, Report, print, print_json};
use crate::clock;
use crate::doctor;
use crate::doctor::finding::{Finding, Verdict};

/// The instance is not well.
#[derive(Debug, thiserror::Error)]
#[error("{}", count(*.0, "error"))]
struct Ill(usize);

pub(super) async fn carry_out(config: &Path, report: Report) -> Result<(), Failure> {
    let progress = |sentence: &str| eprintln!("{sentence}");
    // On the heap: it holds everything that is asked at some time.
    let findings = Box::pin(doctor::examine(config, clock::now(), &progress)).await;
    let number = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (errors, warnings) = (number(Verdict::Error), number(Verdict::Warning));
    match report.0 {
        Output::Json => print_json(&json!({ "findings": findings, "errors": errors, "warnings": warnings })),
        Output::Table => {
            let layout = Layout::for_terminal();
            for Finding { verdict, about, sentence, remedy } in &findings {
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
