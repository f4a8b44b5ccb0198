//! What only a cluster can suffer: members that die, stop, lose each other or forget.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use homeward_broker::storage::address::{self, EtcdAccess, StoreAddress};
use homeward_broker::storage::{Expect, Store, StoreError, Watch, WatchEvent};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use world::{Etcd, Wire};

use crate::place::open;
use crate::words::{get, list, named, put, write};

/// No call takes longer than the store's deadline, and a little of a busy machine.
const BOUND: Duration = Duration::from_secs(6);

/// What a client of a store saw.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    longest: Duration,
}

/// Creates records one after the other, until told to stop. Each is counted in the same commit.
fn client(store: Arc<dyn Store>, name: usize, go_on: Arc<AtomicBool>) -> JoinHandle<Seen> {
    tokio::spawn(async move {
        let mut seen = Seen::default();
        for n in 0.. {
            if !go_on.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("code/{name}-{n}");
            let begun = Instant::now();
            match store.commit(vec![write(&key, Expect::Absent, Some("x"))]).await {
                Ok(_) => seen.acknowledged.push(key),
                Err(StoreError::Unavailable(_)) => seen.unknown.push(key),
                // Nobody else writes it: a second try that meets the first would say so.
                Err(other) => panic!("{key}: {other}"),
            }
            seen.longest = seen.longest.max(begun.elapsed());
        }
        seen
    })
}

/// Counts by reading and writing again.
fn counter(store: Arc<dyn Store>, go_on: Arc<AtomicBool>) -> JoinHandle<(u64, u64)> {
    tokio::spawn(async move {
        let (mut acknowledged, mut unknown) = (0, 0);
        while go_on.load(Ordering::Relaxed) {
            let Ok(found) = store.get(&named("counter/1")).await else { continue };
            let (old, expect) = match &found {
                Some(found) => {
                    (String::from_utf8(found.value.clone()).unwrap().parse().unwrap(), Expect::Version(found.version))
                }
                None => (0_u64, Expect::Absent),
            };
            match store.commit(vec![write("counter/1", expect, Some(&(old + 1).to_string()))]).await {
                Ok(_) => acknowledged += 1,
                Err(StoreError::Conflict) => {}
                Err(_) => unknown += 1,
            }
        }
        (acknowledged, unknown)
    })
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillLeader,
    PauseLeader,
    /// The member that the store asks first.
    KillFirst,
    PauseFirst,
}

/// Whatever one member of three does, nobody who writes notices more than a delay, and nothing is lost or done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_lost_and_no_write_with_it() {
    let etcd = Etcd::three().await.unwrap();
    let mut all = Vec::new();
    let mut counted = (0, 0);
    for fault in [Fault::KillLeader, Fault::PauseLeader, Fault::KillFirst, Fault::PauseFirst] {
        let go_on = Arc::new(AtomicBool::new(true));
        let store = open(&etcd.address("homeward")).await;
        let clients: Vec<_> = (0..4).map(|n| client(store.clone(), all.len() + n, go_on.clone())).collect();
        let counters: Vec<_> = (0..2).map(|_| counter(store.clone(), go_on.clone())).collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leader = etcd.leader().await.unwrap();
        match fault {
            Fault::KillLeader => etcd.kill(leader).unwrap(),
            Fault::PauseLeader => etcd.pause(leader).await.unwrap(),
            Fault::KillFirst => etcd.kill(0).unwrap(),
            Fault::PauseFirst => etcd.pause(0).await.unwrap(),
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        match fault {
            Fault::KillLeader => etcd.start(leader).unwrap(),
            Fault::PauseLeader => etcd.resume(leader).unwrap(),
            Fault::KillFirst => etcd.start(0).unwrap(),
            Fault::PauseFirst => etcd.resume(0).unwrap(),
        }
        etcd.answers().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        go_on.store(false, Ordering::Relaxed);
        for client in clients {
            let seen = client.await.unwrap();
            assert!(seen.longest < BOUND, "{fault:?}: {:?}", seen.longest);
            // On a busy machine a vote may take longer than a call.
            assert!(seen.unknown.len() <= 1, "{fault:?}: {:?}", seen.unknown);
            assert!(seen.acknowledged.len() > 10, "{fault:?}: {}", seen.acknowledged.len());
            println!("{fault:?}: {} written, longest {:?}", seen.acknowledged.len(), seen.longest);
            all.push(seen);
        }
        for counter in counters {
            let (acknowledged, unknown) = counter.await.unwrap();
            counted = (counted.0 + acknowledged, counted.1 + unknown);
        }
    }
    let store = open(&etcd.address("homeward")).await;
    let written: u64 = get(&store, "counter/1").await.unwrap().parse().unwrap();
    assert!((counted.0..=counted.0 + counted.1).contains(&written), "{written} of {counted:?}");
    let there: BTreeSet<String> = list(&store, "code/", None, usize::MAX >> 1).await.into_iter().collect();
    let unknown: BTreeSet<String> = all.iter_mut().flat_map(|seen| seen.unknown.drain(..)).collect();
    let acknowledged: BTreeSet<String> = all.into_iter().flat_map(|seen| seen.acknowledged).collect();
    assert_eq!(acknowledged.difference(&there).next(), None, "lost");
    assert!(there.difference(&acknowledged).all(|key| unknown.contains(key)));
}

