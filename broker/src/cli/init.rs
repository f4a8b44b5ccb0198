//! `homeward-broker init`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::authority::Authority;
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::config::{Config, first_settings};
use crate::keys;
use crate::registry::SubjectKey;
use crate::secret::SealingKeys;
use crate::storage::schema::{self, Found, SchemaRecord};
use crate::storage::{Expect, address};

/// Makes everything a new federation needs. All keys are written by one commit: a run that was cut short leaves no
/// federation with half of them.
pub(super) async fn run(config: &Config, config_file: &Path, output: Output) -> anyhow::Result<()> {
    let Some(federation) = &config.federation else {
        bail!(
            "name public_url, agent_url and trust_domain in {}: init writes them to the store",
            config_file.display()
        );
    };
    if let Some(data_dir) = &config.data_dir {
        make_folder(data_dir)?;
    }
    if config.key_encryption_key_file.exists() {
        bail!("{} exists already: init writes a new key only", config.key_encryption_key_file.display());
    }
    let store = address::open(&config.store, &config.etcd).await?;
    if !matches!(schema::look(&store).await?, Found::Fresh) {
        bail!("{} is not empty, and init touches no existing federation: name another store", config.store);
    }
    write_private(&config.key_encryption_key_file, SealingKeys::generate_text()?.expose_secret())
        .with_context(|| format!("{} cannot be written", config.key_encryption_key_file.display()))?;

    let sealing = Arc::new(SealingKeys::load(&config.key_encryption_key_file)?);
    let now = Clock::system().now();
    let mut writes = keys::first_keys(&store, &sealing, now)?;
    writes.extend(Authority::first(&store, &sealing, &federation.trust_domain, now)?);
    writes.push(SubjectKey::first(&store, &sealing)?);
    writes.push(first_settings(&store, federation)?);
    writes.push(SchemaRecord::current().write(&store, Expect::Absent)?);
    store.commit(writes).await?;
    let sentence = format!(
        "Made the federation {} in {}.\nKeep {} in your backups: without it nothing in there can be read.\n\
         Next: homeward-broker --config {} serve",
        federation.trust_domain,
        config.store,
        config.key_encryption_key_file.display(),
        config_file.display(),
    );
    output.say(&sentence, &json!({"trust_domain": federation.trust_domain, "data_dir": config.data_dir}));
    Ok(())
}

/// Makes the folder, empty and private.
fn make_folder(data_dir: &Path) -> anyhow::Result<()> {
    if data_dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
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

/// Writes a file that did not exist, for its owner only, and waits until it is on the disk with its name.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
