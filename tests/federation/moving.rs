//! A federation that moves, is backed up and restored, and one that the previous release left behind: shipped programs on
//! their own files.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::storage::archive::Archive;
use homeward_broker::storage::sled::SledStore;
use homeward_broker::storage::{Expect, Key, Page, Store, Write};
use serde_json::{Value, json};
use world::{Browser, Federation, InstanceOptions};

use crate::town::{Town, town_with, user};

/// A store as the previous release's own broker left it, with two instances, two trust edges, a session and join tokens; and
/// the key that seals its secrets, and nothing else. What has expired in there is swept away by whoever opens it.
const PREVIOUS: &[u8] = include_bytes!("previous/store.jsonl");
const PREVIOUS_KEY: &str = include_str!("previous/kek");

fn relying_party() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

fn store_of(federation: &Federation) -> PathBuf {
    federation.world.folder().join("broker/store")
}

/// Private, as a key has to be.
#[expect(clippy::disallowed_methods, reason = "nobody reads it before it is whole, and nothing is lost with it")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn put(key: Key, value: Vec<u8>) -> Write {
    Write { key, expect: Expect::Any, value: Some(value) }
}

/// A founded federation whose store is the previous release's.
async fn previous_release() -> Federation {
    let federation = Federation::founded("").await.unwrap();
    let store = store_of(&federation);
    std::fs::remove_dir_all(&store).unwrap();
    write(&federation.world.folder().join("broker/kek"), PREVIOUS_KEY);
    let archive = Archive::read(BufReader::new(PREVIOUS), |_| true).unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&store).unwrap());
    for (key, value) in archive.entries {
        store.commit(vec![put(key, value)]).await.unwrap();
    }
    federation
}

async fn entry(folder: &Path, key: Key) -> Option<Value> {
    let found = SledStore::open(folder).unwrap().get(&key).await.unwrap();
    found.map(|found| serde_json::from_slice(&found.value[8..]).unwrap())
}

