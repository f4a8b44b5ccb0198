//! SIGHUP: the file is read again, and what was changed in it is taken up or named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{Config, NamedSettings};

/// Waits for signals from now on. What comes out is what the file names whenever it was read again.
///
/// # Errors
/// When signals cannot be waited for.
pub(super) fn begin(config: &Config, file: &Path) -> anyhow::Result<watch::Receiver<NamedSettings>> {
    let mut hangups = signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?;
    let (wanted, reload) = watch::channel(config.named.clone());
    let (file, started) = (file.to_owned(), std::fs::read_to_string(file).unwrap_or_default());
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Some(named) = read(file.clone(), &started).await {
                wanted.send_replace(named);
            }
        }
    });
    Ok(reload)
}

/// What the file names now, if it can be used.
async fn read(file: PathBuf, started: &str) -> Option<NamedSettings> {
    let path = file.clone();
    let read = tokio::task::spawn_blocking(move || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Config::load(&path).map(|config| (config, text))
    });
    let (config, text) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            error!(%error, "the configuration was changed to what cannot be used: nothing is reloaded");
            return None;
        }
        Err(error) => {
            error!(%error, "the configuration was not read: nothing is reloaded");
            return None;
        }
    };
    info!(file = %file.display(), "reloading the configuration, and the files of [tls]");
    let names = changed(started, &text);
    let later: Vec<_> = names.iter().filter(|name| !is_of_federation(name)).map(String::as_str).collect();
    if !later.is_empty() {
        warn!("restart this broker for what else was changed in its file: {}", later.join(", "));
    }
    Some(config.named)
}

/// What is told to all brokers by the store.
fn is_of_federation(name: &str) -> bool {
    ["public_url", "agent_url", "trust_domain", "outbound.private_networks"].contains(&name)
        || name.starts_with("lifetimes.")
        || name.starts_with("rotation.")
}

/// The names of the options that are not the same in two texts of a file.
fn changed(before: &str, after: &str) -> BTreeSet<String> {
    let [before, after] = [before, after].map(|text| {
        let mut options = Vec::new();
        flatten("", &text.parse().unwrap_or_default(), &mut options);
        options
    });
    let one_sided = |a: &[(String, toml::Value)], b: &[(String, toml::Value)]| {
        a.iter().filter(|option| !b.contains(option)).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    one_sided(&before, &after).into_iter().chain(one_sided(&after, &before)).collect()
}

fn flatten(head: &str, table: &toml::Table, into: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let name = if head.is_empty() { name.clone() } else { format!("{head}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, into),
            value => into.push((name, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_changed_or_taken_out_is_named() {
        let before = "a = 1\nb = [1]\n[tls.acme]\ncontact = [\"x\"]\n[lifetimes]\nsession = 60";
        let after = "b = [1, 2]\n# A remark.\n[lifetimes]\nsession = 60\n[listen]\nhttp = \"y\"";
        let names: Vec<_> = changed(before, after).into_iter().collect();
        assert_eq!(names, ["a", "b", "listen.http", "tls.acme.contact"]);
        assert!(changed(before, before).is_empty());
    }
}
