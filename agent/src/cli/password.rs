//! A password from whoever sits at the terminal, which does not show it; or the first line of standard input, if that is
//! no terminal. Never from the command line: everybody on the machine can read that.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use thiserror::Error;
use zeroize::Zeroizing;

/// No password is longer, in bytes.
const LONGEST: u64 = 4096;

/// Why there is none.
#[derive(Debug, Error)]
pub(super) enum PasswordError {
    /// The terminal, or the pipe.
    #[error("the password cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Nothing was typed.
    #[error("no password was given; type it, or write it as the first line of standard input")]
    Empty,
}

/// Asks for it.
pub(super) fn ask(question: &str) -> Result<SecretString, PasswordError> {
    let stdin = io::stdin();
    let quiet = if stdin.is_terminal() {
        eprint!("{question}");
        Some(Quiet::begin()?)
    } else {
        None
    };
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    drop(quiet);
    read?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() { Err(PasswordError::Empty) } else { Ok(SecretString::from(password)) }
}

/// As long as this lives, the terminal does not show what is typed.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing to be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}