#[tokio::test]
async fn a_store_of_the_previous_release_opens_and_is_of_this_one_then() {
    let mut federation = previous_release().await;
    federation.serve().await.unwrap();
    let instances = federation.ops_json(&["instance", "list"]).await.unwrap();
    let states: Vec<_> = instances.as_array().unwrap().iter().map(|one| (&one["name"], &one["state"])).collect();
    assert_eq!(states, [(&json!("alpha"), &json!("confirmed")), (&json!("beta"), &json!("confirmed"))]);
    assert_eq!(federation.ops_json(&["trust", "list"]).await.unwrap().as_array().unwrap().len(), 2);
    // The keys are the old ones, opened with the old key.
    let old = Archive::read(BufReader::new(PREVIOUS), |key| key.table() == "signing_key").unwrap();
    let old: Vec<_> = old.entries.keys().map(|key| key.id().to_owned()).collect();
    let keys = federation.ops_json(&["keys", "list"]).await.unwrap();
    assert!(keys.as_array().unwrap().iter().all(|key| old.iter().any(|kid| key["key_id"] == **kid)), "{keys}");
    federation.stop_broker().await.unwrap();
    let schema = entry(&store_of(&federation), Key::new("schema", "version")).await.unwrap();
    assert_eq!(schema, json!({"version": 3, "epoch": 0}));
    // And it opens again.
    federation.serve().await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_in_one_sentence() {
    let mut federation = Federation::founded("").await.unwrap();
    {
        let store = SledStore::open(&store_of(&federation)).unwrap();
        let value = [&[0xff; 8][..], br#"{"version":4,"epoch":0,"unheard_of":{}}"#].concat();
        store.commit(vec![put(Key::new("schema", "version"), value)]).await.unwrap();
    }
    let refused = format!("{:#}", federation.serve().await.unwrap_err());
    assert!(refused.contains("written by a newer broker (schema 4, this one knows 3)"), "{refused}");
}

/// The configuration of a broker that has nothing but the store and the key.
fn bare(federation: &Federation) -> String {
    let folder = federation.world.folder();
    let text = std::fs::read_to_string(&federation.config).unwrap();
    let listen = text.split("[listen]").nth(1).unwrap();
    let bare = format!(
        "store = \"sled:{0}/broker/store\"\nkey_encryption_key_file = \"{0}/broker/kek\"\nadmin_socket = \"{0}/admin.sock\"\n\
         [listen]{listen}",
        folder.display()
    );
    write(&federation.config, &bare);
    text
}

#[tokio::test]
async fn a_broker_needs_the_store_and_the_key_and_nothing_else() {
    let mut federation = Federation::founded("").await.unwrap();
    let full = bare(&federation);
    federation.serve().await.unwrap();
    let issuer = federation.issuer().unwrap();
    let discovery = async |issuer: &str| {
        let address = format!("{issuer}/.well-known/openid-configuration");
        reqwest::get(address).await.unwrap().json::<Value>().await.unwrap()["issuer"].clone()
    };
    assert_eq!(discovery(&issuer).await, issuer);
    federation.stop_broker().await.unwrap();
    // Another name in a file is everybody's from then on, and the log says so. The federation's own stays for ever.
    let other = issuer.replace("localhost", "127.0.0.1");
    write(&federation.config, &full.replace(&issuer, &other));
    federation.serve().await.unwrap();
    federation.stop_broker().await.unwrap();
    let log = std::fs::read_to_string(&federation.log).unwrap();
    assert!(log.contains(&format!("public_url \"{issuer}\" -> \"{other}\"")), "{log}");
    bare(&federation);
    federation.serve().await.unwrap();
    assert_eq!(discovery(&issuer).await, other);
    federation.stop_broker().await.unwrap();
    write(&federation.config, &full.replace("test.example", "other.example"));
    let refused = format!("{:#}", federation.serve().await.unwrap_err());
    assert!(refused.contains("trust_domain can never change"), "{refused}");
}

fn address(folder: &Path) -> String {
    format!("sled:{}", folder.display())
}

async fn contents(folder: &Path) -> Vec<(Key, Vec<u8>)> {
    let store = SledStore::open(folder).unwrap();
    let all = store.list(Page { prefix: String::new(), after: None, limit: usize::MAX }).await.unwrap();
    // Where the audit ends moves on with every broker that serves.
    let lasting = |key: &Key| !["schema", "audit_head", "audit_day"].contains(&key.table());
    all.into_iter().filter(|(key, _)| lasting(key)).map(|(key, found)| (key, found.value)).collect()
}

/// Killed again and again, the same command moves the federation; neither store is served by two, and no half one by any.
#[tokio::test]
async fn a_migration_survives_kill_9() {
    let mut federation = Federation::founded("").await.unwrap();
    let (source, target) = (store_of(&federation), federation.world.folder().join("elsewhere"));
    {
        let store = SledStore::open(&source).unwrap();
        for batch in 0..150 {
            let entry = |id| put(Key::new("held_name", &format!("{batch:04}.{id:04}")), vec![b'x'; 500]);
            store.commit((0..100).map(entry).collect()).await.unwrap();
        }
    }
    let before = contents(&source).await;
    let (from, to) = (address(&source), address(&target));
    let command = ["store", "migrate", "--from", &from, "--to", &to];
    federation.serve().await.unwrap();
    let refused = federation.ops(&command).await.unwrap_err().to_string();
    assert!(refused.contains("in use by another broker: stop that one first"), "{refused}");
    federation.stop_broker().await.unwrap();
    let mut killed = 0;
    for millis in [60, 120, 200, 300, 450] {
        // The process is killed when the future that waits for it is dropped.
        if tokio::time::timeout(Duration::from_millis(millis), federation.ops(&command)).await.is_err() {
            killed += 1;
        }
    }
    assert!(killed > 0, "nothing was killed");
    if let Err(refused) = federation.ops(&command).await {
        assert!(refused.to_string().contains("has been moved"), "{refused}");
    }
    let after = contents(&target).await;
    assert_eq!(after.len(), before.len());
    assert!(before.iter().all(|(key, value)| {
        let stands = after.binary_search_by(|(other, _)| other.cmp(key)).map(|at| &after[at].1 == value);
        stands == Ok(true)
    }));
    let refused = format!("{:#}", federation.serve().await.unwrap_err());
    assert!(refused.contains(&format!("the federation has moved to {to}")), "{refused}");
    let text = std::fs::read_to_string(&federation.config).unwrap();
    write(&federation.config, &format!("store = {to:?}\n{text}"));
    federation.serve().await.unwrap();
}

/// What is refused says what to do next, and leaves nothing behind.
#[tokio::test]
async fn a_refusal_leaves_nothing_behind() {
    let federation = Federation::founded("").await.unwrap();
    let (source, folder) = (store_of(&federation), federation.world.folder());
    let (empty, elsewhere, file) = (folder.join("empty"), folder.join("deep/er"), folder.join("a.backup"));
    std::fs::create_dir(&empty).unwrap();
    let (at, file) = (source.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    let (at_empty, to) = (address(&empty), address(&elsewhere));
    let refused = async |command: &[&str]| federation.ops(command).await.unwrap_err().to_string();
    let migrate = async |from: &str, to: &str| refused(&["store", "migrate", "--from", from, "--to", to]).await;

    for other in [address(&source), format!("sled:{at}/../store")] {
        let said = migrate(&address(&source), &other).await;
        assert!(said.contains("are the same store"), "{said}");
    }
    let said = migrate(&at_empty, &to).await;
    assert!(said.contains("holds no federation: look at the address after --from"), "{said}");
    assert!(!folder.join("deep").exists());
    let said = refused(&["backup", "--to", &file]).await;
    assert!(said.contains(&format!("or read its store without it: --store sled:{at}")), "{said}");
    let said = refused(&["backup", "--to", &file, "--store", &at_empty]).await;
    assert!(said.contains("holds no federation: look at the address after --store"), "{said}");
    federation.ops(&["backup", "--to", &file, "--store", &address(&source)]).await.unwrap();
    std::fs::rename(&source, folder.join("broken")).unwrap();
    let said = refused(&["restore", "--from", &file, "--release", "nobody"]).await;
    assert!(said.contains("--release names nobody, which the backup does not have"), "{said}");
    assert!(!source.exists());
    let table = federation.ops(&["restore", "--from", &file]).await.unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    assert!(table.lines().count() > 5 && table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

async fn kids(town: &Town) -> Vec<String> {
    let address = format!("{}/jwks", town.federation.issuer().unwrap());
    let keys = reqwest::get(address).await.unwrap().json::<Value>().await.unwrap();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn secret_of(town: &Town) -> String {
    std::fs::read_to_string(town.beta.folder.join("credentials/current/homeward.json")).unwrap()
}

/// Backed up while it serves; then an instance is cut off, a secret and a key turn, certificates are renewed and a session
/// ends. Nothing of that lives again; whom ops release, comes back by itself.
#[tokio::test]
async fn what_ended_after_the_backup_does_not_live_again() {
    let settings = "[lifetimes]\ninstance_certificate = 20\n[rotation]\nkey_set_max_age = 1\nacknowledge_within = 10\n\
                    grace_for_absent = 1\n";
    let mut town = town_with(&["session"], settings).await;
    let mut gamma = town.federation.instance("gamma", relying_party()).await.unwrap();
    let mut stolen = Browser::new();
    assert_eq!(user(&town.sign_in(&mut stolen).await)["preferred_username"], "alice@alpha");
    let client = town.client();
    let answer = client.answer(&mut stolen, &client.authorize(&[])).await;
    let token = client.redeem(&answer["code"]).await.1["access_token"].as_str().unwrap().to_owned();
    assert_eq!(client.userinfo(&token).await.0, 200);
    let generation = async |town: &Town| {
        town.federation.ops_json(&["instance", "show", "beta"]).await.unwrap()["certificate_generation"].as_u64()
    };
    let (before, old_kids, old_secret) = (generation(&town).await, kids(&town).await, secret_of(&town));
    let file = town.federation.world.folder().join("homeward.backup");
    let to = file.to_string_lossy().into_owned();
    town.federation.ops(&["backup", "--to", &to]).await.unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);

    town.federation.ops(&["instance", "quarantine", "gamma", "--reason", "stolen"]).await.unwrap();
    town.federation.ops(&["session", "end", "--user", "alice@alpha"]).await.unwrap();
    town.federation.ops(&["secret", "rotate", "--instance", "beta"]).await.unwrap();
    town.federation.ops(&["keys", "rotate"]).await.unwrap();
    let renewed = async {
        while generation(&town).await <= before || secret_of(&town) == old_secret {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.unwrap();
    let turned_secret = secret_of(&town);
    town.federation.stop_broker().await.unwrap();

    let restore = ["restore", "--from", &to, "--release", "alpha,beta"];
    let refused = town.federation.ops(&restore).await.unwrap_err().to_string();
    assert!(refused.contains("is not empty, and a restore touches no existing federation"), "{refused}");
    std::fs::rename(store_of(&town.federation), town.federation.world.folder().join("broken")).unwrap();
    // With another key nothing is restored, and nothing of it stays.
    let (key, other) =
        (town.federation.world.folder().join("broker/kek"), town.federation.world.folder().join("other"));
    std::fs::rename(&key, &other).unwrap();
    write(&key, PREVIOUS_KEY);
    let refused = town.federation.ops(&restore).await.unwrap_err().to_string();
    assert!(refused.contains("put the one there that it was made under"), "{refused}");
    assert!(!store_of(&town.federation).exists());
    std::fs::rename(&other, &key).unwrap();
    let shown = town.federation.ops_json(&restore).await.unwrap();
    assert_eq!(shown["epoch"], 1);
    let became = |what: &str| {
        let outcome = shown["outcomes"].as_array().unwrap().iter().find(|outcome| outcome["what"] == what);
        outcome.unwrap_or_else(|| panic!("{shown}"))["now"].as_str().unwrap().to_owned()
    };
    assert_eq!((became("instance beta").as_str(), became("instance gamma").as_str()), ("released", "quarantined"));
    assert!(became("everything short-lived").contains("session"), "{shown}");

    town.federation.serve().await.unwrap();
    for name in ["alpha", "beta"] {
        let back = async { while town.federation.in_sync(name).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(90), back).await.unwrap();
    }
    let gamma_now = town.federation.ops_json(&["instance", "show", "gamma"]).await.unwrap();
    assert_eq!(gamma_now["state"], "quarantined", "{gamma_now}");
    assert!(gamma_now["quarantine_reason"].as_str().unwrap().contains("restored from the backup"), "{gamma_now}");
    // Nothing from before the backup or after it is good for anything.
    assert_eq!(town.federation.ops_json(&["session", "list"]).await.unwrap(), json!([]));
    assert!(kids(&town).await.iter().all(|kid| !old_kids.contains(kid)));
    assert!(![&old_secret, &turned_secret].contains(&&secret_of(&town)));
    assert!(generation(&town).await > before);
    assert_eq!(client.userinfo(&token).await.0, 401);
    stolen.set_cookie("beta.localhost", "site-session", "gone");
    stolen.set_cookie("alpha.localhost", "site-session", "gone");
    let asked = stolen.open(&town.start()).await.unwrap();
    assert!(town.is_at(&asked, &town.alpha), "{} {}", asked.url, asked.body);
    // And alice signs in again.
    let mut browser = Browser::new();
    assert_eq!(user(&town.sign_in(&mut browser).await)["preferred_username"], "alice@alpha");

    // Ops find gamma good after all: its agent, started again, is back.
    town.federation.ops(&["instance", "release", "gamma"]).await.unwrap();
    gamma.run().await.unwrap();
    town.federation.in_sync("gamma").await.unwrap();
}
