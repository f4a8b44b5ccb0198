//! The loop that applies client credentials: it takes the newest there are, and tries again later what failed, because
//! most failures are an application that is being restarted or a file that somebody is about to mend. It knows no stream:
//! what took longer than the connection lived is acknowledged on the next one.

use std::time::Duration;

use homeward_proto::v1::{ClientCredentials, Resource};
use tokio::sync::watch;

use super::Applier;
use crate::backoff::Backoff;
use crate::resources::standing::Refusal;
use crate::resources::wanted::{Versioned, Wanted};
use crate::{clock, random};

/// An application that is down is only asked again, so it can be asked often.
const WHILE_DOWN: Duration = Duration::from_secs(15);
/// Everything else reloads the application each time.
const WHILE_FAILING: Duration = Duration::from_secs(300);

/// Applies what `wanted` shows until nobody is left to want anything.
pub(crate) async fn run(mut applier: Applier, mut wanted: watch::Receiver<Wanted>) {
    loop {
        let in_effect = || applier.standing.applied().versions.of(Resource::ClientCredentials);
        let other = |wanted: &Wanted| wanted.credentials.as_ref().is_some_and(|it| Some(it.version) != in_effect());
        let Ok(credentials) = wanted.wait_for(other).await.map(|wanted| wanted.credentials.clone()) else { return };
        // What came before the end is seen all the same; nobody waits for it any more, and nothing is begun at the end.
        if wanted.has_changed().is_err() {
            return;
        }
        let Some(credentials) = credentials else { continue };
        if bring_about(&mut applier, &credentials, &mut wanted).await == Wanting::Nobody {
            return;
        }
    }
}

/// Whether somebody is left who wants anything.
#[derive(PartialEq, Eq)]
enum Wanting {
    Somebody,
    Nobody,
}

/// Tries until these credentials are in effect, or others are wanted.
async fn bring_about(
    applier: &mut Applier,
    credentials: &Versioned<ClientCredentials>,
    wanted: &mut watch::Receiver<Wanted>,
) -> Wanting {
    let mut while_down = Backoff::new(Duration::from_secs(1), WHILE_DOWN);
    let mut while_failing = Backoff::new(Duration::from_secs(10), WHILE_FAILING);
    while let Err(error) = applier.apply(credentials).await {
        let (version, reason) = (credentials.version, error.reason());
        let refusal = Refusal { version, reason, detail: error.to_string() };
        applier.standing.refuse(Resource::ClientCredentials, refusal, clock::now());
        let backoff = if error.only_asks() { &mut while_down } else { &mut while_failing };
        let pause = tokio::time::sleep(backoff.next(random::fraction()));
        let others = |wanted: &Wanted| wanted.version(Resource::ClientCredentials) != Some(version);
        tokio::select! {
            () = pause => {}
            // What failed is out of date.
            changed = wanted.wait_for(others) => {
                return if changed.is_err() { Wanting::Nobody } else { Wanting::Somebody };
            }
        }
    }
    tracing::info!(
        secret_version = credentials.content.secret_version,
        "the application uses these client credentials"
    );
    Wanting::Somebody
}
