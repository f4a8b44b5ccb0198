//! `doctor --canary`: a whole login here, with a user who is there for that, in a browser of the doctor's own.
//!
//! 1. [`Walk::begin`]: at the application, by the recipe's probe, along the way that browsers come.
//! 2. [`Walk::choose`]: at the broker, one home on the page of all that are accepted.
//! 3. [`Walk::sign_in`]: at the portal of that home, with the password.
//! 4. [`Walk::come_back`]: at the broker, which may ask for the user's consent; the canary agrees.
//! 5. [`Walk::arrive`]: at the application, which is then asked who is signed in.
//! 6. [`Walk::leave`]: what it began ends again, at the broker and at the application.
//!
//! The password is for the portal of the home, whoever would like to have it. No redirect is followed that nobody has looked
//! at, and the way to a portal is this one: the application may lead to nowhere but the broker's own authorization endpoint, as
//! this instance's own client (as another's it could have the broker lead to wherever that one is registered); the home is
//! chosen on the broker's page, by name; and the broker's next answer leads to a portal's login page, with one ticket, which for
//! this instance is the configured one. To that very address the password goes, if the page there is a form with that ticket; where the
//! form itself says that it goes, nobody asks. What comes of it leads back to the broker, or the walk ends.

mod arrival;
mod beginning;
mod broker;
mod browser;
mod page;
mod portal;

use std::time::Duration;

use homeward_certs::identity::InstanceName;
use secrecy::SecretString;
use url::Url;

use self::browser::{Answer, Browser, PATIENCE, Stuck, shown};
use super::credentials::ASK_FOR_TRUST;
use super::finding::Finding;
use super::login::{self, Expected};
use super::{Enrolled, Patient, broker as of_broker, configuration};
use crate::application::Application;
use crate::provider::wire::WireError;

/// For the way in.
const WAY_IN: Duration = Duration::from_secs(90);
/// For the way out.
const WAY_OUT: Duration = Duration::from_secs(30);

/// A user who is there to be signed in by the doctor.
#[derive(Debug)]
pub(crate) struct Canary {
    /// Login name at the home.
    pub(crate) username: String,
    /// Password there.
    pub(crate) password: SecretString,
    /// Which home; this instance itself, or the only one that it accepts, if unset.
    pub(crate) home: Option<InstanceName>,
}

/// Why the walk ends before the end.
type Ended = Box<Finding>;

/// A login under way.
struct Walk<'a> {
    patient: &'a Patient<'a>,
    canary: &'a Canary,
    /// The name of the chosen home.
    home: String,
    /// This instance's own name.
    instance: String,
    expected: Expected,
    /// The application, as browsers reach it.
    application: Application,
    browser: Browser,
    /// How far this machine's clock is from the broker's, if that does harm.
    skew: Option<Finding>,
    /// Whether the broker may have a session of the canary's.
    may_be_in: bool,
    /// Whether the broker has let the canary go on to the application: then it has one.
    is_back: bool,
    /// Whether that one is seen to be gone.
    is_out_at_broker: bool,
    findings: Vec<Finding>,
}

/// Rehearses a login, and says of each step how it went.
pub(super) async fn rehearse(patient: &Patient<'_>, canary: &Canary) -> Vec<Finding> {
    let mut walk = match Walk::new(patient, canary) {
        Ok(walk) => walk,
        Err(finding) => return vec![*finding],
    };
    match tokio::time::timeout(WAY_IN, Box::pin(walk.go())).await {
        Ok(Ok(())) => {}
        Ok(Err(finding)) => walk.findings.push(*finding),
        Err(_) => {
            let sentence = format!("The rehearsal has taken {} s, and is not at its end.", WAY_IN.as_secs());
            let remedy = "see which step was the last; what comes after it answers slowly or not at all";
            walk.findings.push(Finding::error("rehearsal", sentence, remedy));
        }
    }
    if tokio::time::timeout(WAY_OUT, Box::pin(walk.leave())).await.is_err() {
        walk.findings.push(match walk.is_out_at_broker {
            true => arrival::silent(),
            false => left_signed_in("the broker did not answer in time", &walk.expected.issuer),
        });
    }
    walk.findings
}

