//! A backup as a file: lines of JSON.
//!
//! 1. [`Head`]: what it is.
//! 2. A line for each key, and behind those a line for each that was changed while they were read: whoever reads all of
//!    them in order has the store at one moment. Values are base64; a key without one is gone.
//! 3. [`Tail`]: how many lines there are between, the store's revision, and the SHA-256 of everything before.
//!
//! Secrets are in there as they are in the store: sealed. The key-encryption key is not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

use crate::clock::Timestamp;
use crate::storage::copy::{Change, Copy, CopyError};
use crate::storage::schema::{self, CURRENT, Found};
use crate::storage::{Key, Store, StoreError};

/// What this program writes and reads.
const FORMAT: u32 = 1;

/// Bytes that are handed on at once, about.
const CHUNK: usize = 48 * 1024;

/// How long whoever takes a backup may take nothing. (Tests are quicker.)
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the file.
    pub homeward_backup: u32,
    /// Whose it is.
    pub trust_domain: String,
    /// When it was begun.
    pub made_at: Timestamp,
    /// What its records are like.
    pub schema: u32,
    /// How often the federation had been restored.
    pub epoch: u64,
}

/// A key and its value.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Lines between the first and this.
    pub lines: u64,
    /// The store's revision at that one moment.
    pub revision: u64,
    /// Of all bytes before this line and the two numbers in it, as hex.
    pub sha256: String,
}

/// Writes a backup of a store, which may be in use, into `chunks`; says its last line.
///
/// # Errors
/// When the store does not answer or is changed too fast, or whoever takes the chunks has gone or stands still: then the backup has no last
/// line, and is no backup.
pub async fn write(
    store: Arc<dyn Store>,
    trust_domain: &str,
    now: Timestamp,
    chunks: mpsc::Sender<Vec<u8>>,
) -> Result<Tail, ArchiveError> {
    let (schema, epoch) = match schema::look(&store).await? {
        Found::Fresh => return Err(schema::SchemaError::Fresh.into()),
        Found::Unversioned => (1, 0),
        Found::Versioned(record, _) => {
            record.check()?;
            (record.version, record.epoch)
        }
    };
    let trust_domain = trust_domain.to_owned();
    let mut sink = Sink { chunks, hash: Context::new(&SHA256), waiting: Vec::new() };
    sink.line(&Head { homeward_backup: FORMAT, trust_domain, made_at: now, schema, epoch })?;
    let (mut copy, mut lines) = (Copy::begin(store).await?, 0);
    while let Some(portion) = copy.next().await? {
        for (key, value) in portion {
            let value = value.map(|value| STANDARD_NO_PAD.encode(value));
            sink.line(&Line { key: key.as_str().to_owned(), value })?;
            lines += 1;
            if sink.waiting.len() >= CHUNK {
                sink.hand_on().await?;
            }
        }
    }
    let revision = copy.revision().map_or(0, |revision| revision.as_u64());
    let tail = Tail { lines, revision, sha256: seal(&sink.hash, lines, revision) };
    sink.line(&tail)?;
    sink.hand_on().await?;
    Ok(tail)
}

/// Lines on their way.
struct Sink {
    chunks: mpsc::Sender<Vec<u8>>,
    hash: Context,
    waiting: Vec<u8>,
}

impl Sink {
    fn line(&mut self, line: &impl Serialize) -> Result<(), ArchiveError> {
        let mut text = serde_json::to_vec(line).map_err(|_| StoreError::Corrupt("a key"))?;
        text.push(b'\n');
        self.hash.update(&text);
        self.waiting.append(&mut text);
        Ok(())
    }

    async fn hand_on(&mut self) -> Result<(), ArchiveError> {
        let sent = self.chunks.send_timeout(std::mem::take(&mut self.waiting), PATIENCE).await;
        sent.map_err(|refused| match refused {
            SendTimeoutError::Timeout(_) => ArchiveError::Stalled,
            SendTimeoutError::Closed(_) => ArchiveError::NobodyTakes,
        })
    }
}

/// A backup that was read whole, and is whole.
#[derive(Debug)]
pub struct Archive {
    /// What it is.
    pub head: Head,
    /// What it has.
    pub entries: BTreeMap<Key, Vec<u8>>,
    /// How many entries it has that were passed over, by table.
    pub passed_over: BTreeMap<String, u64>,
    /// What it ends with.
    pub tail: Tail,
}

