//! Search in this broker's audit.

use homeward_proto::v1;
use serde_json::{Map, Value};
use tonic::Status;

use crate::clock::Timestamp;
use crate::grpc::desk::{Seat, refusal};
use crate::grpc::status;
use crate::web::console::{AuditRow, AuditSearch, AuditSheet, Refusal};

/// Records on one page.
const PAGE: u32 = 100;

impl Seat {
    /// The newest records that fit to all that is said.
    ///
    /// # Errors
    /// When a time cannot be read, or the audit.
    pub async fn audit(&self, search: &AuditSearch) -> Result<AuditSheet, Refusal> {
        self.search(search).await.map_err(|status| refusal(&status))
    }

    async fn search(&self, search: &AuditSearch) -> Result<AuditSheet, Status> {
        let request = v1::ReadAuditRequest {
            since_time: time(&search.since)?,
            until_time: time(&search.until)?,
            event: search.kind.clone(),
            subject: search.subject.clone(),
            instance: search.instance.clone(),
            newest: PAGE,
            actor: search.actor.clone(),
            object: search.object.clone(),
            before: search.before.clone(),
            brief: true,
        };
        let mut answers = self.client.clone().read_audit(self.ask(request)).await?.into_inner();
        let mut sheet = AuditSheet::default();
        while let Some(answer) = answers.message().await? {
            sheet.records.extend(answer.lines.iter().map(|line| row(line)));
            sheet.older = Some(answer.before).filter(|before| !before.is_empty());
            sheet.back_to = answer.back_to;
        }
        sheet.records.reverse();
        Ok(sheet)
    }
}

fn time(text: &str) -> Result<Option<prost_types::Timestamp>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = text.parse::<Timestamp>();
    let time = read.map_err(|advice| status::status(tonic::Code::InvalidArgument, "FIELD_INVALID", advice))?;
    Ok(Some(prost_types::Timestamp { seconds: time.as_secs(), nanos: 0 }))
}

/// A line of the audit, in the order in which it was written.
fn row(line: &[u8]) -> AuditRow {
    let mut members = match serde_json::from_slice::<Map<String, Value>>(line) {
        Ok(members) => members,
        // `audit verify` says what is wrong with it.
        Err(_) => Map::from_iter([("line".to_owned(), String::from_utf8_lossy(line).into())]),
    };
    let mut take = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (time, actor, event) = (take("time"), take("actor"), take("event"));
    let refused = take("outcome") == "refused";
    // Of the chain: for programs.
    for name in ["seq", "prev", "chain", "broker"] {
        take(name);
    }
    let rest = members
        .into_iter()
        .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    AuditRow { time, actor, event, refused, rest: rest.collect() }
}
