//! The way of browsers: whether the public address leads to this application, and the portal's path to this very agent;
//! and what the reverse proxy tells the agent of the browser.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Request;
use http::header::{COOKIE, LOCATION};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::application;
use super::finding::Finding;
use super::{Asks, Enrolled, Patient};
use crate::application::Question;
use crate::config::{Config, PortalConfig};
use crate::home::listener as portal_pages;
use crate::provider::wire::{Wire, WireError};
use crate::reachability::{self, PAGE, PARAMETER, Probe, ReachabilityKey, Seen};

const PORTAL: &str = "portal";
/// An address of nobody (RFC 5737), which the doctor claims to come from: a proxy that passes it on as it is passes on
/// what every stranger claims.
const CLAIMED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Public address, portal, reverse proxy.
pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let (answers, finding) = served_by_the_application(patient).await;
    let mut findings = vec![finding];
    let Some(Enrolled { identity, .. }) = &patient.enrolled else { return findings };
    let key = identity.reachability_key();
    let (agent, _stand_in) = Agent::find(patient, &key).await;
    findings.push(agent.finding(&patient.config.portal));
    if answers && patient.config.has_portal() && !matches!(agent, Agent::Another) {
        findings.extend(portal(&patient.wire, patient.config, &key).await);
    }
    findings
}

/// Whether anybody answers there, and whether both ways to the application give the same answer.
async fn served_by_the_application(patient: &Patient<'_>) -> (bool, Finding) {
    const ABOUT: &str = "public address";
    let (config, path) = (patient.config, application::path(patient.config));
    let address = format!("{}{path}", config.public_url.origin());
    let answer = match get(&patient.wire, &address, None).await {
        Ok(answer) => answer,
        Err(error) => {
            let answers = !matches!(error, WireError::Unreachable(_) | WireError::TimedOut);
            return (answers, unreachable(&config.public_url.origin(), &error));
        }
    };
    let to_the_gate = format!("{}gate/login", config.portal.path);
    if config.gate.is_some() && answer.location.is_some_and(|location| location.contains(&to_the_gate)) {
        return (true, Finding::ok(ABOUT, format!("{} asks for a login first.", config.public_url.origin())));
    }
    let finding = match patient.application.ask(Question::get(&path)).await {
        Ok(direct) if direct.status == answer.status => {
            Finding::ok(ABOUT, format!("{} leads to the application.", config.public_url.origin()))
        }
        Ok(direct) => {
            let sentence =
                format!("{address} answers {}, and the application itself {}.", answer.status, direct.status);
            let remedy = "see that public_url is this application's own address, and that the reverse proxy passes Host and X-Forwarded-Proto on";
            Finding::warning(ABOUT, sentence, remedy)
        }
        // That the application does not answer is said elsewhere.
        Err(_) => Finding::ok(ABOUT, format!("{} answers.", config.public_url.origin())),
    };
    (true, finding)
}

fn unreachable(origin: &str, error: &WireError) -> Finding {
    let sentence = format!("{origin} cannot be asked from this machine: {error}.");
    let remedy = "open it in a browser; if that works, only the doctor is kept out (this machine's name server, firewall or CA certificates), else mend the reverse proxy or its certificate";
    Finding::warning("public address", sentence, remedy)
}

/// Who listens where the portal should be.
enum Agent {
    /// This instance's.
    Runs,
    /// Nobody did; the doctor does for now.
    StoodInFor,
    /// Somebody else.
    Another,
    /// It cannot be told.
    Unknown(String),
}

