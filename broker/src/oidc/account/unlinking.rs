//! What is left of links that are over: whoever ended one may have been interrupted before all had ended that came in by it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::oidc::Provider;
use crate::oidc::error::BrowserError;

/// Ends it, for ever, when this broker is on duty. Nobody tells of it, so it is looked for again and again.
pub async fn finish_unlinking(provider: Arc<Provider>, mut on_duty: watch::Receiver<bool>, again: Duration) {
    // The sender lives as long as this. Whoever comes on duty looks at once.
    while on_duty.wait_for(|on_duty| *on_duty).await.is_ok() {
        if let Err(error) = provider.finish_unlinking().await {
            warn!(%error, "what came in by links that are over cannot be ended; trying again");
        }
        tokio::time::sleep(again).await;
    }
}

impl Provider {
    /// Whoever has signed in anew as himself since then has to do so once more.
    async fn finish_unlinking(&self) -> Result<(), BrowserError> {
        for link in self.registry.sweep_links().await? {
            let ended = self.end_all_of(&link.alias.user, &self.registry.snapshot(), self.clock.now()).await?;
            self.registry.links.forget(&link).await?;
            let sessions = ended.sessions.len();
            info!(link = %link.id, sessions, "what came in by a link has ended: whoever ended the link was interrupted");
        }
        Ok(())
    }
}
