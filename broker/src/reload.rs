//! What is taken up without a restart when ops ask for it (SIGHUP): what the file of this broker says of the federation, by
//! the same way as at a start, and the files of `[tls]`.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::audit::{Audit, Event, Kind};
use crate::config::{InForce, NamedSettings, agree_again};
use crate::storage::Store;
use crate::tls::PublicTls;

/// What ops want of a broker that runs.
#[derive(Clone, Debug)]
pub struct Signals {
    /// It is to stop.
    pub shutdown: CancellationToken,
    /// Its file is to be taken up again: what that names now.
    pub reload: watch::Receiver<NamedSettings>,
}

impl From<CancellationToken> for Signals {
    /// Of a broker that nobody has reload anything.
    fn from(shutdown: CancellationToken) -> Self {
        Self { shutdown, reload: watch::channel(NamedSettings::default()).1 }
    }
}

/// What is reloaded.
#[derive(Debug)]
pub struct Reload {
    /// Where the settings are.
    pub store: Arc<dyn Store>,
    /// What the brokers agree on.
    pub settings: InForce,
    /// The certificate of the public address.
    pub tls: PublicTls,
    /// Where changes are noted.
    pub audit: Audit,
    /// The name of this broker's machine.
    pub host: String,
}

impl Reload {
    /// Reloads whenever somebody asks for it.
    pub async fn follow(self, mut wanted: watch::Receiver<NamedSettings>) {
        while wanted.changed().await.is_ok() {
            self.tls.look_now();
            let named = wanted.borrow_and_update().clone();
            match agree_again(&self.store, &self.settings, named, &self.host).await {
                Ok(None) => {}
                Ok(Some(changes)) => {
                    self.audit.note(Event::new(Kind::SettingsChanged).detail(changes));
                    if let Some(sentence) = self.settings.restart_needed() {
                        warn!("{sentence}");
                    }
                }
                Err(error) => error!(%error, "the federation's settings stay as they are"),
            }
        }
        // Nobody can ask.
        std::future::pending::<()>().await;
    }
}