impl Archive {
    /// Reads a backup. Only entries that are `wanted` are kept.
    ///
    /// # Errors
    /// When it is no backup, not a whole one, altered, or a newer program's.
    pub fn read(file: impl BufRead, wanted: impl Fn(&Key) -> bool) -> Result<Self, ArchiveError> {
        let mut lines = Lines::begin(file)?;
        let (mut entries, mut passed_over) = (BTreeMap::new(), BTreeSet::new());
        loop {
            match lines.next()? {
                Read::Change((key, None)) => drop((entries.remove(&key), passed_over.remove(&key))),
                Read::Change((key, Some(value))) if wanted(&key) => drop(entries.insert(key, value)),
                Read::Change((key, Some(_))) => drop(passed_over.insert(key)),
                Read::End(tail) => {
                    return Ok(Self { head: lines.head, entries, passed_over: count(passed_over.iter()), tail });
                }
            }
        }
    }
}

/// Whether a file is a whole backup: says its first and its last line.
///
/// # Errors
/// When it is not.
pub fn verify(file: impl BufRead) -> Result<(Head, Tail), ArchiveError> {
    let mut lines = Lines::begin(file)?;
    loop {
        if let Read::End(tail) = lines.next()? {
            return Ok((lines.head, tail));
        }
    }
}

/// A backup that is being read.
struct Lines<F> {
    file: F,
    head: Head,
    hash: Context,
    count: u64,
}

/// What comes next.
enum Read {
    Change(Change),
    End(Tail),
}

impl<F: BufRead> Lines<F> {
    fn begin(mut file: F) -> Result<Self, ArchiveError> {
        let text = line(&mut file)?;
        let head: Head = serde_json::from_slice(&text).map_err(|_| ArchiveError::NoBackup)?;
        if head.homeward_backup > FORMAT || head.schema > CURRENT {
            return Err(ArchiveError::Newer);
        }
        let mut hash = Context::new(&SHA256);
        hash.update(&text);
        Ok(Self { file, head, hash, count: 0 })
    }

    fn next(&mut self) -> Result<Read, ArchiveError> {
        let text = line(&mut self.file)?;
        if let Ok(tail) = serde_json::from_slice::<Tail>(&text) {
            let written = tail.lines == self.count
                && tail.sha256 == seal(&self.hash, tail.lines, tail.revision)
                && text.ends_with(b"\n");
            let last = line(&mut self.file)?.is_empty();
            return if written && last { Ok(Read::End(tail)) } else { Err(ArchiveError::Altered) };
        }
        self.hash.update(&text);
        self.count += 1;
        let Line { key, value } = serde_json::from_slice(&text).map_err(|_| ArchiveError::Altered)?;
        let value = value.map(|value| STANDARD_NO_PAD.decode(value)).transpose();
        let key = Key::parse(key).ok_or(ArchiveError::Altered)?;
        Ok(Read::Change((key, value.map_err(|_| ArchiveError::Altered)?)))
    }
}

/// The next line; nothing at the end.
fn line(file: &mut impl BufRead) -> Result<Vec<u8>, ArchiveError> {
    let mut text = Vec::new();
    file.read_until(b'\n', &mut text).map_err(ArchiveError::Read)?;
    Ok(text)
}

/// How many there are of each table.
fn count<'a>(keys: impl Iterator<Item = &'a Key>) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for key in keys {
        *counted.entry(key.table().to_owned()).or_default() += 1;
    }
    counted
}

