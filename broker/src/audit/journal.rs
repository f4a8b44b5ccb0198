//! The file that is written to. What was handed over is kept here until it is on the disk for certain: whatever fails is
//! written again, at the same place.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::audit::anchor::{Day, StoredDay, StoredHead};
use crate::audit::chain::{ChainId, Digest, LONGEST, Link};
use crate::audit::event::Event;
use crate::audit::folder::Folder;
use crate::audit::origin::Origin;
use crate::clock::Timestamp;

/// Something that was noted, and is in no chain yet.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) at: Timestamp,
    pub(super) origin: Origin,
    pub(super) event: Event,
}

/// A record as it is written.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    prev: Digest,
    chain: ChainId,
    time: String,
    broker: &'a str,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(flatten)]
    event: &'a Event,
}

/// A chain that is written to.
#[derive(Debug)]
pub(super) struct Journal {
    folder: Folder,
    chain: ChainId,
    host: String,
    /// After the last record that was handed over.
    link: Link,
    day: Day,
    file: File,
    /// Up to here the file is on the disk for certain.
    durable: u64,
    /// What belongs behind that.
    pending: Vec<u8>,
    /// How much of that the file has been given.
    given: usize,
    /// Days that have begun since they were asked for.
    begun: Vec<(Day, StoredDay)>,
}

/// How a journal was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Bytes behind the last record that do not follow from it.
    pub(super) torn: u64,
    /// Where they are, unless they are one write that was cut short.
    pub(super) put_aside: Option<PathBuf>,
    /// Whether records are missing that the store knows of.
    pub(super) gap: bool,
}

impl Journal {
    /// Goes on with a chain whose end the store knows. What a broker wrote behind that, and could not say in the store any
    /// more, counts as far as it follows.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub(super) fn open(folder: &Folder, chain: ChainId, head: &StoredHead) -> io::Result<(Self, Found)> {
        let days = folder.days(chain)?;
        let mut found = Found::default();
        let mut link = head.link;
        let mut begun = Vec::new();
        let last = days.last().cloned().unwrap_or_else(|| head.day.clone()).max(head.day.clone());
        let whole = head.link == Link::FIRST || ends_with(folder, chain, head)?;
        found.gap = !whole;
        let mut durable = None;
        let behind: Vec<&Day> = days.iter().filter(|day| whole && **day >= head.day).collect();
        for day in behind {
            let from = if *day == head.day { head.length } else { 0 };
            if *day > head.day {
                begun.push((day.clone(), StoredDay { before: link }));
            }
            let (end, length) = walk(folder, chain, (day, from), &mut link)?;
            if end < length && *day == last {
                found.torn = length - end;
                durable = Some(end);
            }
        }
        let file = folder.open(chain, &last)?;
        let durable = match durable {
            Some(end) => {
                found.put_aside = folder.put_aside(chain, &last, &file, end)?;
                file.set_len(end)?;
                end
            }
            None => file.metadata()?.len(),
        };
        file.sync_all()?;
        let (folder, host) = (folder.clone(), head.host.clone());
        let mut journal =
            Self { folder, chain, host, link, day: last, file, durable, pending: Vec::new(), given: 0, begun };
        journal.end_line()?;
        if head.link == Link::FIRST {
            journal.begun.insert(0, (head.day.clone(), StoredDay { before: Link::FIRST }));
        }
        Ok((journal, found))
    }

    /// What stands before what is written from now on is a line of its own, whatever it is.
    fn end_line(&mut self) -> io::Result<()> {
        let mut last = [0];
        if self.durable > 0 {
            self.file.read_exact_at(&mut last, self.durable - 1)?;
            if last != *b"\n" {
                self.pending.push(b'\n');
            }
        }
        Ok(())
    }

    /// Takes records over. The file of a day begins when everything before it is on the disk.
    ///
    /// # Errors
    /// When a file cannot be written. What was taken over is not lost.
    pub(super) fn take(&mut self, noted: &mut VecDeque<Noted>) -> io::Result<()> {
        while let Some(next) = noted.front() {
            // A clock that is set back leads back to no file.
            let day = Day::of(next.at);
            if day > self.day {
                self.sync()?;
                self.file = self.folder.open(self.chain, &day)?;
                self.durable = self.file.metadata()?.len();
                self.begun.push((day.clone(), StoredDay { before: self.link }));
                self.day = day;
            }
            self.add(next).map_err(io::Error::other)?;
            noted.pop_front();
        }
        self.give()
    }

    fn add(&mut self, noted: &Noted) -> serde_json::Result<()> {
        let begin = self.pending.len();
        let line = Line {
            seq: self.link.seq + 1,
            prev: self.link.hash,
            chain: self.chain,
            time: noted.at.to_string(),
            broker: &self.host,
            actor: noted.origin.to_string(),
            source: noted.origin.source().map(|address| address.to_string()),
            event: &noted.event,
        };
        if let Err(error) = serde_json::to_writer(&mut self.pending, &line) {
            self.pending.truncate(begin);
            return Err(error);
        }
        self.link = Link { seq: self.link.seq + 1, hash: Digest::of(&self.pending[begin..]) };
        self.pending.push(b'\n');
        Ok(())
    }

    /// Gives the file what it has not been given: from then on it survives this process.
    fn give(&mut self) -> io::Result<()> {
        let at = self.durable + self.given as u64;
        self.file.write_all_at(&self.pending[self.given..], at)?;
        self.given = self.pending.len();
        Ok(())
    }

    /// Has everything on the disk.
    ///
    /// # Errors
    /// When it is not. After a failed sync nobody knows what the disk has: all of it is written again.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.give()?;
        if let Err(error) = self.file.sync_data() {
            self.given = 0;
            return Err(error);
        }
        self.durable += self.pending.len() as u64;
        self.pending.clear();
        self.given = 0;
        Ok(())
    }

    /// The end, when everything is on the disk, and the days that have begun since the last time.
    pub(super) fn head(&mut self, at: Timestamp) -> (StoredHead, Vec<(Day, StoredDay)>) {
        let head =
            StoredHead { host: self.host.clone(), link: self.link, day: self.day.clone(), length: self.durable, at };
        (head, std::mem::take(&mut self.begun))
    }

    /// Of which chain.
    pub(super) fn chain(&self) -> ChainId {
        self.chain
    }

    /// What is written from now on.
    pub(super) fn day(&self) -> &Day {
        &self.day
    }
}

/// Whether the record that the store names is where it says.
fn ends_with(folder: &Folder, chain: ChainId, head: &StoredHead) -> io::Result<bool> {
    let mut file = match File::open(folder.file(chain, &head.day)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    if head.length == 0 || file.metadata()?.len() < head.length {
        return Ok(false);
    }
    // No record is longer than this.
    let begin = head.length.saturating_sub(LONGEST as u64);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.take(head.length - begin).read_to_end(&mut tail)?;
    let Some(lines) = tail.strip_suffix(b"\n") else { return Ok(false) };
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Digest::of(line) == head.link.hash)
}

/// Follows the chain through a file from a place on. Says how far it follows, and how long the file is.
fn walk(folder: &Folder, chain: ChainId, (day, from): (&Day, u64), link: &mut Link) -> io::Result<(u64, u64)> {
    let mut file = File::open(folder.file(chain, day))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from))?;
    let (mut lines, mut end, mut line) = (BufReader::new(file), from, Vec::new());
    loop {
        line.clear();
        let read = lines.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)?;
        let next = line.strip_suffix(b"\n").and_then(|line| link.follow(chain, line).ok());
        let Some(next) = next else { return Ok((end, length)) };
        *link = next;
        end += read as u64;
    }
}
