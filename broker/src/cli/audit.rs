//! `homeward-broker audit`. Asks the broker that runs, and reads folder and store itself where none does.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use rustix::process::geteuid;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::audit::{Audit, Event, Filter, Folder, Keeper, MOST_NEWEST, Origin, read};
use crate::brokers::host_name;
use crate::cli::admin::{NoBroker, connect, refusal};
use crate::cli::output::{Output, Row, print_line};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::storage::Store;
use crate::storage::address::{self, StoreAddress};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List records of this broker, the newest last. Other brokers of the store have their own.
    List {
        #[command(flatten)]
        which: Which,
        /// Only so many, the newest.
        #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=MOST_NEWEST as i64))]
        newest: u32,
    },
    /// Write records as lines of JSON to standard output, byte for byte as they were written.
    Export {
        #[command(flatten)]
        which: Which,
    },
    /// Read everything and compare it with what the store knows. Exit code 1 if anything was edited, removed, moved or cut.
    Verify,
}

/// Which records: those that fit to all that is said.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Of this moment or later: 2026-11-22, or 2026-11-22T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// What happened: docs/audit.md lists the kinds.
    #[arg(long, value_name = "EVENT")]
    kind: Option<String>,
    /// A user, by the `sub` that an application knows or by the member `user`.
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// An instance, as itself, as home or as relying party.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Who made it happen: the member `actor`, for example uid:0, web or agent:beta.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// What else it is about: the member `object`.
    #[arg(long, value_name = "ID")]
    object: Option<String>,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List { which, newest } => {
            let mut rows = Vec::new();
            lines(which, newest, config, &mut |line| rows.push(Record::read(line))).await?;
            output.list(&rows);
            if output == Output::Table {
                print_line(&format_args!("(of this broker, {})", host_name()));
            }
            Ok(())
        }
        Command::Export { which } => {
            lines(which, 0, config, &mut |line| print_line(&String::from_utf8_lossy(line))).await
        }
        Command::Verify => verify(config, output).await,
    }
}

/// The broker that is to be asked, if one runs: one that may not be asked is one.
async fn running(config: &Config) -> anyhow::Result<Option<AdminServiceClient<Channel>>> {
    match connect(config).await {
        Err(error) if error.is::<NoBroker>() => Ok(None),
        connected => connected.map(Some),
    }
}

async fn lines(which: Which, newest: u32, config: &Config, take: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
    let Which { since, until, kind, subject, instance, actor, object } = which;
    let Some(mut broker) = running(config).await? else {
        let newest = usize::try_from(newest).ok().filter(|newest| *newest > 0);
        let filter = Filter { since, until, kind, subject, instance, actor, object, newest };
        let folder = Folder::new(&config.audit.dir);
        let taken = read(
            &folder,
            &filter,
            || true,
            |line| {
                take(&line);
                true
            },
        );
        return taken.with_context(|| format!("{} cannot be read", config.audit.dir.display()));
    };
    let time = |time: Option<Timestamp>| time.map(|time| prost_types::Timestamp { seconds: time.as_secs(), nanos: 0 });
    let request = v1::ReadAuditRequest {
        since_time: time(since),
        until_time: time(until),
        event: kind.unwrap_or_default(),
        subject: subject.unwrap_or_default(),
        instance: instance.unwrap_or_default(),
        newest,
        actor: actor.unwrap_or_default(),
        object: object.unwrap_or_default(),
        before: String::new(),
        brief: false,
    };
    let begun = broker.read_audit(request).await;
    let mut answers = begun.map_err(|status| refusal(&status))?.into_inner();
    while let Some(answer) = answers.message().await.map_err(|status| refusal(&status))? {
        answer.lines.iter().for_each(|line| take(line));
    }
    Ok(())
}

