//! Backups on their way to ops.

use std::pin::Pin;

use homeward_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tracing::{error, info};

use crate::audit::{Event, Kind, Origin};
use crate::grpc::admin::Service;
use crate::storage::archive::{self, ArchiveError};

/// Chunks that wait for whoever takes them.
const WAITING: usize = 8;

/// A backup in parts; an error as its last one if it is none.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<v1::BackUpResponse, Status>> + Send>>;

impl Service {
    pub(super) fn begin_backup(&self) -> Chunks {
        let (chunks, taken) = mpsc::channel(WAITING);
        let (failed, failure) = mpsc::channel(1);
        let (store, now) = (self.store.clone(), self.clock.now());
        let trust_domain = self.enrolment.trust_domain().to_string();
        let audit = self.audit.clone();
        let made = async move {
            match archive::write(store, &trust_domain, now, chunks).await {
                Ok(tail) => {
                    info!(entries = tail.lines, revision = tail.revision, "a backup was made");
                    audit.note(Event::new(Kind::BackupMade).object(tail.revision));
                }
                Err(ArchiveError::NobodyTakes) => info!("a backup was given up by who wanted it"),
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "a backup failed");
                    // Nobody may be there any more.
                    drop(failed.send(Err(Status::unavailable(error.to_string()))).await);
                }
            }
        };
        tokio::spawn(Origin::current().of(made));
        let chunks = ReceiverStream::new(taken).map(|chunk| Ok(v1::BackUpResponse { chunk }));
        Box::pin(chunks.chain(ReceiverStream::new(failure)))
    }
}
