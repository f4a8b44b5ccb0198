//! `homeward-broker backup`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use homeward_proto::v1;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::admin::{NoBroker, connect, refusal};
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::config::{Config, trust_domain_of};
use crate::storage::address::{self, StoreAddress};
use crate::storage::archive::{self, Head, Tail};
use crate::storage::schema::{self, Found};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The file: replaced when the backup is whole, never before.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Read this store itself instead of asking a running broker: for a broker that does not start.
    #[arg(long, value_name = "STORE")]
    store: Option<StoreAddress>,
}

pub(super) async fn run(options: Options, config: &Config, output: Output) -> anyhow::Result<()> {
    let Options { to, store } = options;
    let part = beside(&to)?;
    let written = write(&part, store, config).await;
    let (head, tail) = match written.and_then(|()| finish(&part, &to)) {
        Ok(done) => done,
        Err(error) => {
            // What is not whole is of no use to anybody.
            drop(std::fs::remove_file(&part));
            return Err(error);
        }
    };
    let sentence = format!(
        "Wrote {} entries of {} as of {} to {}.\nKeep the key-encryption key apart from it: without that nothing in there can \
         be read.",
        tail.lines,
        head.trust_domain,
        head.made_at,
        to.display()
    );
    let shown = json!({
        "file": to,
        "trust_domain": head.trust_domain,
        "made_at": head.made_at.to_string(),
        "revision": tail.revision,
        "entries": tail.lines,
        "schema": head.schema,
        "epoch": head.epoch,
    });
    output.say(&sentence, &shown);
    Ok(())
}

/// Where the backup is until it is whole: in the same folder, so that its name can be given to it.
fn beside(to: &Path) -> anyhow::Result<PathBuf> {
    let Some(name) = to.file_name() else { bail!("{} is no name of a file", to.display()) };
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    Ok(to.with_file_name(part))
}

async fn write(part: &Path, store: Option<StoreAddress>, config: &Config) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let file = file.as_mut().map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", part.display()))?;
    match store {
        Some(address) => of_store(file, &address, config).await,
        None => of_broker(file, config).await,
    }
}

async fn of_broker(file: &mut File, config: &Config) -> anyhow::Result<()> {
    let mut admin = connect(config).await.map_err(|error| match error.downcast::<NoBroker>() {
        Ok(none) => anyhow::anyhow!("{none}, or read its store without it: --store {}", config.store),
        Err(other) => other,
    })?;
    let begun = admin.back_up(v1::BackUpRequest {}).await;
    let mut chunks = begun.map_err(|status| refusal(&status))?.into_inner();
    while let Some(part) = chunks.message().await.map_err(|status| refusal(&status))? {
        file.write_all(&part.chunk).context("the backup cannot be written")?;
    }
    Ok(())
}

async fn of_store(file: &mut File, address: &StoreAddress, config: &Config) -> anyhow::Result<()> {
    if let StoreAddress::Sled(folder) = address
        && !folder.exists()
    {
        bail!("{address} does not exist");
    }
    let store = address::open(address, &config.etcd).await?;
    if let Found::Fresh = schema::look(&store).await? {
        bail!(
            "{address} holds no federation: look at the address after --store (an etcd's ends with the prefix of its keys)"
        );
    }
    // A store of the previous release does not say whose it is.
    let said = trust_domain_of(&store).await?;
    let configured = config.named.text("trust_domain").map(str::to_owned);
    let trust_domain = said.or(configured).context("neither the store nor the configuration names the trust_domain")?;
    let (chunks, mut taken) = mpsc::channel::<Vec<u8>>(1);
    let written = async {
        while let Some(chunk) = taken.recv().await {
            file.write_all(&chunk).context("the backup cannot be written")?;
        }
        anyhow::Ok(())
    };
    let (made, written) = tokio::join!(archive::write(store, &trust_domain, Clock::system().now(), chunks), written);
    written?;
    made?;
    Ok(())
}

/// Reads the file once more, and gives it its name once it is on the disk.
fn finish(part: &Path, to: &Path) -> anyhow::Result<(Head, Tail)> {
    let file = File::open(part).context("the backup cannot be read")?;
    let whole = archive::verify(BufReader::new(&file)).context("the broker broke off")?;
    file.sync_all().context("the backup cannot be written")?;
    std::fs::rename(part, to).with_context(|| format!("{} cannot be written", to.display()))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).context("the folder cannot be synced")?;
    Ok(whole)
}