/// Serves the portal in the agent's place, until it is dropped.
struct StandIn(JoinHandle<()>);

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    /// Asks, and stands in if nobody is there.
    async fn find(patient: &Patient<'_>, key: &ReachabilityKey) -> (Self, Option<StandIn>) {
        let portal = &patient.config.portal;
        let Ok(wire) = patient.wire.clone().here(here(portal.listen)) else {
            return (Self::Unknown("nothing can be asked at its address".to_owned()), None);
        };
        let Ok(probe) = key.probe() else { return (Self::Unknown("there is no randomness".to_owned()), None) };
        // A port that the system chooses is known to the agent only.
        if portal.listen.port() == 0 {
            return (Self::Unknown("it listens on a port that the system chooses".to_owned()), None);
        }
        let address = format!("http://{}{}{PAGE}?{PARAMETER}={}", here(portal.listen), portal.path, probe.value());
        match get(&wire, &address, None).await {
            Ok(answer) if probe.read(&answer.body).is_some() => (Self::Runs, None),
            Ok(_) => (Self::Another, None),
            // The agent that asks is about to listen there itself.
            Err(WireError::Unreachable(_)) if patient.asks == Asks::Agent => {
                (Self::Unknown("it begins to listen there when it is restarted or reloaded".to_owned()), None)
            }
            Err(WireError::Unreachable(_)) => match TcpListener::bind(portal.listen).await {
                Ok(listener) => {
                    let pages = reachability::routes(portal, key.clone());
                    let served = portal_pages::serve(listener, pages, &[], std::future::pending());
                    (Self::StoodInFor, Some(StandIn(tokio::spawn(async move { drop(served.await) }))))
                }
                Err(error) => (Self::Unknown(error.to_string()), None),
            },
            Err(error) => (Self::Unknown(error.to_string()), None),
        }
    }

    fn finding(&self, portal: &PortalConfig) -> Finding {
        const ABOUT: &str = "agent";
        let listen = portal.listen;
        match self {
            Self::Runs => Finding::ok(ABOUT, format!("It runs, and its portal listens on {listen}.")),
            Self::StoodInFor => {
                let remedy = "start it: systemctl enable --now homeward-agent (or homeward-agent run)";
                Finding::warning(ABOUT, "The agent does not run.", remedy)
            }
            Self::Another => {
                let sentence = format!(
                    "On {listen} another program answers, or another instance's agent, or one of before the last enrolment."
                );
                Finding::error(
                    ABOUT,
                    sentence,
                    "restart the agent; if that does not help, give it a port of its own: [portal] listen",
                )
            }
            Self::Unknown(why) => {
                let sentence = format!("Whether the agent runs cannot be seen here: {why}.");
                Finding::ok(ABOUT, sentence)
            }
        }
    }
}

/// Whether it is this instance's agent that listens where the portal should be.
pub(super) async fn is_served_by_the_agent(wire: &Wire, portal: &PortalConfig, key: &ReachabilityKey) -> bool {
    let (Ok(probe), Ok(wire)) = (key.probe(), wire.clone().here(here(portal.listen))) else { return false };
    let address = format!("http://{}{}{PAGE}?{PARAMETER}={}", here(portal.listen), portal.path, probe.value());
    get(&wire, &address, None).await.is_ok_and(|answer| probe.read(&answer.body).is_some())
}

/// What a browser that the broker sends here would meet.
async fn portal(wire: &Wire, config: &Config, key: &ReachabilityKey) -> Vec<Finding> {
    let Ok(probe) = key.probe() else { return Vec::new() };
    let page = format!("{}{}{PAGE}", config.public_url.origin(), config.portal.path);
    let address = format!("{page}?{PARAMETER}={}", probe.value());
    // That nobody answers there is said of the public address already.
    let Ok(answer) = get(wire, &address, Some(&probe)).await else { return Vec::new() };
    match probe.read(&answer.body) {
        Some(seen) => {
            let sentence = format!("{}{} leads to this agent.", config.public_url.origin(), config.portal.path);
            let mut findings = vec![Finding::ok(PORTAL, sentence)];
            findings.extend(judge(&seen, config));
            findings
        }
        None => vec![elsewhere(&page, &answer, config)],
    }
}

fn elsewhere(page: &str, answer: &Fetched, config: &Config) -> Finding {
    let who = match answer.body["agent"].as_str() {
        Some(_) => "another instance's agent answers".to_owned(),
        None => format!("something else answers ({})", answer.status),
    };
    let PortalConfig { listen, path, .. } = &config.portal;
    let remedy = format!(
        "let the reverse proxy of {} pass it on, for nginx: location {path} {{ proxy_pass http://{listen}; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }}",
        config.public_url.host()
    );
    Finding::error(PORTAL, format!("{page} does not lead to this agent: {who}."), remedy)
}

