//! `homeward-broker kek`.

use std::collections::BTreeSet;
use std::io::Write as _;

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, print_line, time};
use crate::config::Config;
use crate::secret::{Created, KekSource};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which key-encryption key is in use, the data keys that it seals, and what an old one seals still.
    Show,
    /// Make the key that the configuration names: a new file, or a new key in the token.
    Create,
    /// Turn everything that is sealed to the key that the configuration names. Before: configure the new key, the one
    /// before it as `previous_…`, and restart every broker. A turn that was cut short goes on where it stopped.
    Rotate,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Show => show(config, output).await,
        Command::Create => create(&config.kek.current, output).await,
        Command::Rotate => rotate(config, output).await,
    }
}

async fn show(config: &Config, output: Output) -> anyhow::Result<()> {
    let request = v1::GetKeyEncryptionKeyRequest {};
    let answer = connect(config).await?.get_key_encryption_key(request).await;
    let shown = answer.map_err(|status| refusal(&status))?.into_inner();
    let mut summary = json!({
        "key_id": shown.key_id,
        "source": shown.source,
        "previous_key_id": shown.previous_key_id,
        "sealed_records": shown.sealed_records,
        "stale_records": shown.stale_records,
        "unreadable_records": shown.unreadable_records,
    });
    let need = need(&shown);
    match output {
        Output::Table => {
            output.show(&summary);
            output.list(&shown.data_keys);
            print_line(&need.sentence);
        }
        Output::Json => {
            summary["data_keys"] = Value::from_iter(shown.data_keys.iter().map(Row::json));
            summary["old_key_needed"] = need.needed.into();
            summary["need"] = need.sentence.into();
            output.show(&summary);
        }
    }
    Ok(())
}

/// Whether a key before the configured one is still needed.
struct Need {
    needed: bool,
    sentence: String,
}

fn need(shown: &v1::GetKeyEncryptionKeyResponse) -> Need {
    let of_others: BTreeSet<_> =
        shown.data_keys.iter().map(|key| key.key_id.as_str()).filter(|key| *key != shown.key_id).collect();
    let names = |which: &dyn Fn(&v1::Broker) -> bool| {
        let names: Vec<_> =
            shown.brokers.iter().filter(|broker| which(broker)).map(|broker| broker.name.as_str()).collect();
        names.join(", ")
    };
    // What a broker does not say of itself is no reason to worry anybody.
    let behind = names(&|broker| !broker.key_id.is_empty() && broker.key_id != shown.key_id);
    let both = names(&|broker| broker.key_id == shown.key_id && !broker.previous_key_id.is_empty());
    let (needed, sentence) = if !of_others.is_empty() {
        let keys = of_others.into_iter().collect::<Vec<_>>().join(" and ");
        (
            true,
            format!(
                "{keys} is still needed, by every broker: it seals data keys. Turn them by `homeward-broker kek rotate`."
            ),
        )
    } else if !behind.is_empty() {
        (
            true,
            format!(
                "Nothing in the store is sealed by another key, but {behind} runs with another one configured, and will not start again with that: configure {} there.",
                shown.key_id
            ),
        )
    } else if shown.stale_records > 0 {
        (false, "No older key is needed; some records are sealed by a retired data key still: finish the turn by `homeward-broker kek rotate`.".to_owned())
    } else if !both.is_empty() {
        (
            false,
            format!(
                "No older key is needed by anybody: take `previous_…` out of the configuration of {both}. Backups of before the turn open with the old key only."
            ),
        )
    } else {
        (false, "No older key is needed, but for backups of before a turn.".to_owned())
    };
    Need { needed, sentence }
}

async fn create(source: &KekSource, output: Output) -> anyhow::Result<()> {
    let sentence = match (source.create().await?, source) {
        (Created::Made, _) => format!("Made a new key-encryption key: {source}."),
        (Created::WasThere, KekSource::Credential(name)) => format!(
            "systemd gives this key: make it with\n  openssl rand -base64 32 | systemd-creds encrypt --name={name} - \
             /etc/credstore.encrypted/{name}"
        ),
        (Created::WasThere, _) => format!("The key was there before: {source}."),
    };
    output.say(&sentence, &json!({ "source": source.to_string() }));
    Ok(())
}