/// A commit whose answer is lost is sent again, and is done once: also when what it wrote is gone by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_done_once() {
    let etcd = Etcd::one().await.unwrap();
    let wire = Wire::to(etcd.port(0)).await.unwrap();
    let store = open(&format!("etcd:http://{}/homeward", wire.address)).await;
    let other = open(&etcd.address("homeward")).await;
    put(&store, "t/first", "x").await;
    for (round, redeemed) in [(0, false), (1, true), (2, false), (3, true)] {
        let key = format!("code/{round}");
        wire.swallow_answers();
        let committing = {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.commit(vec![write(&key, Expect::Absent, Some("issued"))]).await })
        };
        let issued = async {
            while get(&other, &key).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, issued).await.unwrap();
        let version = other.get(&named(&key)).await.unwrap().unwrap().version;
        if redeemed {
            other.commit(vec![write(&key, Expect::Version(version), None)]).await.unwrap();
        }
        wire.cut().await;
        let revision = committing.await.unwrap().unwrap();
        // A version is the revision of the commit that wrote it, on both backends.
        assert_eq!(format!("{version:?}"), format!("Version({})", revision.as_u64()));
        assert_eq!(get(&store, &key).await.is_some(), !redeemed, "round {round}");
    }
}

/// A commit that was given up may happen later, but nothing that comes after it by the same way is the worse for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_given_up_is_in_nobodys_way() {
    let etcd = Etcd::one().await.unwrap();
    let store = open(&etcd.address("homeward")).await;
    put(&store, "t/first", "x").await;
    etcd.pause(0).await.unwrap();
    let begun = Instant::now();
    let given_up = store.commit(vec![write("t/late", Expect::Absent, Some("x"))]).await;
    assert!(begun.elapsed() < BOUND);
    let Err(StoreError::Unavailable(why)) = given_up else { panic!("{given_up:?}") };
    assert!(why.to_string().contains("do not answer in time"), "{why}");
    etcd.resume(0).unwrap();
    for n in 0..5 {
        store.commit(vec![write(&format!("t/{n}"), Expect::Absent, Some("x"))]).await.unwrap();
    }
    let there = get(&store, "t/late").await.is_some();
    let again = store.commit(vec![write("t/late", Expect::Absent, Some("x"))]).await;
    assert_eq!(matches!(again, Err(StoreError::Conflict)), there, "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_there_is_one_sentence_in_time_and_no_restart_after() {
    let etcd = Etcd::three().await.unwrap();
    let store = open(&etcd.address("homeward")).await;
    put(&store, "t/before", "x").await;
    let mut watch = store.watch("t/").await.unwrap();
    let leader = etcd.leader().await.unwrap();
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    etcd.kill(one).unwrap();
    etcd.kill(two).unwrap();
    let (before, begun) = (named("t/before"), Instant::now());
    let calls = tokio::join!(
        store.commit(vec![write("t/a", Expect::Absent, Some("x"))]),
        store.get(&before),
        store.watch("u/"),
    );
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    let (Err(commit), Err(read), Err(begin)) = calls else { panic!("{calls:?}") };
    for refused in [commit, read, begin] {
        let StoreError::Unavailable(why) = refused else { panic!("{refused}") };
        assert!(why.to_string().starts_with("it has no leader: start its members again"), "{why}");
    }
    let fresh = address::open(&etcd.address("homeward").parse().unwrap(), &EtcdAccess::default()).await;
    let fresh = fresh.unwrap_err().to_string();
    assert!(fresh.contains("cannot be used: it has no leader"), "{fresh}");

    etcd.start(one).unwrap();
    etcd.start(two).unwrap();
    etcd.answers().await.unwrap();
    put(&store, "t/after", "x").await;
    assert_eq!(get(&store, "t/before").await.as_deref(), Some("x"));
    let seen = until(&mut watch, "t/after").await;
    assert!(seen.iter().all(|key| key == "t/a" || key == "t/after"), "{seen:?}");
}