/// What the reverse proxy makes of a request.
fn judge(seen: &Seen, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Whoever claims to come from elsewhere then is on this machine already.
    if !is_reached_directly(config) {
        findings.push(client_address(seen));
    }
    let scheme = config.public_url.scheme();
    match seen.forwarded_proto.as_deref() {
        Some(proto) if proto == scheme => {}
        // Nobody needs to be told of what is taken for granted.
        None if !config.public_url.is_https() => {}
        other => {
            let sentence = match other {
                Some(other) => {
                    format!("The reverse proxy says that browsers come by {other}, and public_url is {scheme}.")
                }
                None => "The reverse proxy does not say whether browsers come over TLS.".to_owned(),
            };
            let remedy =
                "for nginx: proxy_set_header X-Forwarded-Proto $scheme; also in the application's own location";
            findings.push(Finding::warning("X-Forwarded-Proto", sentence, remedy));
        }
    }
    if !seen.cookie {
        let remedy = format!("let it pass Cookie on below {} as it does for the application", config.portal.path);
        let sentence = "The reverse proxy keeps cookies from the portal: nobody is recognised by a session.";
        findings.push(Finding::error("cookies", sentence, remedy));
    }
    findings
}

/// Whether browsers come to the portal itself, which only those on this machine can: for all others there is TLS.
fn is_reached_directly(config: &Config) -> bool {
    let port = config.public_url.authority().rsplit(':').next().and_then(|port| port.parse().ok());
    !config.public_url.is_https() && port == Some(config.portal.listen.port())
}

/// Limits on password tries go by the browser's address, so a stranger must not choose it, and all must not share one.
fn client_address(seen: &Seen) -> Finding {
    const ABOUT: &str = "X-Forwarded-For";
    let claimed = CLAIMED.to_string();
    match seen.forwarded_for.last() {
        None => {
            let sentence =
                "The reverse proxy does not say who its visitors are: one who tries passwords would lock out all.";
            Finding::warning(ABOUT, sentence, "for nginx: proxy_set_header X-Forwarded-For $remote_addr;")
        }
        Some(last) if *last == claimed => {
            let sentence =
                "The reverse proxy passes on what visitors claim: whoever tries passwords has a new address each time.";
            Finding::error(
                ABOUT,
                sentence,
                "let the proxy write it itself, for nginx: proxy_set_header X-Forwarded-For $remote_addr;",
            )
        }
        Some(_) if !seen.trusted => {
            let peer = seen.peer;
            let sentence = format!(
                "What the reverse proxy at {peer} says of its visitors is not believed: all of them count as one."
            );
            Finding::warning(
                ABOUT,
                sentence,
                format!("[portal] trusted_proxies = [\"127.0.0.1\", \"::1\", \"{peer}\"]"),
            )
        }
        Some(last) => Finding::ok(ABOUT, format!("The reverse proxy at {} says who visits: here {last}.", seen.peer)),
    }
}

/// An answer that was read.
struct Fetched {
    status: u16,
    location: Option<String>,
    body: Value,
}

async fn get(wire: &Wire, address: &str, as_a_visitor: Option<&Probe>) -> Result<Fetched, WireError> {
    let mut request = Request::get(address).header("accept", "application/json");
    if as_a_visitor.is_some() {
        request = request.header("x-forwarded-for", CLAIMED.to_string()).header(COOKIE, "homeward-doctor=1");
    }
    let answer = wire.send(request.body(Vec::new()).map_err(|_| WireError::Address)?).await?;
    let body = serde_json::from_slice(answer.body()).unwrap_or_default();
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Fetched { status: answer.status().as_u16(), location, body })
}

/// Where something that listens on all addresses is reached on this machine.
pub(super) fn here(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(address) if address.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        other => other,
    }
}