async fn verify(config: &Config, output: Output) -> anyhow::Result<()> {
    let found = match running(config).await? {
        Some(broker) => of_broker(broker).await?,
        None => of_store(config).await?,
    };
    output.list(&found);
    let wrong: Vec<&String> = found.iter().flat_map(|chain| &chain.findings).collect();
    if output == Output::Table {
        wrong.iter().for_each(|finding| print_line(finding));
    }
    match wrong.len() {
        0 => Ok(()),
        count => bail!("{count} finding(s): the audit is not what was written (docs/audit.md says what to do)"),
    }
}

async fn of_broker(mut broker: AdminServiceClient<Channel>) -> anyhow::Result<Vec<v1::VerifyAuditResponse>> {
    let begun = broker.verify_audit(v1::VerifyAuditRequest {}).await;
    let (mut answers, mut found) = (begun.map_err(|status| refusal(&status))?.into_inner(), Vec::new());
    while let Some(answer) = answers.message().await.map_err(|status| refusal(&status))? {
        found.push(answer);
    }
    Ok(found)
}

async fn of_store(config: &Config) -> anyhow::Result<Vec<v1::VerifyAuditResponse>> {
    if let StoreAddress::Sled(folder) = &config.store
        && !folder.exists()
    {
        bail!("{} holds no federation: what the audit is compared with is missing", config.store);
    }
    let store = address::open(&config.store, &config.etcd).await?;
    let alone = matches!(config.store, StoreAddress::Sled(_));
    let keeper = Keeper { folder: Folder::new(&config.audit.dir), host: host_name(), alone };
    Ok(keeper.verify(&store).await?.into_iter().map(Into::into).collect())
}

/// Notes what a command does to a store without a broker. It is done already: where it cannot be noted, that is said.
#[expect(clippy::print_stderr, reason = "a warning, beside what the command answers")]
pub(super) async fn note(store: &Arc<dyn Store>, config: &Config, event: Event) {
    match Audit::open(store, &config.audit, &host_name(), Clock::system()).await {
        Ok(audit) => {
            Origin::Ops(geteuid().as_raw()).of(async { audit.note(event) }).await;
            audit.close().await;
        }
        Err(error) => eprintln!("homeward-broker: this is not in the audit: {error}"),
    }
}

/// A record, as it was read.
struct Record(Value);

impl Record {
    fn read(line: &[u8]) -> Self {
        let text = || json!({"unreadable": String::from_utf8_lossy(line)});
        Self(serde_json::from_slice(line).unwrap_or_else(|_| text()))
    }

    fn text(&self, name: &str) -> String {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What it is about, in one column.
    fn about(&self) -> String {
        let members = ["instance", "relying_party", "home", "client", "subject", "user", "session", "object", "detail"];
        let said = members.iter().map(|name| (name, self.text(name))).filter(|(_, text)| !text.is_empty());
        said.map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
    }
}

impl Row for Record {
    const COLUMNS: &'static [&'static str] = &["TIME", "EVENT", "OUTCOME", "ACTOR", "SOURCE", "REASON", "ABOUT"];

    fn cells(&self) -> Vec<String> {
        let text = |name| self.text(name);
        vec![text("time"), text("event"), text("outcome"), text("actor"), text("source"), text("reason"), self.about()]
    }

    fn json(&self) -> Value {
        self.0.clone()
    }
}

impl Row for v1::VerifyAuditResponse {
    const COLUMNS: &'static [&'static str] = &["CHAIN", "HOST", "RECORDS", "NOT IN THE STORE YET", "FINDINGS"];

    fn cells(&self) -> Vec<String> {
        let findings = if self.here { self.findings.len().to_string() } else { "(its files are there)".to_owned() };
        let (records, unanchored) = (self.records.to_string(), self.unanchored_records.to_string());
        vec![self.id.clone(), self.host.clone(), records, unanchored, findings]
    }

    fn json(&self) -> Value {
        json!({
            "chain": self.id,
            "host": self.host,
            "here": self.here,
            "records": self.records,
            "unanchored_records": self.unanchored_records,
            "findings": self.findings,
        })
    }
}
