//! Trust edges: what ops do with them, and how the contract writes them.

use homeward_proto::v1;
use tonic::Status;

use crate::audit::{Event, Kind};
use crate::grpc::admin::{Service, name, page};
use crate::grpc::status;
use crate::grpc::wire_time;
use crate::registry::{
    ConsentPolicy, EmailDomain, GroupMap, GroupMapping, Instance, Snapshot, TrustEdge, TrustEdgeId, UsernameTemplate,
};

impl Service {
    pub(super) async fn allow(&self, wanted: &v1::TrustEdge) -> Result<v1::TrustEdge, Status> {
        let id = TrustEdgeId { relying_party: name(&wanted.relying_party)?, home: name(&wanted.home)? };
        let domains = wanted.email_domains.iter().map(|domain| domain.parse::<EmailDomain>());
        let template = Some(wanted.username_template.as_str()).filter(|text| !text.is_empty());
        let template = template.map(str::parse::<UsernameTemplate>).transpose();
        let edge = TrustEdge {
            email_domains: domains.collect::<Result<_, _>>().map_err(|error| status::invalid(&error))?,
            consent: match wanted.consent() {
                v1::ConsentPolicy::Unspecified | v1::ConsentPolicy::None => ConsentPolicy::None,
                v1::ConsentPolicy::FirstTime => ConsentPolicy::FirstTime,
                v1::ConsentPolicy::Always => ConsentPolicy::Always,
            },
            api_access: wanted.api_access,
            username_template: template.map_err(|error| status::invalid(&error))?.unwrap_or_default(),
            groups: groups(&wanted.groups)?,
            linked: wanted.linked,
            ..TrustEdge::new(id, self.clock.now()).map_err(|error| status::internal(&error))?
        };
        let edge = self.registry.allow_trust(edge).await.map_err(|error| status::trust(&error))?;
        let allowed = Event::new(Kind::TrustAllowed).relying_party(&edge.id.relying_party);
        self.audit.note(allowed.home(&edge.id.home));
        Ok(trust_edge(&edge))
    }

    /// What rests on the edge ends with it: tokens ask for it, and the sessions follow.
    pub(super) async fn deny(&self, request: &v1::DenyTrustRequest) -> Result<(), Status> {
        let id = TrustEdgeId { relying_party: name(&request.relying_party)?, home: name(&request.home)? };
        self.registry.deny_trust(&id).await.map_err(|error| status::trust(&error))?;
        self.audit.note(Event::new(Kind::TrustDenied).relying_party(&id.relying_party).home(&id.home));
        Ok(())
    }

    pub(super) fn trust_edges(&self, request: &v1::ListTrustEdgesRequest) -> v1::ListTrustEdgesResponse {
        let snapshot = self.registry.snapshot();
        let mut all: Vec<_> = snapshot.edges().map(|edge| (edge.id.key(), trust_edge(edge))).collect();
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
        linked: edge.linked,
    }
}
