//! `homeward-broker`: see `homeward-broker --help`.

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "the one sentence that a refused command gives")]
fn main() -> ExitCode {
    match homeward_broker::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Causes follow the sentence: "…: …".
            eprintln!("homeward-broker: {error:#}");
            ExitCode::from(1)
        }
    }
}
