//! Instances and their agents. Only who is enrolled: an instance that is evicted is told no more.

use std::collections::HashMap;

use homeward_telemetry::metrics::{Picture, number};

use crate::metrics::{Sources, moment};
use crate::registry::{HomeStatus, InstanceState};
use crate::telemetry::definitions;

pub(super) fn look(sources: &Sources, picture: &mut Picture) {
    let snapshot = sources.stand_on.registry.snapshot();
    let (mut claimed, mut active, mut quarantined) = (0, Vec::new(), 0);
    for instance in snapshot.instances() {
        match instance.state {
            InstanceState::Claimed { .. } => claimed += 1,
            InstanceState::Confirmed => active.push(instance),
            InstanceState::Quarantined { .. } => quarantined += 1,
        }
    }
    let states = [("claimed", claimed), ("active", active.len() as u64), ("quarantined", quarantined)];
    picture.each(&definitions::INSTANCES, states.map(|(state, count)| ([state], number(count))));
    let heard: HashMap<_, _> = sources.stand_on.fleet.liveness().sightings().into_iter().collect();
    let sightings = || active.iter().filter_map(|instance| Some((*instance, heard.get(&instance.name)?)));
    let so = |so: bool| f64::from(u8::from(so));
    let online = active.iter().map(|instance| {
        let online = heard.get(&instance.name).is_some_and(|sighting| sighting.online);
        ([instance.name.as_str()], so(online))
    });
    picture.each(&definitions::INSTANCE_ONLINE, online);
    let behind = sightings().map(|(instance, sighting)| {
        ([instance.name.as_str()], so(sighting.applied_revision != sighting.wanted_revision))
    });
    picture.each(&definitions::INSTANCE_BEHIND, behind);
    let refused =
        sightings().map(|(instance, sighting)| ([instance.name.as_str()], number(sighting.refusals.len() as u64)));
    picture.each(&definitions::INSTANCE_REFUSED, refused);
    let seen = sightings().map(|(instance, sighting)| ([instance.name.as_str()], moment(sighting.last_seen_at)));
    picture.each(&definitions::INSTANCE_SEEN, seen);
    let homes = active.iter().filter(|instance| instance.home.is_some());
    let homes = homes.map(|home| {
        ([home.name.as_str()], so(sources.stand_on.fleet.liveness().home_status(&home.name) == HomeStatus::Ready))
    });
    picture.each(&definitions::INSTANCE_HOME_READY, homes);
    let begins = active.iter().map(|instance| ([instance.name.as_str()], moment(instance.certificate.issued_at)));
    picture.each(&definitions::INSTANCE_ISSUED, begins);
    let ends = active.iter().map(|instance| ([instance.name.as_str()], moment(instance.certificate.not_after)));
    picture.each(&definitions::INSTANCE_EXPIRY, ends);
}
