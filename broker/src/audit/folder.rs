//! The folder: `<dir>/<chain>/<day>.jsonl`, one folder a chain, one file a day, for nobody but the broker's own user.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::audit::AuditError;
use crate::audit::anchor::Day;
use crate::audit::chain::{ChainId, LONGEST};

/// What the names of files end with.
const SUFFIX: &str = ".jsonl";

/// Taken by whoever writes.
const LOCK: &str = "lock";

/// The files of one broker, of as many chains as it has begun.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Here; it need not exist.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes sure that it is there, and that nobody else writes to it while the answer lives.
    ///
    /// # Errors
    /// When it cannot be made, or somebody writes to it.
    pub(super) fn lock(&self) -> Result<File, AuditError> {
        let failed = |error| AuditError::Folder(self.0.clone(), error);
        make(&self.0).map_err(failed)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.0.join(LOCK));
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(AuditError::InUse(self.0.clone())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The chains that have a folder, in the order of their names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn chains(&self) -> io::Result<Vec<ChainId>> {
        let mut chains: Vec<ChainId> = names(&self.0)?
            .iter()
            .filter_map(|name| name.parse().ok().filter(|id: &ChainId| id.to_string() == *name))
            .collect();
        chains.sort();
        Ok(chains)
    }

    /// The days of a chain that have a file, the oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn days(&self, chain: ChainId) -> io::Result<Vec<Day>> {
        let names = names(&self.0.join(chain.to_string()))?;
        let mut days: Vec<Day> = names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect();
        days.sort();
        Ok(days)
    }

    /// The chains that have a file of each of these days.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn chains_by_day(&self, wanted: impl Fn(&Day) -> bool) -> io::Result<BTreeMap<Day, Vec<ChainId>>> {
        let mut days: BTreeMap<Day, Vec<ChainId>> = BTreeMap::new();
        for chain in self.chains()? {
            for day in self.days(chain)?.into_iter().filter(|day| wanted(day)) {
                days.entry(day).or_default().push(chain);
            }
        }
        Ok(days)
    }

    /// The file of a day.
    pub(super) fn file(&self, chain: ChainId, day: &Day) -> PathBuf {
        self.0.join(chain.to_string()).join(format!("{day}{SUFFIX}"))
    }

    /// Opens the file of a day for writing: a new one is there for certain, although nothing is in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(&self, chain: ChainId, day: &Day) -> io::Result<File> {
        let path = self.file(chain, day);
        let folder = self.0.join(chain.to_string());
        make(&folder)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        File::open(&folder)?.sync_all()?;
        File::open(&self.0)?.sync_all()?;
        Ok(file)
    }

    /// Keeps what stands in the file of a day from a place on, in a file beside it, where it holds whole lines: they are no
    /// records of the chain, as somebody changed them or one before them, but nobody says that they are worth nothing. What
    /// ends without a line is a write that a crash has cut short, and is not kept.
    ///
    /// # Errors
    /// When it cannot be read or written: then nothing may be cut off.
    pub(super) fn put_aside(&self, chain: ChainId, day: &Day, file: &File, from: u64) -> io::Result<Option<PathBuf>> {
        let mut source = file.try_clone()?;
        source.seek(SeekFrom::Start(from))?;
        let mut line = Vec::new();
        BufReader::new(&mut source).take(LONGEST as u64).read_until(b'\n', &mut line)?;
        if line.len() < LONGEST && !line.ends_with(b"\n") {
            return Ok(None);
        }
        source.seek(SeekFrom::Start(from))?;
        let folder = self.0.join(chain.to_string());
        // Nobody else writes here: a name that is not taken stays so.
        let path = (1u32..).map(|number| folder.join(format!("{day}.aside-{number}"))).find(|path| !path.exists());
        let Some(path) = path else { return Ok(None) };
        let mut aside = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::copy(&mut source, &mut aside)?;
        aside.sync_all()?;
        File::open(&folder)?.sync_all()?;
        Ok(Some(path))
    }

    /// Deletes the file of a day, and what was put aside of it.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub(super) fn delete(&self, chain: ChainId, day: &Day) -> io::Result<()> {
        let folder = self.0.join(chain.to_string());
        let aside = format!("{day}.aside-");
        for name in names(&folder)?.into_iter().filter(|name| name.starts_with(&aside)) {
            std::fs::remove_file(folder.join(name))?;
        }
        std::fs::remove_file(self.file(chain, day))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Of what is in a folder: nothing, if there is none.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
