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
use crate::cli::place;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::registry::SubjectKey;
use crate::restore::{Outcome, Release, Terms, is_wanted, restore};
use crate::secret::{self, KeyEncryptionKeys, SealingKeys};
use crate::storage::archive::{Archive, Head};
use crate::storage::arrival::{Arrival, ArrivalError, put};
use crate::storage::schema::{self, Found, SchemaRecord};
use crate::storage::{Expect, Key, Store};

/// From where the federation arrives: before the time of the backup.
const ORIGIN: &str = "the backup of ";

/// Of the table, in columns.
const WIDTH: usize = 120;

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
    let (now, made_at) = (Clock::system().now(), archive.head.made_at);
    let mark = SchemaRecord {
        version: archive.head.schema,
        epoch: archive.head.epoch + 1,
        arriving: Some(format!("{ORIGIN}{made_at}")),
        ..SchemaRecord::current()
    };
    let epoch = mark.epoch;
    place::fill(&config.store, &config.etcd, async |store| {
        let arrival = begin(store, mark, config).await?;
        let outcomes = match write(&arrival, archive, (now, &release), config).await {
            Ok(outcomes) => outcomes,
            Err(refused) => {
                // Whoever reads what another run is writing may take it for anything.
                if let Err(over @ ArrivalError::TakenOver) = arrival.check().await {
                    return Err(over.into());
                }
                // If the store does not answer, nothing of it can be taken back: the same command begins again.
                drop(arrival.give_up().await);
                return Err(refused);
            }
        };
        // Before the store is declared complete: what ops have to do next is said nowhere else.
        show(&outcomes, epoch, config, file, output);
        arrival.finish().await?;
        let restored = Event::new(Kind::StoreRestored).object(made_at).detail(format!("epoch {epoch}"));
        audit::note(store, config, restored).await;
        Ok(())
    })
    .await
}

/// Writes what the backup becomes, and says what that is.
async fn write(
    arrival: &Arrival,
    archive: Archive,
    (now, release): (Timestamp, &Release),
    config: &Config,
) -> anyhow::Result<Vec<Outcome>> {
    let sealing = open_keys(arrival, &archive, config).await?;
    let terms = Terms { now, made_at: archive.head.made_at, release, sealing: &sealing };
    let restored = restore(archive.entries, &terms)?;
    arrival.write(restored.entries.into_iter().map(put).collect()).await?;
    Ok([restored.outcomes, left_behind(&archive.passed_over)].concat())
}

/// Whether it is the federation that the configuration names.
fn check_name(head: &Head, config: &Config) -> anyhow::Result<()> {
    match config.named.text("trust_domain") {
        Some(name) if name != head.trust_domain => bail!(
            "the backup is of the federation {}, and the configuration names {name}: trust_domain can never change",
            head.trust_domain
        ),
        _ => Ok(()),
    }
}

/// Takes the empty store, or one in which a restore was cut short, of which nothing is left then.
async fn begin(store: &Arc<dyn Store>, mark: SchemaRecord, config: &Config) -> anyhow::Result<Arrival> {
    let unfinished = |record: &SchemaRecord| record.arriving.as_ref().is_some_and(|from| from.starts_with(ORIGIN));
    match schema::look(store).await? {
        Found::Fresh => Ok(Arrival::begin(store, mark, Expect::Absent).await?),
        Found::Versioned(record, version) if unfinished(&record) => {
            let arrival = Arrival::begin(store, mark, Expect::Version(version)).await?;
            arrival.clear().await?;
            Ok(arrival)
        }
        Found::Versioned(..) | Found::Unversioned => {
            bail!("{} is not empty, and a restore touches no existing federation: name an empty store", config.store);
        }
    }
}

/// The keys that seal what the backup holds: whether they fit is seen before anything is made with them.
async fn open_keys(arrival: &Arrival, archive: &Archive, config: &Config) -> anyhow::Result<Arc<SealingKeys>> {
    let first = |key: &&Key| ["sealing_key", "subject_key"].contains(&key.table());
    let first = archive.entries.iter().filter(|(key, _)| first(key));
    arrival.write(first.map(|(key, value)| put((key.clone(), value.clone()))).collect()).await?;
    let store = arrival.store();
    let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
    let refused = || {
        let kek = &config.kek.current;
        format!(
            "the backup cannot be opened with the key-encryption key in {kek}: put the one there that it was made under"
        )
    };
    secret::adopt(store, &keks, crate::SEALED, Clock::system().now()).await.with_context(refused)?;
    let (sealing, _) = SealingKeys::load(store, keks, "restore").await.with_context(refused)?;
    SubjectKey::load(store, &sealing).await.with_context(refused)?;
    Ok(sealing)
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

fn show(outcomes: &[Outcome], epoch: u64, config: &Config, file: &Path, output: Output) {
    let rows = Value::from_iter(outcomes.iter().map(Row::json));
    if output == Output::Table {
        output.list_within(WIDTH, outcomes);
        print_line(&"");
    }
    let sentence = format!(
        "Restored into {}: epoch {} of the federation.\nNext: homeward-broker --config {} serve",
        config.store,
        epoch,
        file.display()
    );
    output.say(&sentence, &json!({"epoch": epoch, "outcomes": rows}));
}
