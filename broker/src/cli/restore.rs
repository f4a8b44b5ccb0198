//! `homeward-broker restore`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::audit::{Event, Kind};
use crate::cli::audit;
use crate::cli::output::{Output, Row, print_line};
use crate::clock::Clock;
use crate::config::Config;
use crate::registry::SubjectKey;
use crate::restore::{Outcome, Release, Terms, is_wanted, restore};
use crate::secret::{self, KeyEncryptionKeys, SealingKeys};
use crate::storage::address;
use crate::storage::archive::{Archive, Head};
use crate::storage::migration;
use crate::storage::schema::{self, Found, SchemaRecord};
use crate::storage::{Expect, Key, Page, Store, Write};

/// Entries that are deleted at once.
const PAGE: usize = 100;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Who is known to be good: nothing of it was revoked, cut off or replaced since the backup. Everybody else comes back
    /// quarantined. Names with commas, or all.
    #[arg(long, value_name = "NAME,…|all", default_value = "")]
    release: String,
}

pub(super) async fn run(options: Options, config: &Config, file: &Path, output: Output) -> anyhow::Result<()> {
    let release = match options.release.as_str() {
        "" => Release::Nobody,
        said => said.parse().context("--release takes names with commas, or all")?,
    };
    let from = options.from.display();
    let backup = File::open(&options.from).with_context(|| format!("{from} cannot be read"))?;
    let archive = Archive::read(BufReader::new(backup), is_wanted).with_context(|| format!("{from} cannot be used"))?;
    check_name(&archive.head, config)?;
    let store = address::open(&config.store, &config.etcd).await?;
    let (now, made_at) = (Clock::system().now(), archive.head.made_at);
    let arriving = SchemaRecord {
        version: archive.head.schema,
        epoch: archive.head.epoch + 1,
        arriving: Some(format!("the backup of {made_at}")),
        ..SchemaRecord::current()
    };
    begin(&store, &arriving, config).await?;
    let sealing = open_keys(&store, &archive, config).await?;
    let terms = Terms { now, made_at, release: &release, sealing: &sealing };
    let restored = restore(archive.entries, &terms)?;
    let writes = restored.entries.into_iter().map(put).collect();
    migration::write(&store, writes).await?;
    let done = SchemaRecord { arriving: None, ..arriving };
    let outcomes = [restored.outcomes, left_behind(&archive.passed_over)].concat();
    // Before the store is declared complete: what ops have to do next is said nowhere else.
    show(&outcomes, &done, config, file, output);
    store.commit(vec![done.write(&store, Expect::Any)?]).await?;
    let restored = Event::new(Kind::StoreRestored).object(made_at).detail(format!("epoch {}", done.epoch));
    audit::note(&store, config, restored).await;
    Ok(())
}

/// Whether it is the federation that the configuration names.
fn check_name(head: &Head, config: &Config) -> anyhow::Result<()> {
    match &config.federation {
        Some(federation) if federation.trust_domain.as_str() != head.trust_domain => bail!(
            "the backup is of the federation {}, and the configuration names {}: trust_domain can never change",
            head.trust_domain,
            federation.trust_domain
        ),
        _ => Ok(()),
    }
}

/// Takes the empty store, or one in which a restore was cut short, of which nothing is left then.
async fn begin(store: &Arc<dyn Store>, arriving: &SchemaRecord, config: &Config) -> anyhow::Result<()> {
    let unfinished =
        |record: &SchemaRecord| record.arriving.as_ref().is_some_and(|from| from.starts_with("the backup of "));
    match schema::look(store).await? {
        Found::Fresh => {}
        Found::Versioned(record, _) if unfinished(&record) => clear(store).await?,
        Found::Versioned(..) | Found::Unversioned => {
            bail!("{} is not empty, and a restore touches no existing federation: name an empty store", config.store);
        }
    }
    store.commit(vec![arriving.write(store, Expect::Any)?]).await?;
    Ok(())
}

async fn clear(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = store.list(Page { prefix: String::new(), after, limit: PAGE }).await?;
        after = page.last().map(|(key, _)| key.clone());
        if after.is_none() {
            return Ok(());
        }
        // What says that the store is not complete goes last: it is replaced.
        let others = page.into_iter().filter(|(key, _)| *key != schema::key());
        let writes = others.map(|(key, _)| Write { key, expect: Expect::Any, value: None }).collect();
        store.commit(writes).await?;
    }
}

/// The keys that seal what the backup holds: whether they fit is seen before anything is made with them.
async fn open_keys(store: &Arc<dyn Store>, archive: &Archive, config: &Config) -> anyhow::Result<Arc<SealingKeys>> {
    let first = |key: &&Key| ["sealing_key", "subject_key"].contains(&key.table());
    let first = archive.entries.iter().filter(|(key, _)| first(key));
    migration::write(store, first.map(|(key, value)| put((key.clone(), value.clone()))).collect()).await?;
    let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
    let refused = || {
        let kek = &config.kek.current;
        format!(
            "the backup cannot be opened with the key-encryption key in {kek}: put the one there that it was made under"
        )
    };
    secret::adopt(store, &keks, crate::SEALED, Clock::system().now()).await.with_context(refused)?;
    let (sealing, _) = SealingKeys::load(store, keks).await.with_context(refused)?;
    SubjectKey::load(store, &sealing).await.with_context(refused)?;
    Ok(sealing)
}

fn put((key, value): (Key, Vec<u8>)) -> Write {
    Write { key, expect: Expect::Any, value: Some(value) }
}

/// What of the backup is of no use any more.
fn left_behind(passed_over: &BTreeMap<String, u64>) -> Vec<Outcome> {
    let counted: Vec<_> = passed_over.iter().map(|(table, count)| format!("{count} {table}")).collect();
    let outcome = Outcome {
        what: "everything short-lived".to_owned(),
        became: format!("left behind: {}", if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") }),
        next: "users sign in again; make join tokens anew".to_owned(),
    };
    vec![outcome]
}

impl Row for Outcome {
    const COLUMNS: &'static [&'static str] = &["WHAT", "NOW", "NEXT"];

    fn cells(&self) -> Vec<String> {
        vec![self.what.clone(), self.became.clone(), self.next.clone()]
    }

    fn json(&self) -> Value {
        json!({"what": self.what, "now": self.became, "next": self.next})
    }
}

fn show(outcomes: &[Outcome], done: &SchemaRecord, config: &Config, file: &Path, output: Output) {
    let rows = Value::from_iter(outcomes.iter().map(Row::json));
    if output == Output::Table {
        output.list(outcomes);
        print_line(&"");
    }
    let sentence = format!(
        "Restored into {}: epoch {} of the federation.\nNext: homeward-broker --config {} serve",
        config.store,
        done.epoch,
        file.display()
    );
    output.say(&sentence, &json!({"epoch": done.epoch, "outcomes": rows}));
}
