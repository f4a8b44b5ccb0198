//! The audit, read and verified.

use std::io;
use std::time::Duration;

use homeward_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::error;

use crate::audit::{
    AuditError, Effort, Filter, Folder, Keeper, MOST_NEWEST, Position, PositionError, Verdict, read, search,
};
use crate::brokers::host_name;
use crate::clock::Timestamp;
use crate::grpc::admin::Service;
use crate::grpc::status::{self, Reason};

/// Records on their way to ops.
pub(super) type Lines = ReceiverStream<Result<v1::ReadAuditResponse, Status>>;

/// What was found, chain by chain.
pub(super) type Verdicts = ReceiverStream<Result<v1::VerifyAuditResponse, Status>>;

/// Messages that wait for whoever takes them.
const WAITING: usize = 8;

/// Bytes of records that are handed on at once, about.
const CHUNK: usize = 48 * 1024;

/// What a brief search costs at the most: bytes that are looked at, and time. A page is waited for no longer than its reader
/// has patience, and takes no other page's thread for longer.
const BRIEF: (u64, Duration) = (64 * 1024 * 1024, Duration::from_secs(3));

impl Service {
    /// Records, with those that were noted a moment ago.
    pub(super) async fn read(&self, request: v1::ReadAuditRequest) -> Result<Lines, Status> {
        let wanted = Wanted::of(request)?;
        self.audit.settled().await;
        Ok(lines(self.audit.folder().clone(), wanted).0)
    }

    pub(super) async fn verify(&self) -> Verdicts {
        self.audit.settled().await;
        let (found, taken) = mpsc::channel(WAITING);
        let keeper = Keeper { folder: self.audit.folder().clone(), host: host_name(), alone: self.alone };
        let store = self.store.clone();
        tokio::spawn(async move {
            match keeper.verify(&store).await {
                Ok(verdicts) => {
                    for verdict in verdicts {
                        // Nobody may be there any more.
                        drop(found.send(Ok(verdict.into())).await);
                    }
                }
                Err(error) => drop(found.send(Err(failed(&error))).await),
            }
        });
        ReceiverStream::new(taken)
    }
}

/// Which records, and which part of them.
struct Wanted {
    filter: Filter,
    before: Option<Position>,
    effort: Option<Effort>,
}

impl Wanted {
    fn of(request: v1::ReadAuditRequest) -> Result<Self, Status> {
        let time = |time: Option<prost_types::Timestamp>| time.map(|time| Timestamp::from_secs(time.seconds));
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let before = some(request.before).map(|text| text.parse()).transpose();
        let before = before.map_err(|error: PositionError| status::invalid(&error))?;
        let effort = request.brief.then(|| Effort { bytes: BRIEF.0, until: Instant::now() + BRIEF.1 });
        let filter = Filter {
            since: time(request.since_time),
            until: time(request.until_time),
            kind: some(request.event),
            subject: some(request.subject),
            instance: some(request.instance),
            actor: some(request.actor),
            object: some(request.object),
            newest: usize::try_from(request.newest).ok().filter(|newest| *newest > 0),
        };
        if filter.newest.is_none() && (before.is_some() || effort.is_some()) {
            return Err(status::refused(Reason::FieldInvalid("newest")));
        }
        Ok(Self { filter, before, effort })
    }
}

/// Records on their way, read for as long as somebody takes them: the task ends soon after they are let go.
fn lines(folder: Folder, wanted: Wanted) -> (Lines, JoinHandle<()>) {
    let (chunks, taken) = mpsc::channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || {
        let mut sending = Sending { chunks: &chunks, lines: Vec::new(), bytes: 0 };
        let last = match wanted.read(&folder, &mut sending) {
            Ok(last) => Ok(v1::ReadAuditResponse { lines: sending.lines, ..last }),
            Err(error) => Err(failed(&AuditError::Folder(folder.path().to_owned(), error))),
        };
        // Nobody may be there any more.
        drop(chunks.blocking_send(last));
    });
    (ReceiverStream::new(taken), reading)
}

impl Wanted {
    /// Gives what is to be said behind the last line.
    fn read(&self, folder: &Folder, sending: &mut Sending<'_>) -> io::Result<v1::ReadAuditResponse> {
        let chunks = sending.chunks;
        let listening = || !chunks.is_closed();
        let Some(most) = self.filter.newest else {
            read(folder, &self.filter, listening, |line| sending.take(line))?;
            return Ok(v1::ReadAuditResponse::default());
        };
        let which = (self.before.as_ref(), most.min(MOST_NEWEST));
        let found = search(folder, &self.filter, which, self.effort, listening)?;
        found.lines.into_iter().rev().all(|line| sending.take(line));
        let before = found.next.map(|next| next.to_string()).unwrap_or_default();
        Ok(v1::ReadAuditResponse { lines: Vec::new(), before, back_to: found.back_to })
    }
}

/// Lines that are handed on by the chunk.
struct Sending<'a> {
    chunks: &'a mpsc::Sender<Result<v1::ReadAuditResponse, Status>>,
    lines: Vec<Vec<u8>>,
    bytes: usize,
}

impl Sending<'_> {
    /// Says whether more is wanted.
    fn take(&mut self, line: Vec<u8>) -> bool {
        self.bytes += line.len();
        self.lines.push(line);
        if self.bytes < CHUNK {
            return true;
        }
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        self.chunks.blocking_send(Ok(v1::ReadAuditResponse { lines, ..Default::default() })).is_ok()
    }
}

impl From<Verdict> for v1::VerifyAuditResponse {
    fn from(verdict: Verdict) -> Self {
        let (here, report) = (verdict.report.is_some(), verdict.report.unwrap_or_default());
        Self {
            id: verdict.chain,
            host: verdict.host.unwrap_or_default(),
            here,
            records: report.records,
            unanchored_records: report.unanchored,
            findings: report.findings.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Ops are told what is wrong with their folder.
fn failed(error: &AuditError) -> Status {
    match error {
        AuditError::Store(error) => status::store(error),
        AuditError::Folder(..) | AuditError::InUse(_) => {
            error!(%error, "the audit cannot be read");
            Status::unavailable(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a file that is soon made and read by this test alone")]
    async fn a_page_that_nobody_waits_for_any_more_is_not_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let chain = folder.path().join("6f1d0000-0000-4000-8000-000000000000");
        std::fs::create_dir(&chain).unwrap();
        // Many days of something else: read to the end it would take minutes.
        let line = "{\"time\":\"2026-11-01T00:00:00Z\",\"event\":\"login_begun\",\"actor\":\"web\"}\n";
        std::fs::write(chain.join("2026-01-01.jsonl"), line.repeat(500_000)).unwrap();
        for day in 1..=365 {
            let name = format!("2025-{:02}-{:02}.jsonl", day / 31 + 1, day % 31 + 1);
            std::fs::hard_link(chain.join("2026-01-01.jsonl"), chain.join(name)).unwrap();
        }
        for newest in [0, 100] {
            let request = v1::ReadAuditRequest { event: "trust_denied".into(), newest, ..Default::default() };
            let (lines, reading) = lines(Folder::new(folder.path()), Wanted::of(request).unwrap());
            drop(lines);
            tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
        }
    }

    #[test]
    fn a_place_in_the_audit_goes_with_a_number_of_records() {
        let request =
            |before: &str, newest| v1::ReadAuditRequest { before: before.into(), newest, ..Default::default() };
        assert!(Wanted::of(request("2026-11-22", 100)).is_ok());
        assert!(Wanted::of(request("2026-11-22", 0)).is_err());
        assert!(Wanted::of(request("yesterday", 100)).is_err());
    }
}
