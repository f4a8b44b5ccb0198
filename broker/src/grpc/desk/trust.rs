//! Trust edges, and what a login would come to.

use std::collections::HashMap;

use homeward_proto::v1;
use serde_json::Value;
use tonic::Status;

use crate::grpc::desk::pictures::Federation;
use crate::grpc::desk::{Seat, refusal};
use crate::grpc::status;
use crate::registry::{CONSOLE, GroupMapping};
use crate::web::console::{EdgeOrder, EdgeRow, Explained, Refusal, TrustSheet};
use crate::web::picture::TrustMap;

impl Seat {
    /// Who accepts whom.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn trust(&self) -> Result<TrustSheet, Refusal> {
        Ok(self.trust_sheet(self.federation().await?))
    }

    /// The same, and drawn.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn trust_drawn(&self) -> Result<(TrustSheet, TrustMap), Refusal> {
        let federation = self.federation().await?;
        let map = federation.draw();
        Ok((self.trust_sheet(federation), map))
    }

    async fn federation(&self) -> Result<Federation, Refusal> {
        Ok(Federation {
            instances: self.all_instances().await?,
            upstreams: all_pages!(self, list_upstreams, ListUpstreamsRequest, upstreams),
            registrations: all_pages!(self, list_registrations, ListRegistrationsRequest, registrations),
            edges: self.edges().await?,
        })
    }

    fn trust_sheet(&self, federation: Federation) -> TrustSheet {
        let Federation { instances, upstreams, registrations, edges } = federation;
        let instances_by_name: HashMap<&str, &v1::Instance> =
            instances.iter().map(|instance| (instance.name.as_str(), instance)).collect();
        let upstreams_by_name: HashMap<&str, &v1::Upstream> =
            upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream)).collect();
        let rows = edges.into_iter().map(|edge| self.edge_row(edge, &instances_by_name, &upstreams_by_name));
        let parties = instances.iter().filter(|instance| !instance.client_id.is_empty());
        let parties = parties.map(|instance| instance.name.clone());
        let parties = parties.chain(registrations.into_iter().map(|one| one.relying_party));
        let homes = instances.iter().filter(|instance| !instance.portal_url.is_empty());
        let homes = homes.map(|instance| instance.name.clone()).chain(upstreams.iter().map(|one| one.name.clone()));
        TrustSheet {
            edges: rows.collect(),
            relying_parties: parties.chain(std::iter::once(CONSOLE.to_owned())).collect(),
            homes: homes.collect(),
        }
    }

    /// What a login would come to.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn explain(&self, relying_party: String, home: String, username: String) -> Result<Explained, Refusal> {
        let request = self.ask(v1::ExplainTrustRequest { relying_party, home, username });
        let explained = self.client.clone().explain_trust(request).await;
        let explained = explained.map_err(|status| refusal(&status))?.into_inner();
        let source = match explained.identity_source() {
            v1::IdentitySource::Unspecified => "Nothing is known of the user.",
            v1::IdentitySource::Home => "The home was asked just now.",
            v1::IdentitySource::LastLogin => "The home could not be asked: this is from the last login.",
        };
        let account = explained.account.map(|account| {
            let found = account.matches.into_iter().map(|found| {
                let account = if found.account.is_empty() { "no account" } else { &found.account };
                format!("by {} {}: {account}", found.claim, found.value)
            });
            (account.outcome, found.collect())
        });
        let claims = explained.claims.into_iter().map(|it| [it.claim, it.home_value, plain(it.value), it.reason]);
        Ok(Explained { source, claims: claims.collect(), account, problems: explained.problems })
    }

    fn edge_row(
        &self,
        edge: v1::TrustEdge,
        instances: &HashMap<&str, &v1::Instance>,
        upstreams: &HashMap<&str, &v1::Upstream>,
    ) -> EdgeRow {
        let instance = |name: &str| instances.get(name).copied();
        let groups = edge.groups.iter().map(|line| format!("{}={}", line.home_group, line.relying_party_group));
        let of_upstream = |name: &str| match upstreams.get(name) {
            Some(upstream) if upstream.problem.is_empty() => "yes",
            Some(_) => "yes, but it cannot be used now",
            None => "no: it is gone",
        };
        EdgeRow {
            accepts: match instance(&edge.relying_party) {
                Some(instance) => standing(instance),
                None => "yes",
            },
            releases: instance(&edge.home).map_or_else(|| of_upstream(&edge.home), standing),
            consent: match edge.consent() {
                v1::ConsentPolicy::Unspecified | v1::ConsentPolicy::None => "none",
                v1::ConsentPolicy::FirstTime => "first",
                v1::ConsentPolicy::Always => "always",
            },
            groups: groups.collect(),
            changed: self.moment(edge.update_time.as_ref()),
            relying_party: edge.relying_party,
            home: edge.home,
            username_template: edge.username_template,
            email_domains: edge.email_domains,
            api_access: edge.api_access,
            linked: edge.linked,
        }
    }
}

/// Whether an instance can do its part now.
fn standing(instance: &v1::Instance) -> &'static str {
    match instance.state() {
        v1::InstanceState::Confirmed => "yes",
        v1::InstanceState::Quarantined => "not now: it is quarantined",
        v1::InstanceState::Unspecified | v1::InstanceState::Claimed => "not yet: its agent has not come back",
    }
}

/// A JSON text as people read it.
fn plain(value: String) -> String {
    match serde_json::from_str(&value) {
        Ok(Value::String(text)) => text,
        _ => value,
    }
}

/// An edge as the contract has it.
pub(super) fn wire_edge(order: &EdgeOrder) -> Result<v1::TrustEdge, Status> {
    let mappings = order.groups.iter().map(|line| line.parse::<GroupMapping>());
    let mappings = mappings.collect::<Result<Vec<_>, _>>().map_err(|error| status::invalid(&error))?;
    let groups = mappings.iter().map(|mapping| {
        let (home_group, relying_party_group) = mapping.names();
        v1::GroupMapping { home_group: home_group.to_owned(), relying_party_group: relying_party_group.to_owned() }
    });
    let consent = match order.consent.as_str() {
        "first" => v1::ConsentPolicy::FirstTime,
        "always" => v1::ConsentPolicy::Always,
        _ => v1::ConsentPolicy::None,
    };
    Ok(v1::TrustEdge {
        relying_party: order.relying_party.clone(),
        home: order.home.clone(),
        email_domains: order.email_domains.clone(),
        update_time: None,
        consent: consent.into(),
        api_access: order.api_access,
        username_template: order.username_template.clone(),
        groups: groups.collect(),
        linked: order.linked,
    })
}
