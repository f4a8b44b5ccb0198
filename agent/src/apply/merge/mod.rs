//! Files that others write too. What they wrote stays, byte for byte where it can: each format finds the smallest part of
//! its text that must change ([`json`], [`yaml`], [`env`], [`ini`], [`toml`]); what the document as a whole must come to
//! is decided in one place ([`document`]).
//!
//! A text is written only if it reads back as what it was meant to be. Otherwise, and if it does not parse to begin with,
//! the file stays untouched. It is replaced at once (rename(2)) and keeps its owner and mode.

mod document;
mod env;
mod ini;
mod json;
mod toml;
mod yaml;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use self::document::Outcome;
use super::owner::Owner;
use crate::disk::sync_folder;
use crate::identity::SecretBytes;
use crate::parameters::{ParameterError, Parameters};
use crate::recipe::way::{MergeFormat, MergedFile};

/// No configuration is longer.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// The files of a way.
#[derive(Debug)]
pub(crate) struct Merge {
    pub(super) files: Vec<MergedFile>,
    /// Of files that are not there yet; others keep theirs.
    pub(super) owner: Owner,
}

/// A file as it will be.
pub(crate) struct Edited {
    /// Which.
    path: PathBuf,
    old: Option<Zeroizing<Vec<u8>>>,
    new: Zeroizing<Vec<u8>>,
    /// What was taken out, and why.
    pub(super) removed: Vec<String>,
}

/// A file as it was, for the way back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replaced {
    path: PathBuf,
    /// Unset if there was none.
    old: Option<SecretBytes>,
    new: SecretBytes,
}

/// Why a file is not written.
#[derive(Debug, Error)]
pub(crate) enum MergeError {
    /// Where it is.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A step failed.
    #[error("cannot {step} {path}: {source}; nothing in it was changed", path = path.display())]
    Failed {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The text.
    #[error("{path}: {source}; nothing in it was changed", path = path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Unwritable,
    },
    /// The client's secret would be everybody's.
    #[error("{path} would hold the client's secret, and all users of this machine can read or change it; run: chmod o= {path} (and chgrp, if the application does not own it); nothing in it was changed", path = .0.display())]
    Open(PathBuf),
    /// Somebody else was faster.
    #[error("{path} was changed by somebody else meanwhile and is left as it is", path = .0.display())]
    ChangedMeanwhile(PathBuf),
}

/// Why a text cannot be changed. What is in it is not told: it may hold secrets.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// Not what it should be.
    #[error("line {line} does not parse; correct it")]
    Unparsable {
        /// Where.
        line: usize,
    },
    /// Not even text.
    #[error("it is no UTF-8 text of at most 4 MiB")]
    NoText,
    /// Written in a way that cannot be followed.
    #[error(
        "it is written in a way that cannot be changed safely; set by hand what `homeward-agent recipe show NAME` says"
    )]
    OtherThanWanted,
    /// A name that the format does not have.
    #[error("{0:?} is no name that this format can have")]
    Name(String),
    /// A value that the format cannot hold.
    #[error("a value has characters that this format cannot hold")]
    Character,
}

impl Merge {
    /// The files that must change, and how.
    pub(super) fn plan(&self, parameters: &Parameters, values: &[(&str, &str)]) -> Result<Vec<Edited>, MergeError> {
        let mut edited = Vec::new();
        for file in &self.files {
            let path = parameters.value(file.file.name())?.unwrap_or_default();
            let path = PathBuf::from(path.as_str());
            let old = read(&path)?;
            let text = std::str::from_utf8(old.as_deref().map_or(&[], Vec::as_slice));
            let text = text.map_err(|_| Unwritable::NoText);
            let merged = text.and_then(|text| merge(text, file, file.content.render(values)));
            let unwritable = |source| MergeError::Unwritable { path: path.clone(), source };
            let (new, removed) = merged.map_err(unwritable)?;
            if old.as_deref().is_none_or(|old| *old != new.as_bytes()) {
                if file.content.holds_secret() && old.is_some() && is_open(&path)? {
                    return Err(MergeError::Open(path));
                }
                edited.push(Edited { path, old, new: Zeroizing::new(new.into_bytes()), removed });
            }
        }
        Ok(edited)
    }

    /// Writes them, each at once.
    pub(super) fn put(&self, edited: &[Edited]) -> Result<(), MergeError> {
        for (count, file) in edited.iter().enumerate() {
            if let Err(error) = self.replace(&file.path, file.old.as_deref().map(Vec::as_slice), &file.new) {
                // Those before it are put back: it is all of them or none.
                let written: Vec<Replaced> = edited[..count].iter().map(Edited::undo).collect();
                self.undo(&written)?;
                return Err(error);
            }
            for removed in &file.removed {
                tracing::warn!(path = %file.path.display(), removed, "a setting that breaks the application was taken out");
            }
        }
        Ok(())
    }

    /// Puts the old bytes back, where the new ones are still there, or never came. What somebody else has changed since
    /// stays, and is told when the rest is done.
    pub(super) fn undo(&self, replaced: &[Replaced]) -> Result<(), MergeError> {
        let mut changed = None;
        for file in replaced {
            match self.restore(file) {
                Err(error @ MergeError::ChangedMeanwhile(_)) => changed = Some(error),
                restored => restored?,
            }
        }
        changed.map_or(Ok(()), Err)
    }

