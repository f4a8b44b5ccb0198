//! Records as they are read again, for `audit list` and `audit export`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use crate::audit::anchor::Day;
use crate::audit::chain::ChainId;
use crate::audit::chain::LONGEST;
use crate::audit::folder::Folder;
use crate::audit::search::search;
use crate::clock::Timestamp;

/// Most records that are looked for from the end.
pub const MOST_NEWEST: usize = 10_000;

/// Which records are wanted: all that fit to everything that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this moment or later.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this user: a subject, or the broker's own id of him.
    pub subject: Option<String>,
    /// That this instance has to do with: as itself, as home or as relying party.
    pub instance: Option<String>,
    /// That this one made happen.
    pub actor: Option<String>,
    /// About this, where it is none of the above.
    pub object: Option<String>,
    /// Only so many, the newest.
    pub newest: Option<usize>,
}

impl Filter {
    pub(super) fn wants(&self, line: &[u8]) -> bool {
        let Ok(record) = serde_json::from_slice::<Value>(line) else {
            // What is no record is shown to who asks for everything: `audit verify` says what is wrong.
            return *self == Self { newest: self.newest, ..Self::default() };
        };
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let is = |wanted: &Option<String>, names: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| names.iter().any(|name| text(name) == wanted))
        };
        // All times are written alike: as texts they have the order of the moments.
        let time = text("time");
        let actor = self.instance.as_ref().is_some_and(|name| text("actor").strip_prefix("agent:") == Some(name));
        self.since.is_none_or(|since| time >= since.to_string().as_str())
            && self.until.is_none_or(|until| time < until.to_string().as_str())
            && is(&self.kind, &["event"])
            && is(&self.subject, &["subject", "user"])
            && is(&self.actor, &["actor"])
            && is(&self.object, &["object"])
            && (actor || is(&self.instance, &["instance", "home", "relying_party"]))
    }
}

/// Gives each wanted line, without its newline, the oldest first, until `take` wants no more or nobody is `listening`.
///
/// # Errors
/// When a file cannot be read.
pub fn read(
    folder: &Folder,
    filter: &Filter,
    listening: impl Fn() -> bool,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<()> {
    if let Some(most) = filter.newest {
        // The days are read from the last one back, and no more of them than it takes.
        let found = search(folder, filter, (None, most.min(MOST_NEWEST)), None, listening)?;
        found.lines.into_iter().rev().all(take);
        return Ok(());
    }
    for (chain, day) in files(folder, filter)? {
        if !each(&folder.file(chain, &day), filter, &listening, &mut take)? {
            break;
        }
    }
    Ok(())
}

/// The files that can hold what is wanted, chain by chain, the oldest first.
fn files(folder: &Folder, filter: &Filter) -> io::Result<Vec<(ChainId, Day)>> {
    let mut files = Vec::new();
    for chain in folder.chains()? {
        // Records of a clock that was set back are in files of later days: those are all looked at.
        let days = folder.days(chain)?.into_iter();
        let days = days.filter(|day| filter.since.is_none_or(|since| *day >= Day::of(since)));
        files.extend(days.map(|day| (chain, day)));
    }
    Ok(files)
}

/// Gives each wanted line of a file; says whether more is wanted.
fn each(
    file: &Path,
    filter: &Filter,
    listening: impl Fn() -> bool,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<bool> {
    let mut lines = BufReader::new(File::open(file)?);
    loop {
        let mut line = Vec::new();
        if lines.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        // The last one may be half written. Whoever looks for something rare may have left long before it is found.
        if !listening() || (line.pop() == Some(b'\n') && filter.wants(&line) && !take(line)) {
            return Ok(false);
        }
    }
}
