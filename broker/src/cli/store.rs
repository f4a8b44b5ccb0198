//! `homeward-broker store`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use crate::audit::{Event, Kind};
use crate::cli::audit;
use crate::cli::output::Output;
use crate::cli::place;
use crate::config::Config;
use crate::storage::address::{self, EtcdAccess, StoreAddress};
use crate::storage::migration::{End, MigrationError, Progress, migrate};

/// How often progress is said.
const SAID_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Move a federation into another store, with all brokers stopped. A run that was cut short is finished by the same
    /// command. Until it is done the old store stays in use; then no broker opens it any more.
    Migrate {
        /// The store that it is in: sled:FOLDER or etcd:URL[,URL…][/PREFIX].
        #[arg(long, value_name = "STORE")]
        from: StoreAddress,
        /// An empty one.
        #[arg(long, value_name = "STORE")]
        to: StoreAddress,
        #[command(flatten)]
        access: Access,
    },
}

/// The way into an etcd, if the configuration does not say it.
#[derive(Args, Debug)]
pub(super) struct Access {
    /// CAs of the etcd, as PEM.
    #[arg(long, value_name = "FILE")]
    etcd_ca_file: Option<PathBuf>,
    /// Certificate for the etcd, as PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_private_key_file")]
    etcd_certificate_file: Option<PathBuf>,
    /// Its private key, as PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_certificate_file")]
    etcd_private_key_file: Option<PathBuf>,
    /// User of the etcd.
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// Where the user's password is.
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

impl Access {
    /// What the command line says, or else the configuration, if there is one.
    fn or_of(self, config: &Path) -> anyhow::Result<EtcdAccess> {
        let said = EtcdAccess {
            ca_file: self.etcd_ca_file,
            certificate_and_key_files: self.etcd_certificate_file.zip(self.etcd_private_key_file),
            user_and_password_file: self.etcd_user.zip(self.etcd_password_file),
        };
        if said == EtcdAccess::default() && config.exists() { Ok(Config::load(config)?.etcd) } else { Ok(said) }
    }
}

pub(super) async fn run(command: Command, config: &Path, output: Output) -> anyhow::Result<()> {
    let Command::Migrate { from, to, access } = command;
    let access = access.or_of(config)?;
    let (from, to) = (absolute(from)?, absolute(to)?);
    if let StoreAddress::Sled(folder) = &from
        && !folder.exists()
    {
        bail!("{from} does not exist: look at the address after --from");
    }
    if is_same(&from, &to) {
        return Err(MigrationError::Same(from.to_string()).into());
    }
    let source = End { store: address::open(&from, &access).await?, address: from.to_string() };
    let said = Mutex::new(Instant::now());
    let report = |progress| {
        let Ok(mut said) = said.lock() else { return };
        if progress == Progress::Listening || said.elapsed() >= SAID_EVERY {
            *said = Instant::now();
            say(&match progress {
                Progress::Listening => "looking whether a broker lives on the source: 12 seconds …".to_owned(),
                Progress::Copied(entries) => format!("{entries} entries copied …"),
                Progress::Compared(entries) => format!("{entries} entries compared …"),
            });
        }
    };
    let migrated = place::fill(&to, &access, async |store| {
        let target = End { store: store.clone(), address: to.to_string() };
        let migrated = migrate(&source, &target, &report).await?;
        if let Ok(config) = Config::load(config) {
            let moved = Event::new(Kind::StoreMigrated).detail(format!("{} entries", migrated.entries));
            audit::note(store, &config, moved).await;
        }
        Ok(migrated)
    })
    .await?;
    let sentence = format!(
        "Moved {} entries to {to}, and compared them.\nNext: write store = \"{to}\" into the configuration of each broker, and \
         start them.\nThe old store stays as it is, and no broker opens it: delete it when all is well.",
        migrated.entries
    );
    output.say(&sentence, &json!({"entries": migrated.entries, "sha256": migrated.sha256, "store": to.to_string()}));
    Ok(())
}

/// Whether both are one store, as far as that can be seen from outside.
fn is_same(from: &StoreAddress, to: &StoreAddress) -> bool {
    match (from, to) {
        (StoreAddress::Sled(from), StoreAddress::Sled(to)) => {
            from == to || from.canonicalize().is_ok_and(|from| to.canonicalize().is_ok_and(|to| from == to))
        }
        (StoreAddress::Etcd { endpoints: from, prefix: at }, StoreAddress::Etcd { endpoints: to, prefix: other }) => {
            at == other && from.iter().any(|member| to.contains(member))
        }
        _ => false,
    }
}

/// A folder by its whole path, because the stores keep the address.
pub(super) fn absolute(address: StoreAddress) -> anyhow::Result<StoreAddress> {
    match address {
        StoreAddress::Sled(folder) => {
            Ok(StoreAddress::Sled(std::path::absolute(&folder).context("the working directory is gone")?))
        }
        StoreAddress::Etcd { .. } => Ok(address),
    }
}

/// Progress is for people who wait: each line takes the place of the one before it on a terminal.
fn say(text: &str) {
    let mut stderr = std::io::stderr();
    // Whoever does not listen is not told.
    drop(if stderr.is_terminal() { write!(stderr, "\r\x1b[K{text}") } else { writeln!(stderr, "{text}") });
}
