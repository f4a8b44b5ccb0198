//! The open files that the machine allows a broker, and who has them. A connection is one: whoever may have any number of
//! them takes them away from those who were promised some.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tracing::warn;

/// Listeners that have a share each: the three of the web, and the agents' port for handshakes.
const LISTENERS: u64 = 4;

/// All shares together are half of the files at most, unless that is next to nothing; and no share is more than anybody needs.
const MOST: u64 = 4096;
const LEAST: u64 = 64;

/// How often it is said that connections cannot be accepted, for as long as that is so.
const AGAIN: Duration = Duration::from_secs(60);

/// How many connections a listener may have that are not agents'.
pub fn share() -> usize {
    usize::try_from(share_of(limit())).unwrap_or(usize::MAX)
}

/// How many files there are beside all shares; no limit if unset.
pub fn but_for_shares() -> Option<u64> {
    limit().map(rest_of)
}

fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn share_of(files: Option<u64>) -> u64 {
    files.map_or(MOST, |files| (files / (2 * LISTENERS)).clamp(LEAST, MOST))
}

fn rest_of(files: u64) -> u64 {
    files.saturating_sub(LISTENERS * share_of(Some(files)))
}

/// A listener that accepts nothing, and what was said of it.
#[derive(Debug, Default)]
pub struct NotAccepting(Option<Instant>);

impl NotAccepting {
    /// Once more.
    pub fn warn(&mut self, error: &io::Error) {
        if self.0.is_none_or(|told| told.elapsed() >= AGAIN) {
            warn!(%error, "connections cannot be accepted: is the limit of open files too low?");
            self.0 = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_promised_a_file_has_one() {
        for (files, share, rest) in
            [(1_048_576, 4096, 1_032_192), (65_536, 4096, 49_152), (4096, 512, 2048), (1024, 128, 512), (256, 64, 0)]
        {
            assert_eq!((share_of(Some(files)), rest_of(files)), (share, rest), "{files}");
        }
        assert_eq!(share_of(None), MOST);
    }
}