/// The keys that change up to this one.
async fn until(watch: &mut Watch, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|key| key != last) {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
        let WatchEvent::Changed { key, .. } = event else { panic!("{event:?} after {seen:?}") };
        seen.push(key.as_str().to_owned());
    }
    seen
}

/// The member that a watch is at dies, comes back and stops: the watch goes on, and has every change once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_misses_nothing_when_it_has_to_move() {
    let etcd = Arc::new(Etcd::three().await.unwrap());
    let watching = open(&etcd.address("homeward")).await;
    let writing = open(&etcd.address("homeward")).await;
    let mut watch = watching.watch("t/").await.unwrap();
    let writer = tokio::spawn(async move {
        for n in 0..400 {
            put(&writing, &format!("t/{n}"), "x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let faults = tokio::spawn(async move {
        for index in [0, 1, 2] {
            tokio::time::sleep(Duration::from_millis(700)).await;
            etcd.kill(index).unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            etcd.start(index).unwrap();
            etcd.answers().await.unwrap();
        }
        etcd
    });
    let seen = until(&mut watch, "t/399").await;
    assert_eq!(seen, (0..400).map(|n| format!("t/{n}")).collect::<Vec<_>>());
    writer.await.unwrap();
    drop(faults.await.unwrap());
}

/// What happened while a watch was away may be forgotten by then: it says so, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_comes_back_too_late_says_reload() {
    let etcd = Etcd::three().await.unwrap();
    let watching = open(&etcd.address_of(0, "homeward")).await;
    let writing = open(&etcd.address("homeward")).await;
    let mut watch = watching.watch("t/").await.unwrap();
    put(&writing, "t/seen", "x").await;
    assert_eq!(until(&mut watch, "t/seen").await, ["t/seen"]);
    etcd.kill(0).unwrap();
    for n in 0..10 {
        put(&writing, &format!("t/{n}"), "x").await;
    }
    let now = writing.commit(Vec::new()).await.unwrap();
    etcd.ctl(&["compact", &now.as_u64().to_string()]).await.unwrap();
    etcd.start(0).unwrap();
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
    assert_eq!(event, Some(WatchEvent::Reload));
    assert_eq!(list(&watching, "t/", None, 100).await.len(), 11);
    put(&writing, "t/after", "x").await;
    assert_eq!(until(&mut watch, "t/after").await, ["t/after"]);
}

/// Has the etcd know a role with rights below the prefix, and ask everybody who he is.
async fn with_users(etcd: &Etcd, users: &[&str]) {
    let role = ["role add homeward", "role grant-permission homeward readwrite homeward/ --prefix=true"];
    let root = ["user add root:rooted", "user grant-role root root"];
    for command in [&root[..], &role, users, &["auth enable"]].concat() {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>()).await.unwrap();
    }
}