/// The hash of what was read so far and of the numbers of the last line, as text.
fn seal(hash: &Context, lines: u64, revision: u64) -> String {
    let mut hash = hash.clone();
    hash.update(format!("{lines} {revision}").as_bytes());
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store is not to be copied.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// The copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever wanted it has gone.
    #[error("nobody takes the backup any more")]
    NobodyTakes,
    /// Whoever wanted it stands still, and the store goes on.
    #[error("nothing of the backup was taken for {} seconds, so it was given up: begin again", PATIENCE.as_secs())]
    Stalled,
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] std::io::Error),
    /// Something else.
    #[error("the file is no backup of a Homeward broker")]
    NoBackup,
    /// A newer program made it.
    #[error("the backup was made by a newer broker: restore it with that release")]
    Newer,
    /// Not as it was written.
    #[error("the backup is cut short or was altered: take another one")]
    Altered,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::schema::SchemaRecord;
    use crate::storage::sled::SledStore;
    use crate::storage::{Expect, Write};

    async fn written() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let record = SchemaRecord { epoch: 4, ..SchemaRecord::current() };
        store.commit(vec![record.write(&store, Expect::Absent).unwrap()]).await.unwrap();
        for (table, id) in [("session", "a"), ("session", "b"), ("x", "a"), ("duty", "all")] {
            let write = Write { key: Key::new(table, id), expect: Expect::Any, value: Some(id.as_bytes().to_vec()) };
            store.commit(vec![write]).await.unwrap();
        }
        let (chunks, mut taken) = mpsc::channel(100);
        let tail = write(store, "example.org", Timestamp::from_secs(7), chunks).await.unwrap();
        assert_eq!(tail.lines, 3);
        let mut file = Vec::new();
        while let Some(mut chunk) = taken.recv().await {
            file.append(&mut chunk);
        }
        file
    }

    #[tokio::test]
    async fn a_backup_reads_as_it_was_written_and_says_what_was_passed_over() {
        let file = written().await;
        let archive = Archive::read(file.as_slice(), |key| key.table() == "x").unwrap();
        assert_eq!((archive.head.epoch, archive.head.trust_domain.as_str()), (4, "example.org"));
        assert_eq!(archive.entries, BTreeMap::from([(Key::new("x", "a"), b"a".to_vec())]));
        assert_eq!(archive.passed_over, BTreeMap::from([("session".to_owned(), 2)]));
    }

    /// Behind it logins go on, and what they change is held back for the backup: not for ever, and not without end.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_taker_that_stalls_loses_the_backup_and_so_does_one_that_is_too_slow() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        store.commit(vec![SchemaRecord::current().write(&store, Expect::Absent).unwrap()]).await.unwrap();
        let session =
            |id: String, size| Write { key: Key::new("session", &id), expect: Expect::Any, value: Some(vec![1; size]) };
        for id in 0..40 {
            store.commit((0..100).map(|n| session(format!("{id}.{n}"), 500)).collect()).await.unwrap();
        }
        let begin = || {
            let (chunks, taken) = mpsc::channel(1);
            let store = store.clone();
            (tokio::spawn(async move { write(store, "x", Timestamp::from_secs(7), chunks).await }), taken)
        };
        let (made, taken) = begin();
        let made = tokio::time::timeout(10 * PATIENCE, made).await.unwrap().unwrap();
        assert!(matches!(made, Err(ArchiveError::Stalled)), "{made:?}");
        drop(taken);
        // It takes something now and then, and half a megabyte is changed meanwhile.
        let (made, mut taken) = begin();
        taken.recv().await.unwrap();
        store.commit((0..100).map(|n| session(format!("new.{n}"), 5000)).collect()).await.unwrap();
        let made = tokio::time::timeout(10 * PATIENCE, async {
            while taken.recv().await.is_some() {
                tokio::time::sleep(PATIENCE / 20).await;
            }
            made.await.unwrap()
        });
        let made = made.await.unwrap();
        assert!(matches!(made, Err(ArchiveError::Copy(CopyError::TooSlow))), "{made:?}");
        // The same key again and again is held back once.
        let (made, mut taken) = begin();
        taken.recv().await.unwrap();
        for _ in 0..100 {
            store.commit(vec![session("same".to_owned(), 5000)]).await.unwrap();
        }
        while taken.recv().await.is_some() {}
        made.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_backup_that_was_cut_short_or_altered_is_none() {
        let file = written().await;
        let read = |file: &[u8]| Archive::read(file, |_| true);
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "{end}");
        }
        for at in 0..file.len() - 1 {
            let mut altered = file.clone();
            altered[at] ^= 1;
            assert!(read(&altered).is_err(), "{at}");
        }
        assert!(read(&[file.as_slice(), b"x"].concat()).is_err());
        assert!(read(&file).is_ok() && verify(file.as_slice()).is_ok());
    }
}
