//! What the console draws: who accepts whom, what turns when, and who came in.

use std::collections::BTreeSet;
use std::time::Duration;

use homeward_proto::v1;
use prost_types::Timestamp as WireTime;

use crate::clock::Timestamp;
use crate::grpc::desk::{Seat, refusal};
use crate::web::console::Refusal;
use crate::web::picture::{
    Consent, Count, Edge, Lane, Mark, Party, Plot, Roles, Span, SpanState, Standing, Timeline, TrustMap,
};

/// Boxes and arrows that somebody still finds his way in. In a larger federation only what is not well is drawn.
const READABLE: (usize, usize) = (120, 400);

/// How much of the past each bar of the plot is.
const BAR: Duration = Duration::from_secs(3600);

/// Who there is, and who accepts whom.
pub(super) struct Federation {
    pub(super) instances: Vec<v1::Instance>,
    pub(super) upstreams: Vec<v1::Upstream>,
    /// Relying parties without agent.
    pub(super) registrations: Vec<v1::Registration>,
    pub(super) edges: Vec<v1::TrustEdge>,
}

impl Federation {
    /// Who accepts whom; of a large federation, what is not well.
    pub(super) fn draw(&self) -> TrustMap {
        let parties = self.instances.iter().map(of_instance).chain(self.upstreams.iter().map(of_upstream));
        let mut parties: Vec<Party> = parties.chain(self.registrations.iter().map(of_registration)).collect();
        let mut edges: Vec<Edge> = self.edges.iter().map(of_edge).collect();
        if parties.len() > READABLE.0 || edges.len() > READABLE.1 {
            parties.retain(|party| party.standing != Standing::Healthy);
            parties.truncate(READABLE.0);
            let drawn: BTreeSet<&str> = parties.iter().map(|party| party.name.as_str()).collect();
            edges.retain(|edge| drawn.contains(edge.home.as_str()) && drawn.contains(edge.relying_party.as_str()));
            edges.truncate(READABLE.1);
        }
        TrustMap::draw(&parties, &edges)
    }
}

fn of_instance(instance: &v1::Instance) -> Party {
    let standing = match instance.state() {
        v1::InstanceState::Quarantined => Standing::Quarantined,
        v1::InstanceState::Unspecified | v1::InstanceState::Claimed => Standing::Unhealthy("not joined yet".to_owned()),
        v1::InstanceState::Confirmed if !instance.online => Standing::Unhealthy("offline".to_owned()),
        v1::InstanceState::Confirmed if !instance.problem.is_empty() => Standing::Unhealthy(instance.problem.clone()),
        v1::InstanceState::Confirmed => Standing::Healthy,
    };
    Party {
        name: instance.name.clone(),
        display_name: instance.display_name.clone(),
        roles: match (instance.portal_url.is_empty(), instance.client_id.is_empty()) {
            (false, true) => Roles::Home,
            (true, _) => Roles::RelyingParty,
            (false, false) => Roles::Both,
        },
        standing,
        href: Some(format!("/console/instances/{}", instance.name)),
    }
}

fn of_upstream(upstream: &v1::Upstream) -> Party {
    let standing = match upstream.problem.as_str() {
        "" => Standing::Healthy,
        problem => Standing::Unhealthy(problem.to_owned()),
    };
    let (name, display_name) = (upstream.name.clone(), upstream.display_name.clone());
    Party { name, display_name, roles: Roles::Home, standing, href: None }
}

fn of_registration(registration: &v1::Registration) -> Party {
    let name = registration.relying_party.clone();
    let standing = Standing::Healthy;
    Party { display_name: name.clone(), name, roles: Roles::RelyingParty, standing, href: None }
}

fn of_edge(edge: &v1::TrustEdge) -> Edge {
    let consent = match edge.missing_side() {
        v1::TrustSide::Unspecified => Consent::Both,
        v1::TrustSide::Home => Consent::NotReleased,
        v1::TrustSide::RelyingParty => Consent::NotAccepted,
    };
    Edge { home: edge.home.clone(), relying_party: edge.relying_party.clone(), consent }
}

/// A lane for each kind of signing key, one for the secrets, one for the CA.
pub(super) fn timeline(
    now: Timestamp,
    keys: &[v1::SigningKey],
    authority: &[v1::AuthorityCertificate],
    plan: &[v1::PlannedMove],
) -> Timeline {
    let marks = |subject: &str| {
        let moves = plan.iter().filter(move |planned| planned.subject == subject);
        moves.map(|planned| Mark { at: moment(planned.time.as_ref()), words: planned.r#move.clone() }).collect()
    };
    let of_keys = [(v1::SigningAlgorithm::Rs256, "RS256"), (v1::SigningAlgorithm::Es256, "ES256")].map(|(of, name)| {
        let spans = keys.iter().filter(|key| key.algorithm() == of).map(of_key).collect();
        Lane { kind: "Signing key".to_owned(), name: name.to_owned(), spans, marks: marks(&format!("keys/{name}")) }
    });
    let of_secrets =
        Lane { kind: "Client secrets".to_owned(), name: String::new(), spans: Vec::new(), marks: marks("secrets") };
    let of_ca = Lane {
        kind: "CA".to_owned(),
        name: String::new(),
        spans: authority.iter().map(of_authority).collect(),
        marks: marks("ca"),
    };
    let lanes: Vec<Lane> = of_keys.into_iter().chain([of_secrets, of_ca]).collect();
    Timeline::draw(now, &lanes)
}

fn of_key(key: &v1::SigningKey) -> Span {
    let state = match key.state() {
        v1::SigningKeyState::Unspecified | v1::SigningKeyState::Pending => SpanState::Pending,
        v1::SigningKeyState::Active => SpanState::Active,
        v1::SigningKeyState::Retired => SpanState::Retired,
    };
    let until = key.gone_time.as_ref().map(|time| Timestamp::from_secs(time.seconds));
    Span { name: key.key_id.clone(), state, from: moment(key.state_time.as_ref()), until }
}

/// What signs is in use; what is only trusted is made known, or good for what was signed with it.
fn of_authority(ca: &v1::AuthorityCertificate) -> Span {
    let state = match (ca.role.starts_with("signs"), ca.instances) {
        (true, _) => SpanState::Active,
        (false, 0) => SpanState::Pending,
        (false, _) => SpanState::Retired,
    };
    let until = ca.expire_time.as_ref().map(|time| Timestamp::from_secs(time.seconds));
    Span { name: ca.pin.clone(), state, from: moment(ca.create_time.as_ref()), until }
}

fn moment(time: Option<&WireTime>) -> Timestamp {
    Timestamp::from_secs(time.map_or(0, |time| time.seconds))
}

impl Seat {
    /// Logins and failures of the last two days, by the hour.
    pub(super) async fn plot(&self) -> Result<Plot, Refusal> {
        let found = self.client.clone().get_login_counts(self.ask(v1::GetLoginCountsRequest {})).await;
        let counts = found.map_err(|status| refusal(&status))?.into_inner().counts;
        let counts: Vec<Count> = counts.iter().map(of_count).collect();
        Ok(Plot::draw(&counts, BAR))
    }
}

fn of_count(count: &v1::LoginCount) -> Count {
    let (logins, failures) = (u64::from(count.logins), u64::from(count.failures));
    Count { at: moment(count.begin_time.as_ref()), logins, failures }
}
