//! What a shell and `man` know of this command line. The program makes both itself: they are never another release's.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::cli::output::print_line;

/// Prints what a shell completes this command line by.
pub(super) fn completion(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "homeward-broker", &mut script);
    print_line(&String::from_utf8_lossy(&script));
}

/// Writes the manual into a folder that is there, one page a command.
///
/// # Errors
/// When it cannot be written there.
pub(super) fn manual(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Arguments::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
        assert!(page("homeward-broker").contains("\\-\\-config"));
        for command in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(page(&format!("homeward-broker-{}", command.get_name())).contains("SYNOPSIS"));
        }
    }
}
