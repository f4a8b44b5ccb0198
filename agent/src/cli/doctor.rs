//! `homeward-agent doctor`: what would go wrong at this instance, as a table that ends with what to do.

use std::io::IsTerminal as _;
use std::path::Path;

use serde_json::json;

use super::{Failure, Output, Report, print_json};
use crate::clock;
use crate::doctor;
use crate::doctor::finding::{Finding, Verdict};

/// How wide the text is where nobody says how wide the terminal is.
const WIDTH: usize = 100;

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
            let paint = Paint { colours: std::io::stdout().is_terminal() };
            for finding in &findings {
                paint.print(finding);
            }
            if errors == 0 && warnings == 0 {
                println!("\nAll is well.");
            } else {
                println!("\n{}, {}.", count(errors, "error"), count(warnings, "warning"));
            }
        }
    }
    if errors > 0 { Err(Failure::refused(Ill(errors))) } else { Ok(()) }
}

/// Prints findings.
struct Paint {
    colours: bool,
}

impl Paint {
    /// One line where all is well, and below it what to do where it is not.
    fn print(&self, finding: &Finding) {
        let word = format!("{:<8}", finding.verdict.word());
        let (begin, end) = self.colour(finding.verdict);
        let margin = " ".repeat(8 + 20);
        let mut lines = wrapped(&finding.sentence, WIDTH - margin.len()).into_iter();
        println!("{begin}{word}{end}{:<20}{}", finding.about, lines.next().unwrap_or_default());
        for line in lines {
            println!("{margin}{line}");
        }
        for (position, line) in
            finding.remedy.iter().flat_map(|remedy| wrapped(remedy, WIDTH - margin.len() - 2)).enumerate()
        {
            println!("{margin}{} {line}", if position == 0 { "→" } else { " " });
        }
    }

    /// Colours are for eyes: a file or a program gets none.
    fn colour(&self, verdict: Verdict) -> (&'static str, &'static str) {
        match (self.colours, verdict) {
            (false, _) => ("", ""),
            (true, Verdict::Ok) => ("\x1b[32m", "\x1b[0m"),
            (true, Verdict::Warning) => ("\x1b[33m", "\x1b[0m"),
            (true, Verdict::Error) => ("\x1b[31m", "\x1b[0m"),
        }
    }
}

/// In lines of at most this many characters, as far as words allow. What was one command stays one when it is copied:
/// only spaces become line breaks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("homeward-agent recipe", 5), ["homeward-agent", "recipe"]);
        assert!(wrapped("", 5).is_empty());
    }
}
