//! The audit, read and verified.

use homeward_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::error;

use crate::audit::{AuditError, Filter, Keeper, Verdict, read};
use crate::brokers::host_name;
use crate::clock::Timestamp;
use crate::grpc::admin::Service;
use crate::grpc::status;

/// Records on their way to ops.
pub(super) type Lines = ReceiverStream<Result<v1::ReadAuditResponse, Status>>;

/// What was found, chain by chain.
pub(super) type Verdicts = ReceiverStream<Result<v1::VerifyAuditResponse, Status>>;

/// Messages that wait for whoever takes them.
const WAITING: usize = 8;

/// Bytes of records that are handed on at once, about.
const CHUNK: usize = 48 * 1024;

impl Service {
    /// Records, with those that were noted a moment ago.
    pub(super) async fn read(&self, request: v1::ReadAuditRequest) -> Lines {
        self.audit.settled().await;
        let (chunks, taken) = mpsc::channel(WAITING);
        let (folder, filter) = (self.audit.folder().clone(), filter(request));
        tokio::task::spawn_blocking(move || {
            let (mut lines, mut bytes) = (Vec::new(), 0);
            let done = read(&folder, &filter, |line| {
                bytes += line.len();
                lines.push(line);
                if bytes < CHUNK {
                    return true;
                }
                bytes = 0;
                let lines = std::mem::take(&mut lines);
                chunks.blocking_send(Ok(v1::ReadAuditResponse { lines })).is_ok()
            });
            let last = match done {
                Ok(()) => Ok(v1::ReadAuditResponse { lines }),
                Err(error) => Err(failed(&AuditError::Folder(folder.path().to_owned(), error))),
            };
            // Nobody may be there any more.
            drop(chunks.blocking_send(last));
        });
        ReceiverStream::new(taken)
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

fn filter(request: v1::ReadAuditRequest) -> Filter {
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| Timestamp::from_secs(time.seconds));
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Filter {
        since: time(request.since_time),
        until: time(request.until_time),
        kind: some(request.event),
        subject: some(request.subject),
        instance: some(request.instance),
        actor: some(request.actor),
        object: some(request.object),
        newest: usize::try_from(request.newest).ok().filter(|newest| *newest > 0),
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
