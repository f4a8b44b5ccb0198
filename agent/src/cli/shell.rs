//! What a shell and `man` know of this command line. The program makes both itself: they are never another release's.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Command, print};

/// Prints what a shell completes this command line by.
pub(super) fn completion(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Command::command(), "homeward-agent", &mut script);
    print(String::from_utf8_lossy(&script));
}

/// Writes the manual into a folder that is there, one page a command.
///
/// # Errors
/// When it cannot be written there.
pub(super) fn manual(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Command::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
        assert!(page("homeward-agent").contains("\\-\\-config"));
        for command in Command::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(page(&format!("homeward-agent-{}", command.get_name())).contains("SYNOPSIS"));
        }
    }
}
