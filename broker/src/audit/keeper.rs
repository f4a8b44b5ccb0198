//! Who keeps which files: each broker those of its own chains.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::audit::anchor::{Day, StoredDay};
use crate::audit::chain::{ChainId, Link};
use crate::audit::folder::Folder;
use crate::audit::verify::{Anchors, Finding, Report, verify};
use crate::audit::{AuditError, Tables};
use crate::storage::Store;

/// How often files are read again because the store has moved meanwhile.
const TRIES: usize = 3;

/// A broker's files, beside its store: the broker need not run.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// The files.
    pub folder: Folder,
    /// What the machine calls itself.
    pub host: String,
    /// Whether nobody else uses the store: then all chains have to be here.
    pub alone: bool,
}

/// What was found of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub chain: String,
    /// The machine that wrote it; unset if the store does not know it.
    pub host: Option<String>,
    /// What was found; nothing if another machine has the files.
    pub report: Option<Report>,
}

impl Keeper {
    /// Reads everything, and compares it with what the store knows.
    ///
    /// # Errors
    /// When the folder cannot be read, or the store does not answer.
    pub async fn verify(&self, store: &Arc<dyn Store>) -> Result<Vec<Verdict>, AuditError> {
        let tables = Tables::of(store);
        let failed = |error| AuditError::Folder(self.folder.path().to_owned(), error);
        let here = self.folder.chains().map_err(failed)?;
        let mut verdicts = Vec::new();
        for (id, stored) in tables.heads.all().await? {
            let Ok(chain) = id.parse::<ChainId>() else { continue };
            let head = stored.record;
            let lost = head.link != Link::FIRST && (self.alone || head.host == self.host);
            let report = match here.contains(&chain) {
                true => Some(self.chain(&tables, chain).await?),
                false if lost => {
                    let path = self.folder.path().join(&id);
                    Some(alarm(&path, format!("is missing, with {} records", head.link.seq)))
                }
                false => None,
            };
            verdicts.push(Verdict { chain: id, host: Some(head.host), report });
        }
        for chain in here {
            if !verdicts.iter().any(|known| known.chain == chain.to_string()) {
                let path = self.folder.path().join(chain.to_string());
                let report = alarm(
                    &path,
                    "is not known to the store: it is of another federation, or the store was put back from a copy",
                );
                verdicts.push(Verdict { chain: chain.to_string(), host: None, report: Some(report) });
            }
        }
        Ok(verdicts)
    }

    /// While a broker runs, days come and go: what is wrong has to be wrong twice.
    async fn chain(&self, tables: &Tables, chain: ChainId) -> Result<Report, AuditError> {
        let mut report = Report::default();
        for _ in 0..TRIES {
            let Some(anchors) = anchors(tables, chain).await? else { return Ok(report) };
            let (folder, known) = (self.folder.clone(), anchors.clone());
            let read = tokio::task::spawn_blocking(move || verify(&folder, chain, &known)).await;
            let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            report = read.map_err(|error| AuditError::Folder(self.folder.path().to_owned(), error))?;
            if report.findings.is_empty()
                || Some(&anchors.days) == self::anchors(tables, chain).await?.map(|now| now.days).as_ref()
            {
                break;
            }
        }
        Ok(report)
    }
}

async fn anchors(tables: &Tables, chain: ChainId) -> Result<Option<Anchors>, AuditError> {
    // The days first: one that begins in between has its file already, and none that is gone is missed.
    let mut days: BTreeMap<Day, StoredDay> = BTreeMap::new();
    for (key, stored) in tables.days.beginning(&StoredDay::keys(chain)).await? {
        let day = key.rsplit_once('.').and_then(|(_, day)| day.parse().ok());
        days.extend(day.map(|day| (day, stored.record)));
    }
    let head = tables.heads.get(&chain.to_string()).await?;
    Ok(head.map(|stored| Anchors { head: stored.record, days }))
}

fn alarm(place: &Path, sentence: impl Into<String>) -> Report {
    let finding = Finding { place: place.display().to_string(), sentence: sentence.into() };
    Report { findings: vec![finding], ..Report::default() }
}
