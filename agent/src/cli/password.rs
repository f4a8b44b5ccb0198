//! A password from whoever sits at the terminal, which does not show it; or the first line of standard input, if that is
//! no terminal. Never from the command line: everybody on the machine can read that.

use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};

/// No password is longer, in bytes.
const LONGEST: u64 = 4096;

/// Why there is none.
#[derive(Debug, Error)]
pub(super) enum PasswordError {
    /// The terminal, or the pipe.
    #[error("the password cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file that it should be in.
    #[error("the password: {0}")]
    File(#[from] SecretFileError),
    /// Nothing was typed.
    #[error("no password was given; type it, or write it as the first line of standard input")]
    Empty,
}

/// The first line of a file; asks for it where there is none.
pub(super) fn read(file: Option<&Path>, question: &str) -> Result<SecretString, PasswordError> {
    let Some(path) = file else { return ask(question) };
    let text = secret_file::read_all(path)?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.into()),
        Some(_) | None => Err(PasswordError::Empty),
    }
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
