//! A home that is cut off takes its users' sessions with it: everywhere, and for good. A trust edge that is taken away
//! logs them out at that one relying party.
//!
//! Sign-on and tokens ask the registry whether the home may vouch, so they end with the change itself. This loop follows
//! behind: it ends the records, so that every application hears of it, and nothing comes back with a home that is
//! released. The broker on duty does it; what one that died has left is found by the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::registry::{InstanceState, Registry, SessionId, Snapshot, Touched};
use crate::sessions::{Session, SessionError, Sessions, TellHome};

/// Sessions that are looked at in one step.
const STEP: usize = 128;

/// Pause between two steps, so that logins do not wait for them.
const BREATH: Duration = Duration::from_millis(5);

/// Pause before the store is asked again after it failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Ends the sessions of homes that are cut off, for ever, when this broker is on duty. Returns what must be run.
pub fn follow(
    sessions: Sessions,
    registry: Registry,
    clock: Clock,
    mut on_duty: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send {
    // Listened to before the first look, so that no change falls between.
    let mut touched = registry.touched();
    async move {
        // The sender lives as long as this. Whoever comes on duty looks at everything.
        while on_duty.wait_for(|on_duty| *on_duty).await.is_ok() {
            // What is lost from here on is seen when the next change is looked at.
            let denials = registry.snapshot().denials();
            match sweep(&sessions, &registry, &clock).await {
                Ok(0) => {}
                Ok(ended) => info!(ended, "sessions of homes that are cut off have ended"),
                Err(error) => {
                    warn!(%error, "sessions of homes that are cut off cannot be ended; trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            if !cut_off(&mut touched, &registry, denials).await {
                return;
            }
        }
    }
}

/// Waits until somebody may have been cut off; says whether anybody still can be.
async fn cut_off(touched: &mut broadcast::Receiver<Arc<Touched>>, registry: &Registry, denials: u64) -> bool {
    loop {
        match touched.recv().await.as_deref() {
            Ok(Touched::Agents(names)) => {
                let snapshot = registry.snapshot();
                // A home without agent may have other users than before.
                let others = |name: &InstanceName| is_cut_off(&snapshot, name) || snapshot.upstream(name).is_some();
                if snapshot.denials() != denials || names.iter().any(others) {
                    return true;
                }
            }
            Ok(Touched::Everyone) | Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}

async fn sweep(sessions: &Sessions, registry: &Registry, clock: &Clock) -> Result<usize, SessionError> {
    let (mut count, mut after): (usize, Option<String>) = (0, None);
    let mut asked = HashSet::new();
    loop {
        let page = sessions.table.page(after.as_deref(), STEP).await?;
        let ended = page.len() < STEP;
        after = page.last().map(|(id, _)| id.clone());
        let sessions_of_page = page.into_iter().filter_map(|(id, stored)| Some((id.parse().ok()?, stored.record)));
        let (orphans, others) = judge(sessions_of_page, registry, &mut asked).await?;
        let snapshot = registry.snapshot();
        for (id, session) in others {
            if session.opened.values().any(|opened| opened.is_closed((&session.home, session.home_id), &snapshot)) {
                sessions.leave_closed(&id, &snapshot, clock.now()).await?;
            }
        }
        count += sessions.end(&orphans, TellHome::No, &snapshot, clock.now()).await?.sessions.len();
        if ended {
            return Ok(count);
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// The sessions whose home is cut off, and the others. Each home that seems to be is looked up once in a sweep.
async fn judge(
    sessions: impl Iterator<Item = (SessionId, Session)>,
    registry: &Registry,
    asked: &mut HashSet<InstanceName>,
) -> Result<(Vec<SessionId>, Vec<(SessionId, Session)>), SessionError> {
    let (mut orphans, mut others) = (Vec::new(), Vec::new());
    for (id, session) in sessions {
        if is_orphan(&registry.snapshot(), &session) && asked.insert(session.home.clone()) {
            registry.catch_up_with(&session.home).await?;
        }
        if is_orphan(&registry.snapshot(), &session) { orphans.push(id) } else { others.push((id, session)) }
    }
    Ok((orphans, others))
}

/// An installation that is being enrolled anew under its old identity keeps its users' sessions.
fn is_orphan(snapshot: &Snapshot, session: &Session) -> bool {
    let another = snapshot.home_id(&session.home).is_some_and(|id| id != session.home_id);
    another || is_cut_off(snapshot, &session.home)
}

fn is_cut_off(snapshot: &Snapshot, name: &InstanceName) -> bool {
    match snapshot.instance(name) {
        Some(instance) => matches!(instance.state, InstanceState::Quarantined { .. }),
        None => snapshot.upstream(name).is_none(),
    }
}
