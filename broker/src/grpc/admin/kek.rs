//! The keys that seal: shown and turned.

use homeward_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::audit::{Event, Kind, Origin};
use crate::grpc::admin::Service;
use crate::grpc::{status, wire_time};
use crate::secret::{DataKeyState, Progress, StoredDataKey, Turned};

/// What ops hear of a turn.
pub(super) type Turning = ReceiverStream<Result<v1::RotateKeyEncryptionKeyResponse, Status>>;

/// How many words to ops may wait: progress that nobody reads is left out.
const WORDS: usize = 64;

impl Service {
    /// Turns for as long as somebody listens: whoever leaves has it go on by asking again.
    pub(super) fn turn_kek(&self) -> Turning {
        let (words, listener) = mpsc::channel(WORDS);
        let (turn, clock, audit) = (self.key_turn.clone(), self.clock.clone(), self.audit.clone());
        let kek = self.key_turn.keks().current.id().to_string();
        let turning = async move {
            let tell = |progress| drop(words.try_send(Ok(word(progress))));
            tokio::select! {
                turned = turn.run(&clock, &tell) => {
                    if let Ok(Turned::Now) = turned {
                        audit.note(Event::new(Kind::KekTurned).object(kek));
                    }
                    let last = turned.map(outcome).map_err(|error| status::sealing(&error));
                    // Fails only when nobody listens any more.
                    drop(words.send(last).await);
                }
                () = words.closed() => {}
            }
        };
        tokio::spawn(Origin::current().of(turning));
        ReceiverStream::new(listener)
    }

    pub(super) async fn show_kek(&self) -> Result<v1::GetKeyEncryptionKeyResponse, Status> {
        let shown = self.key_turn.status().await.map_err(|error| status::sealing(&error))?;
        let keks = self.key_turn.keks();
        Ok(v1::GetKeyEncryptionKeyResponse {
            key_id: keks.current.id().to_string(),
            source: keks.source.to_string(),
            previous_key_id: keks.previous.as_ref().map(|kek| kek.id().to_string()).unwrap_or_default(),
            data_keys: shown.keys.iter().map(|(id, key)| data_key(id, key)).collect(),
            sealed_records: shown.records,
            stale_records: shown.stale,
            unreadable_records: shown.unreadable,
            brokers: self.living(),
        })
    }
}

fn word(progress: Progress) -> v1::RotateKeyEncryptionKeyResponse {
    let (step, sealed, total) = match progress {
        Progress::Added => (v1::SealingStep::DataKeyAdded, 0, 0),
        Progress::Activated => (v1::SealingStep::DataKeyActivated, 0, 0),
        Progress::Sealed(sealed, total) => (v1::SealingStep::Sealing, sealed, total),
    };
    v1::RotateKeyEncryptionKeyResponse { step: step.into(), sealed_records: sealed, total_records: total }
}

fn outcome(turned: Turned) -> v1::RotateKeyEncryptionKeyResponse {
    let step = match turned {
        Turned::Now => v1::SealingStep::Done,
        Turned::Before => v1::SealingStep::NothingToDo,
    };
    v1::RotateKeyEncryptionKeyResponse { step: step.into(), sealed_records: 0, total_records: 0 }
}

fn data_key(id: &str, key: &StoredDataKey) -> v1::DataKey {
    let (state, gone_at) = match key.state {
        DataKeyState::Pending => (v1::DataKeyState::Pending, None),
        DataKeyState::Active => (v1::DataKeyState::Active, None),
        DataKeyState::Retired { gone_at } => (v1::DataKeyState::Retired, gone_at),
    };
    v1::DataKey {
        id: id.to_owned(),
        state: state.into(),
        key_id: key.wrapped_by.to_string(),
        create_time: Some(wire_time(key.created_at)),
        state_time: Some(wire_time(key.state_since)),
        gone_time: gone_at.map(wire_time),
    }
}