/// An etcd that lets in whoever has a certificate of its CA, and a user with rights below one prefix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_users_are_checked_by_both_sides() {
    let etcd = Etcd::guarded().await.unwrap();
    let guard = etcd.guard().unwrap().clone();
    let folder = guard.ca.parent().unwrap().to_owned();
    #[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
    let password = |text: &str| -> PathBuf {
        let file = folder.join(text.trim());
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        file
    };
    let at: StoreAddress = etcd.address("homeward").parse().unwrap();
    let certified = EtcdAccess {
        ca_file: Some(guard.ca.clone()),
        certificate_and_key_files: Some((guard.certificate.clone(), guard.key.clone())),
        user_and_password_file: None,
    };
    let user = |name: &str, text: &str| EtcdAccess {
        user_and_password_file: Some((name.to_owned(), password(text))),
        ..certified.clone()
    };
    put(&address::open(&at, &certified).await.unwrap(), "t/a", "before there were users").await;
    let users = ["user add homeward:correct", "user grant-role homeward homeward", "user add stranger:strange"];
    with_users(&etcd, &users).await;
    // With the end of line that an editor leaves.
    let store = address::open(&at, &user("homeward", "correct\n")).await.unwrap();
    put(&store, "t/b", "x").await;
    let mut watch = store.watch("t/").await.unwrap();
    put(&store, "t/c", "x").await;
    assert_eq!(until(&mut watch, "t/c").await, ["t/c"]);
    assert_eq!(list(&store, "t/", None, 10).await, ["t/a", "t/b", "t/c"]);

    let foreign = Etcd::guarded().await.unwrap();
    let bare = EtcdAccess { certificate_and_key_files: None, ..user("homeward", "correct") };
    let mistaken = EtcdAccess { ca_file: Some(foreign.guard().unwrap().ca.clone()), ..user("homeward", "correct") };
    let missing = EtcdAccess { ca_file: Some("/nowhere/ca.pem".into()), ..certified.clone() };
    let open = user("homeward", "open-to-others");
    let file = &open.user_and_password_file.as_ref().unwrap().1;
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    for (access, sentence) in [
        (certified.clone(), "it wants a user: name one by [etcd] user and password_file"),
        (user("homeward", "wrong"), "it does not accept the user: see [etcd] user and password_file"),
        (user("nobody", "correct"), "it does not accept the user"),
        (user("stranger", "strange"), "stranger has no right to read and write below the store's prefix"),
        (user("stranger", "strange"), "`etcdctl role grant-permission <role> readwrite homeward/ --prefix=true`"),
        (bare, "no connection by TLS"),
        (mistaken, "no connection by TLS (invalid peer certificate"),
        (missing, "etcd.ca_file: /nowhere/ca.pem cannot be read"),
        (open, "open-to-others may be read by others than its owner: chmod 600"),
    ] {
        let begun = Instant::now();
        let refused = address::open(&at, &access).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{refused}");
        assert!(begun.elapsed() < BOUND, "{refused}: {:?}", begun.elapsed());
    }
}

/// What is renewed in the files of `[etcd]` is taken up by a store that is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_and_certificates_are_renewed_under_an_open_store() {
    let etcd = Etcd::guarded().await.unwrap();
    let guard = etcd.guard().unwrap().clone();
    let file = guard.ca.parent().unwrap().join("password");
    #[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
    let password = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    password("before");
    let access = EtcdAccess {
        ca_file: Some(guard.ca.clone()),
        certificate_and_key_files: Some((guard.certificate.clone(), guard.key.clone())),
        user_and_password_file: Some(("homeward".to_owned(), file.clone())),
    };
    with_users(&etcd, &["user add homeward:before", "user grant-role homeward homeward"]).await;
    let store = address::open(&etcd.address("homeward").parse().unwrap(), &access).await.unwrap();
    put(&store, "t/a", "x").await;
    let mut watch = store.watch("t/").await.unwrap();
    for command in ["user delete homeward", "user add homeward:behind", "user grant-role homeward homeward"] {
        let command = format!("--user=root:rooted {command}");
        etcd.ctl(&command.split(' ').collect::<Vec<_>>()).await.unwrap();
    }
    password("behind");
    put(&store, "t/b", "x").await;

    etcd.kill(0).unwrap();
    etcd.renew().unwrap();
    etcd.start(0).unwrap();
    etcd.answers().await.unwrap();
    put(&store, "t/c", "x").await;
    assert_eq!(list(&store, "t/", None, 10).await, ["t/a", "t/b", "t/c"]);
    assert_eq!(until(&mut watch, "t/c").await.last().unwrap(), "t/c");
}
