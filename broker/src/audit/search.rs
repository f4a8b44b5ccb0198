//! Records from the newest back. No more of the files is read than it takes, a search can be told to give up after some
//! effort, and where one was left another one goes on: at a [`Position`], which names bytes and no moment, so that of any
//! number of records of one second none is shown twice and none is skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::str::FromStr;

use serde_json::Value;
use tokio::time::Instant;

use crate::audit::anchor::Day;
use crate::audit::chain::ChainId;
use crate::audit::chain::LONGEST;
use crate::audit::folder::Folder;
use crate::audit::reading::Filter;

/// Bytes that are read at once.
const BLOCK: u64 = 64 * 1024;

/// Where a search goes on: before these places in the files of one day, and in all days before it. Files only grow, so that
/// it means the same tomorrow. A chain that it does not name has nothing more on that day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    day: Day,
    ends: BTreeMap<ChainId, u64>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.day)?;
        self.ends.iter().try_for_each(|(chain, end)| write!(f, ".{chain}:{end}"))
    }
}

/// Why a text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place in the audit is written as an answer named it")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut parts = text.split('.');
        let day = parts.next().and_then(|day| day.parse().ok()).ok_or(PositionError)?;
        let end = |part: &str| {
            let (chain, end) = part.split_once(':')?;
            Some((chain.parse().ok()?, end.parse().ok()?))
        };
        let ends = parts.map(|part| end(part).ok_or(PositionError));
        Ok(Self { day, ends: ends.collect::<Result<_, _>>()? })
    }
}

/// What a search may cost before it gives up.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Bytes of records that are looked at.
    pub bytes: u64,
    /// When it has taken long enough.
    pub until: Instant,
}

/// What a search has come to.
#[derive(Debug, Default)]
pub struct Found {
    /// The wanted lines, without their newlines, the newest first.
    pub lines: Vec<Vec<u8>>,
    /// Where another search goes on, if there is anything left to look at.
    pub next: Option<Position>,
    /// When the last record was made that was looked at, as it says itself; empty if none was.
    pub back_to: String,
}

