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

/// Where those without agent are.
const AGENTLESS: &str = "/console/without-agent";

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
        let all = (parties.len(), edges.len());
        if all.0 <= READABLE.0 && all.1 <= READABLE.1 {
            return TrustMap::draw(&parties, &edges);
        }
        parties.retain(|party| party.standing != Standing::Healthy);
        let (unwell, drawn) = (parties.len(), parties.len().min(READABLE.0));
        parties.truncate(drawn);
        let names: BTreeSet<&str> = parties.iter().map(|party| party.name.as_str()).collect();
        edges.retain(|edge| names.contains(edge.home.as_str()) && names.contains(edge.relying_party.as_str()));
        edges.truncate(READABLE.1);
        TrustMap::draw(&parties, &edges).leaving_out(format!(
            "There are {} homes and relying parties with {} edges. Of so many only those are drawn that are not well: {drawn} \
             of {unwell}, with {} of the edges between them. The table has all edges.",
            all.0,
            all.1,
            edges.len()
        ))
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
    Party { name, display_name, roles: Roles::Home, standing, href: Some(AGENTLESS.to_owned()) }
}

fn of_registration(registration: &v1::Registration) -> Party {
    let name = registration.relying_party.clone();
    let standing = Standing::Healthy;
    let href = Some(AGENTLESS.to_owned());
    Party { display_name: name.clone(), name, roles: Roles::RelyingParty, standing, href }
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

#[cfg(test)]
mod tests {
    use askama::Template as _;

    use super::*;

    /// So many instances, each a home and a relying party, of which each tenth is offline, and as many edges from each.
    fn federation(instances: usize, edges_of_each: usize) -> Federation {
        let name = |number: usize| format!("i{:03}", number % instances);
        let instance = |number: usize| v1::Instance {
            name: name(number),
            state: v1::InstanceState::Confirmed.into(),
            online: !number.is_multiple_of(10),
            portal_url: "https://a.example/homeward/".to_owned(),
            client_id: "c".to_owned(),
            ..Default::default()
        };
        let edges = (0..instances).flat_map(|home| (1..=edges_of_each).map(move |next| (home, home + 10 * next)));
        let edges = edges.map(|(home, party)| v1::TrustEdge {
            home: name(home),
            relying_party: name(party),
            ..Default::default()
        });
        Federation {
            edges: edges.collect(),
            instances: (0..instances).map(instance).collect(),
            upstreams: Vec::new(),
            registrations: Vec::new(),
        }
    }

    /// The picture; how many boxes and arrows it has, and what is written below it.
    fn drawn(federation: &Federation) -> (String, usize, usize, String) {
        let picture = federation.draw().render().unwrap();
        let count = |what: &str| picture.matches(what).count();
        // The legend has arrows, too.
        let (boxes, arrows) = (count("class=\"box\""), count("<path class=\"line\"") - 2);
        let caption = picture.split("<figcaption>").nth(1).unwrap_or_default();
        let caption = caption.split("</figcaption>").next().unwrap_or_default().to_owned();
        (picture, boxes, arrows, caption)
    }

    #[test]
    fn what_can_be_read_is_drawn_in_full() {
        let (_, boxes, arrows, caption) = drawn(&federation(120, 3));
        assert_eq!((boxes, arrows, caption.as_str()), (240, 360, ""));
    }

    #[test]
    fn of_more_only_what_is_not_well_is_drawn_and_the_picture_says_so() {
        // Too many instances; too many edges.
        for (instances, edges, unwell) in [(130, 1, 13), (100, 5, 10)] {
            let (picture, boxes, arrows, caption) = drawn(&federation(instances, edges));
            assert_eq!((boxes, arrows), (2 * unwell, unwell * edges));
            assert!(!picture.contains("i001") && picture.contains("i010"), "{instances}");
            let said = format!("There are {instances} homes and relying parties with {} edges.", instances * edges);
            assert!(caption.starts_with(&said), "{caption}");
            assert!(caption.contains(&format!("not well: {unwell} of {unwell}")), "{caption}");
        }
        // More than can be read are not well.
        let mut many = federation(300, 0);
        many.instances.iter_mut().for_each(|instance| instance.online = false);
        let (_, boxes, _, caption) = drawn(&many);
        assert_eq!(boxes, 240);
        assert!(caption.contains("not well: 120 of 300"), "{caption}");
        // All are: that is not to say that there are none.
        many.instances.iter_mut().for_each(|instance| instance.online = true);
        let (picture, boxes, _, _) = drawn(&many);
        assert_eq!(boxes, 0);
        assert!(picture.contains("All are well.") && !picture.contains("No instance has enrolled yet."), "{picture}");
    }
}