async fn rotate(config: &Config, output: Output) -> anyhow::Result<()> {
    let request = v1::RotateKeyEncryptionKeyRequest {};
    let answer = connect(config).await?.rotate_key_encryption_key(request).await;
    let mut words = answer.map_err(|status| refusal(&status))?.into_inner();
    let mut last = v1::SealingStep::Unspecified;
    while let Some(word) = words.message().await.map_err(|status| refusal(&status))? {
        last = word.step();
        if let Some(line) = line(&word) {
            // Nobody has to read it.
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }
    let (sentence, turned) = match last {
        v1::SealingStep::Done => (
            "Everything in the store is sealed by the configured key now. Take `previous_…` out of the configuration of \
             every broker, make a backup, and destroy the old key once no older backup is kept.",
            true,
        ),
        v1::SealingStep::NothingToDo => (
            "Everything in the store was sealed by the configured key before. To turn to another one: configure it, the \
             present one as `previous_…`, restart every broker, and run this again.",
            false,
        ),
        _ => anyhow::bail!("the broker went away: run this again, it goes on where it stopped"),
    };
    output.say(sentence, &json!({ "turned": turned }));
    Ok(())
}

fn line(word: &v1::RotateKeyEncryptionKeyResponse) -> Option<String> {
    match word.step() {
        v1::SealingStep::DataKeyAdded => Some("a new data key is written; every broker takes it in …".to_owned()),
        v1::SealingStep::DataKeyActivated => Some("the new data key seals".to_owned()),
        v1::SealingStep::Sealing => Some(format!("sealed again: {} of {} …", word.sealed_records, word.total_records)),
        v1::SealingStep::Unspecified | v1::SealingStep::Done | v1::SealingStep::NothingToDo => None,
    }
}

impl Row for v1::DataKey {
    const COLUMNS: &'static [&'static str] = &["DATA KEY", "STATE", "SEALED BY", "SINCE", "GONE"];

    fn cells(&self) -> Vec<String> {
        let (since, gone) = (time(self.state_time.as_ref()), time(self.gone_time.as_ref()));
        vec![self.id.clone(), state(self), self.key_id.clone(), since, gone]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "state": state(self),
            "key_id": self.key_id,
            "create_time": time(self.create_time.as_ref()),
            "state_time": time(self.state_time.as_ref()),
            "gone_time": time(self.gone_time.as_ref()),
        })
    }
}

fn state(key: &v1::DataKey) -> String {
    key.state().as_str_name().trim_start_matches("DATA_KEY_STATE_").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(name: &str, key: &str, previous: &str) -> v1::Broker {
        v1::Broker {
            name: name.to_owned(),
            key_id: key.to_owned(),
            previous_key_id: previous.to_owned(),
            ..v1::Broker::default()
        }
    }

    #[test]
    fn whether_an_old_key_is_needed_and_by_whom_is_one_sentence() {
        let sealed_by = |key: &str| v1::DataKey { key_id: key.to_owned(), ..v1::DataKey::default() };
        let mut shown = v1::GetKeyEncryptionKeyResponse {
            key_id: "new".to_owned(),
            data_keys: vec![sealed_by("old"), sealed_by("new")],
            brokers: vec![broker("alpha", "new", "old"), broker("beta", "old", "")],
            ..v1::GetKeyEncryptionKeyResponse::default()
        };
        let Need { needed, sentence } = need(&shown);
        assert!(needed && sentence.starts_with("old is still needed, by every broker"), "{sentence}");
        shown.data_keys = vec![sealed_by("new")];
        let Need { needed, sentence } = need(&shown);
        assert!(needed && sentence.contains("but beta runs with another one"), "{sentence}");
        shown.brokers = vec![broker("alpha", "new", "old"), broker("beta", "new", "")];
        let Need { needed, sentence } = need(&shown);
        assert!(!needed && sentence.contains("out of the configuration of alpha."), "{sentence}");
        shown.brokers = vec![broker("alpha", "new", ""), broker("of-the-release-before", "", "")];
        assert!(!need(&shown).needed);
    }
}
