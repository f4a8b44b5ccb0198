//! What was heard of agents outlives the broker that heard it.

use std::sync::Arc;
use std::time::Duration;

use crate::registry::tests::{NOW, name};
use crate::registry::{Acknowledged, HomeStatus, Liveness, Refusal, Resource, Sighting};
use crate::storage::sled::SledStore;
use crate::storage::{MAX_WRITES, Store};

fn store() -> (Arc<SledStore>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(SledStore::open(folder.path()).unwrap()), folder)
}

async fn open(store: &Arc<SledStore>) -> Liveness {
    let (liveness, keep_saved) = Liveness::open(store.clone()).await.unwrap();
    tokio::spawn(keep_saved);
    liveness
}

fn online(sighting: &mut Sighting) {
    (sighting.online, sighting.home_ready) = (true, true);
}

async fn revision(store: &Arc<SledStore>) -> u64 {
    store.commit(Vec::new()).await.unwrap().as_u64()
}

#[tokio::test]
async fn what_an_agent_said_outlives_a_restart() {
    let (store, _folder) = store();
    let liveness = open(&store).await;
    let acknowledged = Acknowledged { key_ids: vec!["kid".into()], bundle_version: 2, ..Acknowledged::default() };
    let refusal =
        Refusal { reason: "RELOAD_FAILED".into(), detail: "It said no.".into(), version: u64::MAX, since: NOW };
    let said = |sighting: &mut Sighting| {
        online(sighting);
        sighting.acknowledged = acknowledged.clone();
        sighting.refusals.insert(Resource::ClientCredentials, refusal.clone());
        sighting.applied_revision = 7;
    };
    liveness.update(&name("alpha"), said, NOW);
    liveness.save().await.unwrap();

    let seen = open(&store).await.sighting(&name("alpha")).unwrap();
    assert_eq!((seen.acknowledged, seen.refusals.values().next()), (acknowledged, Some(&refusal)));
    assert_eq!((seen.applied_revision, seen.last_seen_at), (7, NOW));
    assert!(!seen.online && !seen.home_ready, "it is connected to nobody yet");
}

#[tokio::test]
async fn ten_thousand_agents_are_written_in_few_commits() {
    let (store, _folder) = store();
    let (liveness, _nobody_writes) = Liveness::open(store.clone()).await.unwrap();
    for n in 0..10_000 {
        liveness.update(&name(&format!("site-{n}")), online, NOW);
    }
    let before = revision(&store).await;
    liveness.save().await.unwrap();
    assert_eq!(revision(&store).await - before - 1, 10_000_u64.div_ceil(MAX_WRITES as u64));
    assert_eq!(open(&store).await.sightings().len(), 10_000);
}

#[tokio::test]
async fn signs_of_life_alone_are_written_rarely() {
    let (store, _folder) = store();
    let (liveness, _nobody_writes) = Liveness::open(store.clone()).await.unwrap();
    let alpha = name("alpha");
    liveness.update(&alpha, online, NOW);
    liveness.save().await.unwrap();
    let before = revision(&store).await;
    for seconds in [30, 60, 299] {
        liveness.amend(&alpha, |sighting| sighting.last_seen_at = NOW + Duration::from_secs(seconds));
        liveness.save().await.unwrap();
    }
    assert_eq!(revision(&store).await, before + 1, "nothing was written");
    liveness.amend(&alpha, |sighting| sighting.last_seen_at = NOW + Duration::from_secs(300));
    liveness.save().await.unwrap();
    assert_eq!(revision(&store).await, before + 3);
}

#[tokio::test]
async fn a_forgotten_agent_is_not_remembered_for_its_last_words() {
    let (store, _folder) = store();
    let liveness = open(&store).await;
    let alpha = name("alpha");
    liveness.update(&alpha, online, NOW);
    liveness.save().await.unwrap();
    liveness.forget(&alpha);
    liveness.amend(&alpha, |sighting| sighting.online = false);
    liveness.save().await.unwrap();
    assert_eq!(liveness.sighting(&alpha), None);
    assert_eq!(open(&store).await.sighting(&alpha), None);
}

#[tokio::test]
async fn rotations_are_woken_by_news_and_not_by_signs_of_life() {
    let liveness = Liveness::default();
    let alpha = name("alpha");
    let mut news = liveness.acknowledgements();
    liveness.update(&alpha, online, NOW);
    assert!(news.has_changed().unwrap());
    assert_eq!(liveness.home_status(&alpha), HomeStatus::Ready);
    news.mark_unchanged();
    liveness.update(&alpha, online, NOW + Duration::from_secs(30));
    assert!(!news.has_changed().unwrap());
    liveness.amend(&alpha, |sighting| sighting.acknowledged.key_ids.push("kid".into()));
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    liveness.amend(&alpha, |sighting| sighting.online = false);
    assert!(news.has_changed().unwrap());
}
