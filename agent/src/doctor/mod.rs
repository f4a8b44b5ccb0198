//! `homeward-agent doctor`: what would go wrong at this instance, found before a user meets it.
//!
//! One file a kind of check; each gives [`Finding`]s, a sentence and what mends it. In the order in which one thing needs
//! another: the configuration, who the instance is, the broker and its issuer, the application, the way of browsers to the
//! portal, what the application holds, and what the recipe knows of it.
//!
//! The doctor changes nothing: it takes no lock, writes no file, shows the broker no certificate and signs nobody in (it
//! begins a login at the application, which nobody finishes). So it may run beside the agent as well as before its first
//! start; only if nobody serves the portal it does so itself, for the moment in which it looks at the reverse proxy.
//!
//! Unless it is given a [`Canary`], a user who is there for that: then it logs that one in, as a user would do it, and out
//! again ([`canary`]).

pub(crate) mod finding;

mod application;
mod broker;
pub(crate) mod canary;
pub(crate) mod configuration;
pub(crate) mod cookies;
pub(crate) mod credentials;
mod home_methods;
pub(crate) mod identity;
mod issuer;
mod keys;
pub(crate) mod login;
mod public_address;
mod recipe_checks;
pub(crate) mod version;
mod windows;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use self::canary::Canary;
use self::finding::Finding;
use crate::application::Application;
use crate::config::Config;
use crate::connection::Broker;
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::provider::wire::Wire;
use crate::resources::applied::Applied;

/// Work that takes longer is announced.
const PATIENCE: Duration = Duration::from_secs(1);

/// For everything but the rehearsal: each thing that is asked has its own time, and there are many.
const LONGEST: Duration = Duration::from_secs(180);

/// The instance that is examined.
struct Patient<'a> {
    config: &'a Config,
    application: Application,
    wire: Wire,
    asks: Asks,
    /// Who it is, and what it uses; before enrolment, nobody and nothing.
    enrolled: Option<Enrolled>,
}

/// On whose behalf the doctor looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Somebody's, at a terminal.
    Operator,
    /// The agent's own, which runs.
    Agent,
}

struct Enrolled {
    identity: Arc<Identity>,
    applied: Applied,
}

/// Looks at everything that can be looked at. `progress` hears of what takes longer than a second.
pub(crate) async fn examine(
    path: &Path,
    canary: Option<&Canary>,
    asks: Asks,
    now: OffsetDateTime,
    progress: &impl Fn(&str),
) -> Vec<Finding> {
    let config = match Config::load(path) {
        Ok(config) => config,
        // Without it, nothing else can be found.
        Err(error) => return vec![configuration::refused(path, &error)],
    };
    let mut findings = configuration::check(path, &config);
    let (loaded, of_identity) = identity::check(&config.data_dir, now);
    findings.extend(of_identity);
    let patient = match Patient::new(&config, loaded) {
        Ok(patient) => Patient { asks, ..patient },
        Err(finding) => {
            findings.push(*finding);
            return findings;
        }
    };
    look_for(LONGEST, &patient, progress, &mut findings).await;
    if let Some(canary) = canary {
        let rehearsed = patiently("logging the canary in …", progress, Box::pin(canary::rehearse(&patient, canary)));
        findings.extend(rehearsed.await);
    }
    findings
}

/// Looks for so long at most, at everything but the rehearsal, which has a time of its own: who is cut off there stays
/// signed in.
async fn look_for(longest: Duration, patient: &Patient<'_>, progress: &impl Fn(&str), findings: &mut Vec<Finding>) {
    // On the heap: it holds everything that is asked at some time.
    if tokio::time::timeout(longest, Box::pin(look(patient, progress, findings))).await.is_err() {
        let sentence = format!("The doctor has looked for {} s, and leaves the rest.", longest.as_secs());
        let remedy = "mend what is found above; what would come next answers slowly or not at all";
        findings.push(Finding::error("doctor", sentence, remedy));
    }
}

async fn look(patient: &Patient<'_>, progress: &impl Fn(&str), findings: &mut Vec<Finding>) {
    let config = patient.config;
    let mut published = None;
    if let Some(Enrolled { identity, .. }) = &patient.enrolled {
        let asked = patiently("asking the broker …", progress, Box::pin(of_broker(identity, config)));
        findings.extend(asked.await);
        let issuer = identity.issuer();
        let asked = issuer::check(&patient.wire, config, &issuer);
        let (found, keys) = patiently("fetching the issuer's configuration and keys …", progress, asked).await;
        findings.extend(found);
        published = keys;
    }
    let asked = patiently("asking the application …", progress, application::check(config, &patient.application));
    let (is_up, of_application) = asked.await;
    findings.extend(of_application);
    let looked = patiently("looking at the public address …", progress, public_address::check(patient));
    findings.extend(looked.await);
    let asked = patiently("asking which credentials the application has …", progress, credentials::check(patient));
    findings.extend(asked.await);
    if is_up {
        findings.extend(version::check(config, &patient.application).await);
        let asked = patiently("asking which keys the application holds …", progress, keys::check(patient, published));
        findings.extend(asked.await);
        findings.extend(patiently("beginning a login …", progress, login::check(patient)).await);
        findings.extend(cookies::check(config, &patient.application).await);
        findings.extend(windows::check(config, &patient.application).await);
        let asked = patiently("asking what the recipe asks …", progress, recipe_checks::check(patient));
        findings.extend(asked.await);
    }
    let tried = patiently("trying the home methods …", progress, home_methods::check(config, &patient.application));
    findings.extend(tried.await);
}

impl<'a> Patient<'a> {
    fn new(config: &'a Config, loaded: Option<(PrivateDir, Identity)>) -> Result<Self, Box<Finding>> {
        const NO_CLIENT: &str = "report this with the output of homeward-agent --version";
        let refused = |sentence: String| Box::new(Finding::error("application", sentence, NO_CLIENT));
        let application = Application::new(config.app_url.clone(), &config.public_url);
        let application = application.map_err(|error| refused(configuration::sentence(&error.to_string())))?;
        let application = application.with_parameters(config.parameters.clone());
        let wire = Wire::new(None).map_err(|error| refused(configuration::sentence(&error.to_string())))?;
        let enrolled = loaded.map(|(data, identity)| Enrolled {
            identity: Arc::new(identity),
            // What cannot be read is written anew by the agent; until then nothing is in effect.
            applied: Applied::load(&data).unwrap_or_default(),
        });
        Ok(Self { config, application, wire, asks: Asks::Operator, enrolled })
    }
}

async fn of_broker(identity: &Arc<Identity>, config: &Config) -> Vec<Finding> {
    match Broker::new(identity.clone()) {
        Ok(broker) => broker::check(&broker, identity, broker::tolerated_skew(config)).await,
        Err(error) => vec![broker::unreachable(&error, identity)],
    }
}

/// Waits, and says so if it takes long.
async fn patiently<T>(sentence: &str, progress: &impl Fn(&str), work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = tokio::time::sleep(PATIENCE) => {
            progress(sentence);
            work.await
        }
    }
}

#[cfg(test)]
mod tests;
