//! The first page: what ops have to look after, before anything else.

use std::time::Duration;

use homeward_proto::v1;

use crate::clock::Timestamp;
use crate::grpc::desk::{Seat, refusal, sentence};
use crate::web::console::{Attention, BrokerRow, InstanceRow, Overview, Refusal};

/// A CA that ends within this should turn.
const CA_NEAR_END: Duration = Duration::from_secs(30 * 86_400);

impl Seat {
    /// The first page.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn overview(&self) -> Result<Overview, Refusal> {
        let instances = self.instances().await?;
        let brokers = self.brokers().await?;
        let rotations = self.rotations().await?;
        let plan = self.plan().await?;
        let (upstreams, registrations) = (self.upstreams().await?, self.registrations().await?);
        let edges = self.edges().await?;
        let mut attention: Vec<Attention> = instances.iter().filter_map(of_instance).collect();
        let unusable = upstreams.iter().filter(|upstream| !upstream.problem.is_empty());
        attention.extend(unusable.map(|upstream| Attention {
            sentence: format!("The home {} cannot be used: {}", upstream.name, sentence(&upstream.problem)),
            page: "/console/without-agent".to_owned(),
        }));
        let paused = rotations.iter().filter(|rotation| rotation.state() == v1::RotationState::Paused);
        attention.extend(paused.map(|rotation| Attention {
            sentence: format!("The rotation {} has paused: {}", rotation.subject, sentence(&rotation.reason)),
            page: "/console/turning".to_owned(),
        }));
        attention.extend(self.of_the_ca().await?);
        attention.extend(edges.iter().filter_map(of_edge));
        attention.extend(brokers.iter().filter(|broker| !broker.remark.is_empty()).map(|broker| Attention {
            sentence: format!("Broker {}: {}", broker.name, sentence(&broker.remark)),
            page: "/console/".to_owned(),
        }));
        Ok(Overview {
            attention,
            instances: (instances.len(), instances.iter().filter(|row| row.online).count()),
            agentless: upstreams.len() + registrations.len(),
            edges: edges.len(),
            turning: rotations.iter().filter(|one| one.state() == v1::RotationState::Running).count(),
            next: plan.into_iter().next().map(|planned| self.move_row(planned)),
            plot: self.plot().await?,
            brokers: brokers.iter().map(|broker| self.broker_row(broker)).collect(),
        })
    }

    async fn brokers(&self) -> Result<Vec<v1::Broker>, Refusal> {
        let listed = self.client.clone().list_brokers(self.ask(v1::ListBrokersRequest {})).await;
        Ok(listed.map_err(|status| refusal(&status))?.into_inner().brokers)
    }

    fn broker_row(&self, broker: &v1::Broker) -> BrokerRow {
        let started = broker.start_time.as_ref().map_or(self.now, |time| Timestamp::from_secs(time.seconds));
        BrokerRow {
            name: broker.name.clone(),
            version: broker.version.clone(),
            started: crate::web::console::Moment::of(started, self.now),
            agents: broker.agents,
            duty: match (broker.answering, broker.on_duty) {
                (true, true) => "answers you, and is on duty",
                (true, false) => "answers you",
                (false, true) => "is on duty",
                (false, false) => "",
            },
        }
    }

    async fn of_the_ca(&self) -> Result<Vec<Attention>, Refusal> {
        let near = self.now + CA_NEAR_END;
        let ends =
            |ca: &v1::AuthorityCertificate| ca.expire_time.as_ref().is_some_and(|time| time.seconds < near.as_secs());
        let signing = |ca: &v1::AuthorityCertificate| ca.role.starts_with("signs");
        let ca = self.authority().await?.certificates.into_iter().filter(|ca| signing(ca) && ends(ca));
        let attention = ca.map(|ca| Attention {
            sentence: format!("The CA {} ends soon: turn it.", ca.pin),
            page: "/console/turning".to_owned(),
        });
        Ok(attention.collect())
    }

    pub(super) async fn edges(&self) -> Result<Vec<v1::TrustEdge>, Refusal> {
        Ok(all_pages!(self, list_trust_edges, ListTrustEdgesRequest, trust_edges))
    }
}

/// One that lets nobody in, because a consent is missing.
fn of_edge(edge: &v1::TrustEdge) -> Option<Attention> {
    let v1::TrustEdge { relying_party, home, .. } = edge;
    let missing = match edge.missing_side() {
        v1::TrustSide::Unspecified => return None,
        v1::TrustSide::Home => format!("{home} has not consented to release its users to {relying_party}"),
        v1::TrustSide::RelyingParty => format!("{relying_party} has not consented to accept users of {home}"),
    };
    Some(Attention { sentence: format!("{missing}: nobody gets in."), page: "/console/trust".to_owned() })
}

/// The worst of it: whoever is cut off is offline, too.
fn of_instance(row: &InstanceRow) -> Option<Attention> {
    let name = &row.name;
    let text = if row.state == "quarantined" {
        format!("{name} is quarantined: {}", sentence(&row.problem))
    } else if !row.online {
        match &row.seen {
            Some(seen) => format!("{name} is offline; its agent was last seen {}.", seen.words),
            None => format!("{name} is offline; its agent has not connected since this broker started."),
        }
    } else if row.certificate_late {
        format!("The certificate of {name} ends soon, and its agent has not renewed it.")
    } else if !row.problem.is_empty() {
        format!("{name}: {}", sentence(&row.problem))
    } else {
        return None;
    };
    Some(Attention { sentence: text, page: format!("/console/instances/{name}") })
}
