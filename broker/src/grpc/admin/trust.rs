//! Trust edges: what ops do with them, and how the contract writes them.

use homeward_proto::v1;
use tonic::Status;

use crate::audit::{Event, Kind};
use crate::grpc::admin::page::page;
use crate::grpc::admin::{Service, name};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::{
    ConsentPolicy, EmailDomain, GroupMap, GroupMapping, Instance, Snapshot, TrustEdge, TrustEdgeId, TrustSide,
    TrustTerms, UsernameTemplate,
};

impl Service {
    pub(super) async fn allow(&self, request: &v1::AllowTrustRequest) -> Result<v1::TrustEdge, Status> {
        let wanted = request.trust_edge.clone().unwrap_or_default();
        let id = TrustEdgeId { relying_party: name(&wanted.relying_party)?, home: name(&wanted.home)? };
        let terms = terms(&wanted)?;
        let fresh = TrustEdge::new(id, self.clock.now()).map_err(|error| status::internal(&error))?;
        let side = side(request.side)?;
        let allowed = match side {
            Some(side) => self.registry.consent_to_trust(fresh, side, terms).await,
            None => self.registry.allow_trust(terms.on(fresh)).await,
        };
        let edge = allowed.map_err(|error| status::trust(&error))?;
        self.audit.note(of_edge(Kind::TrustAllowed, &edge.id, side));
        Ok(trust_edge(&edge))
    }

    /// What rests on the edge ends with it, or with one consent to it: tokens ask for it, and the sessions follow.
    pub(super) async fn deny(&self, request: &v1::DenyTrustRequest) -> Result<(), Status> {
        let id = TrustEdgeId { relying_party: name(&request.relying_party)?, home: name(&request.home)? };
        let side = side(request.side)?;
        let denied = match side {
            Some(side) => self.registry.withdraw_trust(&id, side, self.clock.now()).await,
            None => self.registry.deny_trust(&id).await,
        };
        denied.map_err(|error| status::trust(&error))?;
        self.audit.note(of_edge(Kind::TrustDenied, &id, side));
        Ok(())
    }

    pub(super) fn trust_edges(&self, request: &v1::ListTrustEdgesRequest) -> v1::ListTrustEdgesResponse {
        let snapshot = self.registry.snapshot();
        let mut all: Vec<_> = snapshot.known_edges().map(|edge| (edge.id.key(), trust_edge(edge))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (trust_edges, next_page_token) = page(all, request.page_size, &request.page_token);
        v1::ListTrustEdgesResponse { trust_edges, next_page_token }
    }
}

/// What is wrong with the edges of an instance, for how its application finds accounts.
pub(super) fn problems(instance: &Instance, snapshot: &Snapshot) -> Vec<String> {
    let Some(party) = &instance.relying_party else { return Vec::new() };
    let (key, edges) = (party.policy.account_key, || snapshot.edges_of(&instance.name));
    let mut problems: Vec<_> =
        edges().filter_map(|edge| key.check(edge, edges()).err()).map(|it| it.to_string()).collect();
    problems.sort();
    problems.dedup();
    problems
}

/// What is noted of an edge: whose word it was.
fn of_edge(kind: Kind, id: &TrustEdgeId, side: Option<TrustSide>) -> Event {
    let event = Event::new(kind).relying_party(&id.relying_party).home(&id.home);
    event.detail(side.map_or("both", TrustSide::as_str))
}

/// Whose consent it is; nothing for that of both. A side that a newer program knows is none of these: whoever means one
/// side is not taken to mean both.
fn side(wanted: i32) -> Result<Option<TrustSide>, Status> {
    match v1::TrustSide::try_from(wanted) {
        Ok(v1::TrustSide::Unspecified) => Ok(None),
        Ok(v1::TrustSide::Home) => Ok(Some(TrustSide::Home)),
        Ok(v1::TrustSide::RelyingParty) => Ok(Some(TrustSide::RelyingParty)),
        Err(_) => Err(status::refused(Reason::FieldInvalid("side"))),
    }
}

/// What is said of an edge.
fn terms(wanted: &v1::TrustEdge) -> Result<TrustTerms, Status> {
    let domains = wanted.email_domains.iter().map(|domain| domain.parse::<EmailDomain>());
    let domains = domains.collect::<Result<Vec<_>, _>>().map_err(|error| status::invalid(&error))?;
    let template = Some(wanted.username_template.as_str()).filter(|text| !text.is_empty());
    let template = template.map(str::parse::<UsernameTemplate>).transpose();
    Ok(TrustTerms {
        email_domains: Some(domains).filter(|domains| !domains.is_empty()),
        consent: match wanted.consent() {
            v1::ConsentPolicy::Unspecified => None,
            v1::ConsentPolicy::None => Some(ConsentPolicy::None),
            v1::ConsentPolicy::FirstTime => Some(ConsentPolicy::FirstTime),
            v1::ConsentPolicy::Always => Some(ConsentPolicy::Always),
        },
        api_access: wanted.api_access.then_some(true),
        username_template: template.map_err(|error| status::invalid(&error))?,
        groups: Some(groups(&wanted.groups)?).filter(|groups| !groups.is_empty()),
        linked: wanted.linked.then_some(true),
    })
}

fn groups(lines: &[v1::GroupMapping]) -> Result<GroupMap, Status> {
    let mappings = lines.iter().map(|line| GroupMapping::new(&line.home_group, &line.relying_party_group));
    let mappings = mappings.collect::<Result<Vec<_>, _>>().map_err(|error| status::invalid(&error))?;
    GroupMap::of(mappings).map_err(|error| status::invalid(&error))
}

/// A trust edge.
fn trust_edge(edge: &TrustEdge) -> v1::TrustEdge {
    let groups = edge.groups.mappings().map(|mapping| {
        let (home_group, relying_party_group) = mapping.names();
        v1::GroupMapping { home_group: home_group.to_owned(), relying_party_group: relying_party_group.to_owned() }
    });
    v1::TrustEdge {
        relying_party: edge.id.relying_party.to_string(),
        home: edge.id.home.to_string(),
        email_domains: edge.email_domains.iter().map(ToString::to_string).collect(),
        update_time: Some(wire_time(edge.updated_at)),
        consent: match edge.consent {
            ConsentPolicy::None => v1::ConsentPolicy::None,
            ConsentPolicy::FirstTime => v1::ConsentPolicy::FirstTime,
            ConsentPolicy::Always => v1::ConsentPolicy::Always,
        }
        .into(),
        api_access: edge.api_access,
        username_template: edge.username_template.to_string(),
        groups: groups.collect(),
        missing_side: match edge.consents.missing() {
            None => v1::TrustSide::Unspecified,
            Some(TrustSide::Home) => v1::TrustSide::Home,
            Some(TrustSide::RelyingParty) => v1::TrustSide::RelyingParty,
        }
        .into(),
        linked: edge.linked.is_some(),
    }
}
