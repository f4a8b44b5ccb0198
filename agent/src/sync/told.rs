//! What the broker has been told on one stream, and what there is still to tell: one acknowledgement or refusal for each
//! resource, as it comes into effect or fails to. Pure.

use std::collections::BTreeMap;

use homeward_proto::v1::sync_request::Message;
use homeward_proto::v1::{Ack, Nack, Resource, ResourceVersion};

use crate::resources::RESOURCES;
use crate::resources::applied::Versions;
use crate::resources::standing::{Refusal, State};
use crate::resources::wanted::{Acknowledgement, Wanted};

/// Longest detail of a refusal that the contract allows, in characters.
const LONGEST_DETAIL: usize = 512;

/// What the broker has been told.
#[derive(Debug)]
pub(super) struct Told {
    versions: Versions,
    refusals: BTreeMap<Resource, Refusal>,
    /// For brokers that count whole revisions.
    revision: Option<u64>,
}

impl Told {
    /// What the Hello says.
    pub(super) fn by_hello(state: &State) -> Self {
        Self { versions: state.applied.versions, refusals: BTreeMap::new(), revision: None }
    }

    /// The broker sent these: it waits for an answer, even if they are in effect already.
    pub(super) fn awaits_answer(&mut self, resources: &[Resource]) {
        self.revision = None;
        for resource in resources {
            self.versions.set(*resource, None);
            self.refusals.remove(resource);
        }
    }

    /// What the broker does not know yet. Of what it does not want any more, nothing is said.
    pub(super) fn news(&mut self, state: &State, wanted: &Wanted) -> Vec<Message> {
        match wanted.acknowledgement {
            Acknowledgement::EachResource => {
                RESOURCES.into_iter().filter_map(|resource| self.news_of(resource, state, wanted)).collect()
            }
            Acknowledgement::WholeRevision => self.news_of_revision(state, wanted).into_iter().collect(),
        }
    }

    fn news_of(&mut self, resource: Resource, state: &State, wanted: &Wanted) -> Option<Message> {
        let version = wanted.version(resource)?;
        let named = ResourceVersion { resource: resource.into(), version };
        if state.applied.versions.of(resource) == Some(version) {
            if self.versions.of(resource) == Some(version) {
                return None;
            }
            self.versions.set(resource, Some(version));
            self.refusals.remove(&resource);
            let proved = (resource == Resource::KeySet).then(|| state.applied.proved_keys.to_wire()).flatten();
            return Some(Message::Ack(Ack {
                revision: wanted.revision,
                resources: vec![named],
                key_set_proof: proved,
            }));
        }
        self.refused(resource, state, wanted).map(|nack| Message::Nack(Nack { resource: Some(named), ..nack }))
    }

    /// Only the credentials were ever waited for.
    fn news_of_revision(&mut self, state: &State, wanted: &Wanted) -> Option<Message> {
        let resource = Resource::ClientCredentials;
        let version = wanted.version(resource);
        if version.is_none() || state.applied.versions.of(resource) == version {
            let revision = Some(wanted.revision);
            let news = std::mem::replace(&mut self.revision, revision) != revision;
            return news.then(|| Message::Ack(Ack { revision: wanted.revision, ..Ack::default() }));
        }
        self.refused(resource, state, wanted).map(Message::Nack)
    }

    fn refused(&mut self, resource: Resource, state: &State, wanted: &Wanted) -> Option<Nack> {
        let refusal = state.refusals.get(&resource).filter(|it| Some(it.version) == wanted.version(resource))?;
        if self.refusals.get(&resource) == Some(refusal) {
            return None;
        }
        self.refusals.insert(resource, refusal.clone());
        Some(Nack {
            revision: wanted.revision,
            reason: refusal.reason.to_owned(),
            detail: refusal.detail.chars().take(LONGEST_DETAIL).collect(),
            resource: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use homeward_proto::v1::{ClientCredentials, Snapshot};

    use super::*;

    fn wanted(versions: &[(Resource, u64)]) -> Wanted {
        let versions =
            versions.iter().map(|&(resource, version)| ResourceVersion { resource: resource.into(), version });
        Wanted::of(Snapshot {
            revision: 9,
            client_credentials: Some(ClientCredentials::default()),
            key_set: b"{}".to_vec().into(),
            versions: versions.collect(),
            ..Snapshot::default()
        })
    }

    fn in_effect(resource: Resource, version: u64, mut state: State) -> State {
        state.applied.versions.set(resource, Some(version));
        state
    }

    fn refused(version: u64, detail: &str) -> State {
        let refusal = Refusal { version, reason: "PROBE_FAILED", detail: detail.to_owned() };
        State { refusals: BTreeMap::from([(Resource::ClientCredentials, refusal)]), ..State::default() }
    }

    #[test]
    fn each_resource_is_acknowledged_by_itself_and_once() {
        let wanted = wanted(&[(Resource::KeySet, 1), (Resource::Homes, 2), (Resource::ClientCredentials, 3)]);
        let mut told = Told::by_hello(&State::default());
        assert!(told.news(&State::default(), &wanted).is_empty());
        let state = in_effect(Resource::KeySet, 1, refused(3, &"x".repeat(2000)));
        let [Message::Ack(ack), Message::Nack(nack)] = &told.news(&state, &wanted)[..] else { panic!("two") };
        assert_eq!((ack.revision, ack.resources[0].version), (9, 1));
        assert_eq!((nack.resource.unwrap().version, nack.detail.len()), (3, LONGEST_DETAIL));
        assert!(told.news(&state, &wanted).is_empty(), "a refused credential holds up no key set, and is told once");
        let state = in_effect(Resource::ClientCredentials, 3, state);
        assert!(matches!(&told.news(&state, &wanted)[..], [Message::Ack(_)]));
    }

    #[test]
    fn what_hello_said_is_told_again_only_if_it_was_sent_again() {
        let wanted = wanted(&[(Resource::KeySet, 1)]);
        let state = in_effect(Resource::KeySet, 1, State::default());
        let mut told = Told::by_hello(&state);
        assert!(told.news(&state, &wanted).is_empty());
        told.awaits_answer(&[Resource::KeySet]);
        assert!(matches!(&told.news(&state, &wanted)[..], [Message::Ack(_)]));
    }

    #[test]
    fn what_is_wanted_no_more_is_not_told() {
        let wanted = wanted(&[(Resource::ClientCredentials, 4)]);
        let mut told = Told::by_hello(&State::default());
        assert!(told.news(&refused(3, "old"), &wanted).is_empty());
        assert!(told.news(&in_effect(Resource::ClientCredentials, 3, State::default()), &wanted).is_empty());
    }

    #[test]
    fn whole_revisions_are_acknowledged_when_the_credentials_are_in_effect() {
        let wanted = wanted(&[]);
        let version = wanted.version(Resource::ClientCredentials).unwrap();
        let mut told = Told::by_hello(&State::default());
        let refused = refused(version, "no");
        let [Message::Nack(nack)] = &told.news(&refused, &wanted)[..] else { panic!("one") };
        assert_eq!((nack.revision, nack.resource), (9, None));
        let state = in_effect(Resource::ClientCredentials, version, State::default());
        let [Message::Ack(ack)] = &told.news(&state, &wanted)[..] else { panic!("one") };
        assert_eq!((ack.revision, ack.resources.len()), (9, 0));
        assert!(told.news(&state, &wanted).is_empty());
    }
}
