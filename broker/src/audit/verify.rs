//! Whether the files are what was written: every line follows from the one before, the days begin as the store says, and
//! the end that the store knows is there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};

use crate::audit::anchor::{Day, StoredDay, StoredHead};
use crate::audit::chain::{ChainId, LONGEST, Link};
use crate::audit::folder::Folder;

/// Findings that are told of one chain.
const MOST: usize = 100;

/// What the store knows of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchors {
    /// Its end.
    pub(super) head: StoredHead,
    /// Its days that are kept.
    pub(super) days: BTreeMap<Day, StoredDay>,
}

/// What was found of one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that were read.
    pub records: u64,
    /// Of them, those that the store does not know of yet: written in the moment before a crash.
    pub unanchored: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.sentence)
    }
}

/// Reads all files of a chain.
///
/// # Errors
/// When a file that is there cannot be read.
pub(super) fn verify(folder: &Folder, chain: ChainId, anchors: &Anchors) -> io::Result<Report> {
    let mut days = folder.days(chain)?;
    let mut reader = Reader { chain, anchors, link: Link::FIRST, report: Report::default() };
    // What is older than the first day that is kept was to be deleted, and may be there still.
    let first = anchors.days.keys().next();
    days.retain(|day| first.is_none_or(|first| day >= first));
    if let Some(stored) = first.and_then(|first| anchors.days.get(first)) {
        reader.link = stored.before;
    }
    for day in anchors.days.keys().filter(|day| !days.contains(day)) {
        // A day begins in the store when its first record is on the disk.
        let empty = anchors.days.get(day).is_some_and(|stored| stored.before == anchors.head.link);
        if !empty {
            reader.found(folder.file(chain, day).display(), "is missing");
        }
    }
    for day in &days {
        reader.file(folder, day)?;
    }
    let (link, head) = (reader.link, anchors.head.link);
    if link.seq < head.seq {
        let missing = format!("ends with record {}, but records up to {} were written", link.seq, head.seq);
        reader.found(format_args!("chain {chain}"), missing);
    }
    reader.report.unanchored = reader.report.records.min(link.seq.saturating_sub(head.seq));
    Ok(reader.report)
}

struct Reader<'a> {
    chain: ChainId,
    anchors: &'a Anchors,
    link: Link,
    report: Report,
}

impl Reader<'_> {
    fn found(&mut self, place: impl fmt::Display, sentence: impl fmt::Display) {
        if self.report.findings.len() < MOST {
            let finding = Finding { place: place.to_string(), sentence: sentence.to_string() };
            self.report.findings.push(finding);
        }
    }

    fn file(&mut self, folder: &Folder, day: &Day) -> io::Result<()> {
        let path = folder.file(self.chain, day);
        if let Some(stored) = self.anchors.days.get(day)
            && stored.before != self.link
        {
            let (begins, ended) = (stored.before.seq, self.link.seq);
            self.found(
                path.display(),
                format_args!(
                    "has to begin behind record {begins}: what is before it ends with record {ended}, or was edited"
                ),
            );
            self.link = stored.before;
        }
        let (mut lines, mut line, mut number) = (BufReader::new(File::open(&path)?), Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            if lines.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(line, format_args!("{}:{number}", path.display())),
                // Being written in this moment, or torn by a crash: no harm, unless the store knows more.
                None if self.link.seq >= self.anchors.head.link.seq => {}
                None => self.found(format_args!("{}:{number}", path.display()), "is cut short"),
            }
        }
    }

    fn line(&mut self, line: &[u8], place: fmt::Arguments<'_>) {
        self.report.records += 1;
        match self.link.follow(self.chain, line) {
            Ok(next) => self.link = next,
            Err(wrong) => {
                self.found(place, wrong);
                self.link = Link::resume(line).unwrap_or(self.link);
            }
        }
        let head = self.anchors.head.link;
        if self.link.seq == head.seq && self.link.hash != head.hash {
            self.found(place, "is not the record that the store knows: it was edited, or one before it");
            self.link = head;
        }
    }
}