impl<'a> Walk<'a> {
    fn new(patient: &'a Patient<'a>, canary: &'a Canary) -> Result<Self, Ended> {
        const ABOUT: &str = "rehearsal";
        let refused = |sentence: &str, remedy: &str| Box::new(Finding::error(ABOUT, sentence, remedy));
        let config = patient.config;
        let enrolled = patient.enrolled.as_ref().ok_or_else(|| {
            refused(
                "Nobody can log in here yet: the instance is not enrolled.",
                "run: homeward-agent enrol --token-file -",
            )
        })?;
        let Enrolled { identity, applied } = enrolled;
        let expected = applied.client_id.clone().and_then(|id| Expected::of(config, identity.issuer(), Some(id)));
        let expected = expected.ok_or_else(|| {
            let sentence = "Nobody can log in here with Homeward: the instance is no relying party, or has no client credentials yet.";
            refused(sentence, "set [relying_party] in agent.toml and start the agent; or rehearse at an instance that accepts this home")
        })?;
        let instance = identity.instance().to_string();
        let home = home_of(canary, config.home.is_some().then_some(instance.as_str()), &applied.homes);
        let home = home.ok_or_else(|| match applied.homes.is_empty() {
            true => refused("No home is accepted here: nobody can log in from elsewhere.", ASK_FOR_TRUST),
            false => refused("Which home the canary is of, nobody said.", "add: --home NAME"),
        })?;
        let unusable = |error: WireError| {
            refused(
                &configuration::sentence(&error.to_string()),
                "report this with the output of homeward-agent --version",
            )
        };
        let browser = Browser::new(&patient.wire, config).map_err(unusable)?;
        let application =
            patient.application.clone().the_way_of_browsers(&config.public_url, patient.wire.clone().within(PATIENCE));
        Ok(Self {
            patient,
            canary,
            home,
            instance,
            expected,
            application,
            browser,
            skew: None,
            may_be_in: false,
            is_back: false,
            is_out_at_broker: false,
            findings: Vec::new(),
        })
    }

    async fn go(&mut self) -> Result<(), Ended> {
        let request = self.begin().await?;
        let door = self.choose(&request).await?;
        let back = self.sign_in(&door).await?;
        let callback = self.come_back(&back).await?;
        self.is_back = true;
        self.arrive(callback).await
    }

    fn ok(&mut self, about: &str, sentence: impl Into<String>) {
        self.findings.push(Finding::ok(about, sentence));
    }

    /// Whether an address is the broker's.
    fn is_broker(&self, url: &Url) -> bool {
        login::is_of(url, &self.expected.issuer)
    }

    /// Whether the broker may answer logins there.
    fn is_callback(&self, url: &Url) -> bool {
        let registered = self.expected.redirect_uris.iter().filter_map(|address| Url::parse(address).ok());
        registered.into_iter().any(|known| known.origin() == url.origin() && known.path() == url.path())
    }

    /// Opens an address of the broker's.
    async fn at_broker(&mut self, about: &str, url: &Url) -> Result<Answer, Ended> {
        let answer = self.browser.get(url).await.map_err(|stuck| self.broker_stuck(about, stuck))?;
        self.skew = self.skew_of(&answer);
        Ok(answer)
    }

    fn broker_stuck(&self, about: &str, stuck: Stuck) -> Ended {
        let remedy = format!(
            "let this machine reach {} as browsers do (name server, firewall, CA certificates); ask ops whether the broker runs",
            self.expected.issuer
        );
        not_answered(about, stuck, &remedy)
    }

    /// What the broker's clock says, if that is a reason for tokens to be refused.
    fn skew_of(&self, answer: &Answer) -> Option<Finding> {
        let tolerated = of_broker::tolerated_skew(self.patient.config);
        let finding = of_broker::judge(answer.date()?, answer.at, tolerated);
        (finding.remedy.is_some()).then_some(finding)
    }
}

/// The one that was named, else this instance itself, else the only one there is.
fn home_of(canary: &Canary, own: Option<&str>, accepted: &[(String, String)]) -> Option<String> {
    let named = canary.home.as_ref().map(ToString::to_string);
    named.or_else(|| own.map(str::to_owned)).or_else(|| match accepted {
        [(only, _)] => Some(only.clone()),
        _ => None,
    })
}

/// What stood in the way of an answer.
fn not_answered(about: &str, stuck: Stuck, remedy: &str) -> Ended {
    let (sentence, remedy) = match stuck {
        Stuck::InCircles => (
            "The login is led in circles: a browser would give up here.".to_owned(),
            "see which step was the last: what answers there sends browsers on and on; its proxy may lose cookies",
        ),
        Stuck::NoAnswer(address, WireError::TimedOut) => (format!("{address} does not answer in time."), remedy),
        Stuck::NoAnswer(address, WireError::Address) => {
            let remedy = "let it be https: cookies and passwords are not for the network";
            (format!("{address} is neither https nor on this machine; nothing was sent there."), remedy)
        }
        Stuck::NoAnswer(address, error) => (format!("{address} cannot be asked: {error}."), remedy),
    };
    Box::new(Finding::error(about, sentence, remedy))
}

/// Where an answer leads, as findings name it.
fn led(answer: &Answer) -> String {
    let to = answer.next.as_ref().map(|next| format!(" and leads to {}", shown(next))).unwrap_or_default();
    format!("{} answers {}{to}", shown(&answer.url), answer.status)
}

fn left_signed_in(why: &str, issuer: &str) -> Finding {
    let sentence = format!("The canary could not be signed out again: {why}.");
    let remedy =
        format!("its session ends by itself; at once by ops: homeward-broker session list and end, at {issuer}");
    Finding::warning("rehearsal: end", sentence, remedy)
}

#[cfg(test)]
mod tests;
