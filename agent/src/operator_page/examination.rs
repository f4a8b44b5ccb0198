//! The doctor, sent for by a button. It looks at everything that `homeward-agent doctor` looks at, once for all who ask while
//! it looks, and its findings stay until it looks again or the agent ends.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::runtime;
use tokio::sync::watch;

use crate::doctor::finding::Finding;
use crate::doctor::{self, Asks};

/// At most one at a time.
#[derive(Debug)]
pub(super) struct Examination {
    file: PathBuf,
    state: watch::Sender<State>,
}

/// Whether it looks, and what it found last.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Set while it looks.
    pub(super) under_way: Option<UnderWay>,
    /// Unset as long as nobody has asked.
    pub(super) last: Option<Findings>,
}

/// It looks.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    /// Since then.
    pub(super) since: OffsetDateTime,
    /// At what, if that takes longer.
    pub(super) at: Option<String>,
}

/// It has looked.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    /// When it was sent for.
    pub(super) of: OffsetDateTime,
    /// What there was, in the order in which one thing needs another.
    pub(super) all: Vec<Finding>,
}

/// Whatever becomes of a look, it ends: the next one is not kept from it.
struct Ends<'a>(&'a watch::Sender<State>);

impl Examination {
    /// Of the instance that this file configures, as the file is when it is looked at.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, state: watch::Sender::default() }
    }

    /// At this moment.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Sends for the doctor, unless it is there already.
    pub(super) fn begin(&self, now: OffsetDateTime) {
        let begun = self.state.send_if_modified(|state| {
            let begins = state.under_way.is_none();
            if begins {
                state.under_way = Some(UnderWay { since: now, at: None });
            }
            begins
        });
        if begun {
            self.send_for_it(now);
        }
    }

    /// On a thread of its own: a file that hangs, on a disk that is away, holds up the doctor, and not the agent, which has
    /// one thread for everything.
    fn send_for_it(&self, now: OffsetDateTime) {
        let (file, state) = (self.file.clone(), self.state.clone());
        let look = move || {
            let _ends = Ends(&state);
            match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(look(&file, &state, now)),
                Err(error) => tracing::warn!(%error, "the doctor cannot look"),
            }
        };
        if let Err(error) = thread::Builder::new().name("doctor".to_owned()).spawn(look) {
            tracing::warn!(%error, "the doctor cannot be sent for");
            drop(Ends(&self.state));
        }
    }

    /// Waits until nobody looks, and not for ever.
    pub(super) async fn wait(&self, patience: Duration) {
        let mut state = self.state.subscribe();
        // Who is out of patience finds that it still looks.
        let _ = tokio::time::timeout(patience, state.wait_for(|state| state.under_way.is_none())).await;
    }
}

async fn look(file: &Path, state: &watch::Sender<State>, now: OffsetDateTime) {
    let progress = |sentence: &str| {
        state.send_modify(|state| {
            if let Some(under_way) = &mut state.under_way {
                under_way.at = Some(sentence.to_owned());
            }
        });
    };
    // On the heap: it holds everything that is asked at some time.
    let all = Box::pin(doctor::examine(file, None, Asks::Agent, now, &progress)).await;
    tracing::info!(findings = all.len(), "the doctor has looked, as the operator's page asked");
    state.send_modify(|state| state.last = Some(Findings { of: now, all }));
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.under_way = None);
    }
}