/// The newest wanted lines before a position, or of all: at most so many. It stops where the effort ends, and where nobody
/// is `listening` any more. With an effort, days behind the filter's last moment are not opened: what a clock has left there
/// that was set back is found by its day only.
///
/// # Errors
/// When a file cannot be read.
pub fn search(
    folder: &Folder,
    filter: &Filter,
    (before, most): (Option<&Position>, usize),
    effort: Option<Effort>,
    listening: impl Fn() -> bool,
) -> io::Result<Found> {
    let last = before.map(|before| before.day.clone());
    let until = filter.until.filter(|_| effort.is_some()).map(Day::of);
    let mut days = folder.chains_by_day(|day| {
        filter.since.is_none_or(|since| *day >= Day::of(since))
            && [&last, &until].into_iter().flatten().all(|last| day <= last)
    })?;
    let (mut found, mut looked) = (Found::default(), 0);
    while let Some((day, chains)) = days.pop_last() {
        let ends = before.filter(|before| before.day == day).map(|before| &before.ends);
        let mut of_day = OfDay::open(folder, day, &chains, ends)?;
        while let Some(line) = of_day.next()? {
            looked += line.len() as u64;
            let spent = effort.is_some_and(|effort| looked >= effort.bytes || effort.until <= Instant::now());
            let wanted = filter.wants(&line);
            let enough = found.lines.len() + usize::from(wanted) >= most;
            let stop = spent || enough || !listening();
            if stop {
                found.back_to = time(&line);
            }
            found.lines.extend(wanted.then_some(line));
            if stop {
                let more = !of_day.files.is_empty() || !days.is_empty();
                found.next = more.then(|| of_day.position());
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// When a record was made, as it says itself.
fn time(line: &[u8]) -> String {
    let record = serde_json::from_slice::<Value>(line).unwrap_or_default();
    record.get("time").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The files of one day, from behind. Each chain has its own order; of several, which is before which is a matter of time.
struct OfDay {
    day: Day,
    /// Those that have a line left.
    files: Vec<OfChain>,
}

/// What is left of the file of one chain, with the line that comes next.
struct OfChain {
    chain: ChainId,
    lines: Lines,
    next: Vec<u8>,
    /// When that was made; empty where there is no other chain.
    time: String,
    /// Where that ends.
    end: u64,
}

impl OfDay {
    fn open(folder: &Folder, day: Day, chains: &[ChainId], ends: Option<&BTreeMap<ChainId, u64>>) -> io::Result<Self> {
        let mut files = Vec::new();
        for chain in chains {
            let end = match ends.map(|ends| ends.get(chain)) {
                Some(None) => continue,
                Some(Some(end)) => Some(*end),
                None => None,
            };
            let opened = match File::open(folder.file(*chain, &day)) {
                // Deleted meanwhile, because it is old.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let lines = Lines::of(opened, end)?;
            let mut file = OfChain { chain: *chain, lines, next: Vec::new(), time: String::new(), end: 0 };
            if file.advance(chains.len() > 1)? {
                files.push(file);
            }
        }
        Ok(Self { day, files })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let several = self.files.len() > 1;
        let newest = self.files.iter().enumerate().max_by(|(_, one), (_, other)| one.time.cmp(&other.time));
        let Some(place) = newest.map(|(place, _)| place) else { return Ok(None) };
        let Some(file) = self.files.get_mut(place) else { return Ok(None) };
        let line = std::mem::take(&mut file.next);
        if !file.advance(several)? {
            self.files.remove(place);
        }
        Ok(Some(line))
    }

    /// Before the line that comes next.
    fn position(&self) -> Position {
        let ends = self.files.iter().map(|file| (file.chain, file.end)).collect();
        Position { day: self.day.clone(), ends }
    }
}

impl OfChain {
    /// To the line before; says whether there is one.
    fn advance(&mut self, timed: bool) -> io::Result<bool> {
        self.end = self.lines.end();
        let Some(line) = self.lines.next()? else { return Ok(false) };
        self.time = if timed { time(&line) } else { String::new() };
        self.next = line;
        Ok(true)
    }
}

/// The lines of a file, the last one first.
struct Lines {
    file: File,
    /// Where in the file the buffer begins.
    begin: u64,
    /// What has been read and not given away.
    buffer: Vec<u8>,
}

impl Lines {
    /// Of what is before this place, or of all.
    fn of(file: File, end: Option<u64>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, begin: end.map_or(length, |end| end.min(length)), buffer: Vec::new() })
    }

    /// Where what is left ends.
    fn end(&self) -> u64 {
        self.begin + self.buffer.len() as u64
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let newline = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
        loop {
            if let Some((b'\n', before)) = self.buffer.split_last() {
                if let Some(begin) = newline(before).map(|end| end + 1).or((self.begin == 0).then_some(0)) {
                    let mut line = self.buffer.split_off(begin);
                    line.pop();
                    return Ok(Some(line));
                }
                if before.len() > LONGEST {
                    // No record is so long: its end is let go, and what is left of it is none that could be read.
                    self.buffer = vec![b'\n'];
                }
            } else {
                // The last one may be half written.
                self.buffer.truncate(newline(&self.buffer).map_or(0, |end| end + 1));
                if self.buffer.is_empty() && self.begin == 0 {
                    return Ok(None);
                }
                if !self.buffer.is_empty() {
                    continue;
                }
            }
            self.read_on()?;
        }
    }

    /// Puts the block before the buffer in front of it.
    fn read_on(&mut self) -> io::Result<()> {
        let length = self.begin.min(BLOCK);
        self.begin -= length;
        self.file.seek(SeekFrom::Start(self.begin))?;
        let mut block = Vec::new();
        // A file that became shorter meanwhile ends here: what is torn is none that could be read.
        self.file.by_ref().take(length).read_to_end(&mut block)?;
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(())
    }
}