    fn restore(&self, file: &Replaced) -> Result<(), MergeError> {
        if let Some(old) = &file.old {
            return self.replace(&file.path, Some(&file.new.0), &old.0);
        }
        match read(&file.path)? {
            None => Ok(()),
            Some(now) if *now == *file.new.0 => std::fs::remove_file(&file.path).map_err(failed("remove", &file.path)),
            Some(_) => Err(MergeError::ChangedMeanwhile(file.path.clone())),
        }
    }

    /// Replaces a file, if it still is what it was.
    fn replace(&self, path: &Path, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), MergeError> {
        // A link leads to the file that is meant; it stays.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let now = read(path)?;
        if now.as_deref().map(Vec::as_slice) == Some(bytes) {
            return Ok(());
        }
        if now.as_deref().map(Vec::as_slice) != before {
            return Err(MergeError::ChangedMeanwhile(path.clone()));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.homeward"));
        let written = self
            .write_new(path, &temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| sync_folder(folder));
        written.map_err(|source| {
            // It may hold the secret.
            let _ = std::fs::remove_file(&temporary);
            MergeError::Failed { step: "write", path: path.clone(), source }
        })
    }

    fn write_new(&self, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        match std::fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        match std::fs::metadata(path) {
            Ok(old) => {
                let own = file.metadata()?;
                if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                    rustix::fs::fchown(&file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
                }
                file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.owner != Owner::default() {
                    rustix::fs::fchown(&file, self.owner.user, self.owner.group)?;
                }
            }
            Err(error) => return Err(error),
        }
        file.write_all(bytes)?;
        file.sync_all()
    }
}

impl Edited {
    /// The way back.
    pub(super) fn undo(&self) -> Replaced {
        let old = self.old.as_ref().map(|old| SecretBytes(old.clone()));
        Replaced { path: self.path.clone(), old, new: SecretBytes(self.new.clone()) }
    }

    /// For people.
    pub(super) fn describe(&self) -> Vec<String> {
        let verb = if self.old.is_some() { "change" } else { "make" };
        let removed = self.removed.iter().map(|removed| format!("in {}, {removed}", self.path.display()));
        std::iter::once(format!("{verb} {}", self.path.display())).chain(removed).collect()
    }
}

/// A whole text of this format.
pub(super) fn print(format: MergeFormat, content: &Value) -> Result<String, Unwritable> {
    let empty = Value::Object(Map::new());
    match format {
        MergeFormat::Json => json::write("", content, json::Layout::Lines),
        MergeFormat::Yaml => yaml::write("", &Value::Null, content),
        MergeFormat::Env => env::write("", &empty, content),
        MergeFormat::Ini => ini::write("", &ini::normal(content)?),
        MergeFormat::Toml => toml::write("", &empty, content),
    }
}

/// The text that it comes to, and what was taken out of it.
fn merge(text: &str, recipe: &MergedFile, content: Value) -> Result<(String, Vec<String>), Unwritable> {
    let content = match recipe.format {
        MergeFormat::Ini => ini::normal(&content)?,
        MergeFormat::Env => env::normal(content),
        MergeFormat::Json | MergeFormat::Yaml | MergeFormat::Toml => content,
    };
    let wishes = document::Wishes { recipe, content };
    let read = |text: &str| match recipe.format {
        MergeFormat::Json => json::read(text),
        MergeFormat::Yaml => yaml::read(text),
        MergeFormat::Env => env::read(text, &wishes),
        MergeFormat::Ini => ini::read(text),
        MergeFormat::Toml => toml::read(text),
    };
    let old = read(text)?;
    let Outcome { document: wanted, removed } = wishes.apply(old.clone());
    if wanted == old {
        return Ok((text.to_owned(), removed));
    }
    let written = match recipe.format {
        MergeFormat::Json => json::write(text, &wanted, json::Layout::Lines)?,
        MergeFormat::Yaml => yaml::write(text, &old, &wanted)?,
        MergeFormat::Env => env::write(text, &old, &wanted)?,
        MergeFormat::Ini => ini::write(text, &wanted)?,
        MergeFormat::Toml => toml::write(text, &old, &wanted)?,
    };
    if read(&written)? == wanted { Ok((written, removed)) } else { Err(Unwritable::OtherThanWanted) }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, MergeError> {
    let opened = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("read", path))?,
    };
    let length = opened.metadata().map_err(failed("read", path))?.len();
    if length > LARGEST_FILE {
        return Err(MergeError::Unwritable { path: path.to_owned(), source: Unwritable::NoText });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    io::Read::read_to_end(&mut io::Read::take(opened, LARGEST_FILE), &mut bytes).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

/// Whether it is for everybody on this machine.
fn is_open(path: &Path) -> Result<bool, MergeError> {
    Ok(std::fs::metadata(path).map_err(failed("read", path))?.mode() & 0o007 != 0)
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MergeError {
    let path = path.to_owned();
    move |source| MergeError::Failed { step, path, source }
}

#[cfg(test)]
mod tests;
