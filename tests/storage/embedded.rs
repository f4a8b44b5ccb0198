//! What the embedded store owes over time: nobody waits while it is swept, and its files do not grow for ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::clock::Timestamp;
use homeward_broker::storage::sled::SledStore;
use homeward_broker::storage::table::{Record, Table};
use homeward_broker::storage::{Expect, MAX_WRITES, Store, Write, expiry};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::Instant;

/// What a session or grant is as JSON, about.
const SIZE: usize = 700;

/// How many records expire at once. A sweep takes three minutes for a million of them.
const EXPIRED: usize = 20_000;

/// Of a login: its session, what the session is found by, its code.
const RECORDS_OF_LOGIN: usize = 3;
const LOGINS_A_DAY: usize = 2_000;
const DAYS: usize = 30;

#[derive(Clone, Serialize, Deserialize)]
struct Short {
    expires_at: Timestamp,
    content: String,
}

impl Record for Short {
    const TABLE: &'static str = "short";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

fn store(folder: &TempDir) -> Arc<dyn Store> {
    Arc::new(SledStore::open(&folder.path().join("store")).unwrap())
}

fn record(expires_at: i64) -> Short {
    Short { expires_at: Timestamp::from_secs(expires_at), content: "x".repeat(SIZE) }
}

/// The 99th of 100 commits waits so long, of one that makes another when the last was answered.
async fn p99(store: &Arc<dyn Store>, until: impl Fn() -> bool) -> Duration {
    let (table, mut waits) = (Table::<Short>::new(store.clone()), Vec::new());
    while waits.len() < 100 || !until() {
        let write = table.put(&format!("new-{}", waits.len()), &record(i64::MAX), Expect::Absent).unwrap();
        let began = Instant::now();
        store.commit(vec![write]).await.unwrap();
        waits.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    waits.sort();
    waits[waits.len() * 99 / 100]
}

async fn commit_all(store: &Arc<dyn Store>, writes: Vec<Write>) {
    for part in writes.chunks(MAX_WRITES) {
        store.commit(part.to_vec()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_commits_while_it_is_swept_does_not_wait() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    let table = Table::<Short>::new(store.clone());
    let old = (0..EXPIRED).map(|n| table.put(&format!("{n:09}"), &record(1), Expect::Any).unwrap());
    commit_all(&store, old.collect()).await;
    let quiet = p99(&store, || true).await;
    let sweep = tokio::spawn({
        let store = store.clone();
        async move { expiry::sweep(store.as_ref(), "short", Timestamp::from_secs(2)).await.unwrap() }
    });
    // The keys of those who are measured again.
    let fresh = (0..100).map(|n| table.delete(&format!("new-{n}"), Expect::Any)).collect();
    commit_all(&store, fresh).await;
    let swept = p99(&store, || sweep.is_finished()).await;
    assert_eq!(sweep.await.unwrap(), EXPIRED);
    say(&format!("p99 of a commit: {quiet:?} in quiet, {swept:?} while {EXPIRED} expired records are deleted"));
    assert!(swept < quiet + Duration::from_millis(50), "{quiet:?} became {swept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_logins_takes_no_more_room_than_its_first_days() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    let table = Table::<Short>::new(store.clone());
    let mut sizes = Vec::new();
    for day in 0..DAYS {
        let now = i64::try_from(day).unwrap() * 86_400;
        let begun = (0..LOGINS_A_DAY).flat_map(|login| {
            (0..RECORDS_OF_LOGIN).map(move |part| {
                // Random ids, as all are.
                let id = (day * LOGINS_A_DAY + login).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part;
                (format!("{id:016x}"), record(now + 43_200))
            })
        });
        let writes: Vec<_> = begun.map(|(id, record)| table.put(&id, &record, Expect::Any).unwrap()).collect();
        // As they come: a login is a commit, and some come together.
        let commits = writes.chunks(RECORDS_OF_LOGIN * 4).map(|writes| store.commit(writes.to_vec()));
        for together in futures_in_turns(commits.collect(), 32).await {
            together.unwrap();
        }
        commit_all(&store, expired(&store, now + 43_201).await).await;
        sizes.push(size(folder.path()) / 1024);
    }
    say(&format!("KiB on disk at the end of each day: {sizes:?}"));
    let (early, late) = (sizes[..5].iter().max().unwrap(), sizes[DAYS - 5..].iter().max().unwrap());
    assert!(late <= &(early * 2), "{sizes:?}");
}

/// What a sweep would delete, without its pauses.
async fn expired(store: &Arc<dyn Store>, now: i64) -> Vec<Write> {
    let table = Table::<Short>::new(store.clone());
    let found = table.all().await.unwrap();
    let old = found.into_iter().filter(|(_, found)| found.record.expires_at <= Timestamp::from_secs(now));
    old.map(|(id, found)| table.delete(&id, Expect::Version(found.version))).collect()
}

/// So many at once.
async fn futures_in_turns<F: Future>(mut futures: Vec<F>, width: usize) -> Vec<F::Output> {
    let mut done = Vec::new();
    while !futures.is_empty() {
        let turn = futures.split_off(futures.len().saturating_sub(width));
        done.extend(futures_util::future::join_all(turn).await);
    }
    done
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => size(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[expect(clippy::print_stdout, reason = "what was measured")]
fn say(line: &str) {
    println!("{line}");
}
