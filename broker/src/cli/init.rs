//! `homeward-broker init`.

use std::fs::{DirBuilder, DirEntry};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::authority::Authority;
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, first_settings};
use crate::keys;
use crate::registry::SubjectKey;
use crate::secret::{KeyEncryptionKeys, first_key};
use crate::storage::Expect;
use crate::storage::address::{self, StoreAddress};
use crate::storage::schema::{self, Found, SchemaRecord};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Do nothing where a federation is already: for containers, which do this at every start.
    #[arg(long)]
    if_needed: bool,
}

/// Makes everything a new federation needs. All keys are written by one commit: a run that was cut short leaves no
/// federation with half of them.
pub(super) async fn run(options: Options, config: &Config, config_file: &Path, output: Output) -> anyhow::Result<()> {
    if options.if_needed && is_made(config).await? {
        let done = json!({"made": false, "data_dir": config.data_dir});
        output.say(&format!("There is a federation in {} already.", config.store), &done);
        return Ok(());
    }
    make(config, config_file, output).await
}

/// Whether something is kept in the store. What it is, and whether it can be used, is for `serve` to say.
async fn is_made(config: &Config) -> anyhow::Result<bool> {
    // To open an embedded store is to make it.
    if let StoreAddress::Sled(folder) = &config.store
        && !folder.exists()
    {
        return Ok(false);
    }
    let store = address::open(&config.store, &config.etcd).await?;
    Ok(!matches!(schema::look(&store).await?, Found::Fresh))
}

async fn make(config: &Config, config_file: &Path, output: Output) -> anyhow::Result<()> {
    let federation = match config.named.federation() {
        Err(ConfigError::NoFederation) => bail!(
            "name public_url, agent_url and trust_domain in {}: init writes them to the store",
            config_file.display()
        ),
        federation => federation?,
    };
    if let Some(data_dir) = &config.data_dir {
        make_folder(data_dir, &config.store)?;
    }
    let store = address::open(&config.store, &config.etcd).await?;
    if !matches!(schema::look(&store).await?, Found::Fresh) {
        bail!("{} is not empty, and init touches no existing federation: name another store", config.store);
    }
    config.kek.current.create().await?;
    let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
    let now = Clock::system().now();
    let (sealing, data_key) = first_key(&store, &keks, now).await?;
    let mut writes = keys::first_keys(&store, &sealing, now)?;
    writes.push(data_key);
    writes.extend(Authority::first(&store, &sealing, &federation.trust_domain, now)?);
    writes.push(SubjectKey::first(&store, &sealing)?);
    writes.push(first_settings(&store, &federation)?);
    writes.push(SchemaRecord::current().write(&store, Expect::Absent)?);
    store.commit(writes).await?;
    let sentence = format!(
        "Made the federation {} in {}.\nKeep the key-encryption key ({}) safe, apart from your backups of the store: \
         without it nothing in there can be read.\nNext: homeward-broker --config {} serve",
        federation.trust_domain,
        config.store,
        config.kek.current,
        config_file.display(),
    );
    output.say(&sentence, &json!({"trust_domain": federation.trust_domain, "data_dir": config.data_dir}));
    Ok(())
}

/// Makes the folder, private. Of an init that was cut short it may hold the store, which is looked into next: a container
/// whose key was not there at its first start tries again by itself.
fn make_folder(data_dir: &Path, store: &StoreAddress) -> anyhow::Result<()> {
    let is_foreign = |entry: std::io::Result<DirEntry>| match (entry, store) {
        (Ok(entry), StoreAddress::Sled(folder)) => entry.path() != *folder,
        (Ok(_), StoreAddress::Etcd { .. }) | (Err(_), _) => true,
    };
    if data_dir.read_dir().is_ok_and(|mut entries| entries.any(is_foreign)) {
        bail!(
            "{} is not empty, and init touches no existing federation: choose another data_dir, or remove this one if \
             it is the rest of an init that was cut short",
            data_dir.display()
        );
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("{} cannot be made", data_dir.display()))?;
    std::fs::set_permissions(data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .with_context(|| format!("{} cannot be made private", data_dir.display()))
}
