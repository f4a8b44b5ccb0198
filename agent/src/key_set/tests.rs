//! Each way to know, against an application that holds what it was made to fetch.

use std::sync::Mutex;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::config::PublicUrl;
use crate::disk::PrivateDir;
use crate::recipe::Recipe;

/// The keys that the application holds, and those that it will find when it fetches.
#[derive(Clone, Default)]
struct Keys {
    held: Arc<Mutex<Vec<String>>>,
    published: Arc<Mutex<Vec<String>>>,
}

async fn fetch(State(keys): State<Keys>) {
    *keys.held.lock().unwrap() = keys.published.lock().unwrap().clone();
}

async fn show(State(keys): State<Keys>) -> Json<Value> {
    Json(json!({"keys": *keys.held.lock().unwrap()}))
}

struct Beta {
    _folder: tempfile::TempDir,
    keys: Keys,
    standing: Arc<Standing>,
    wanted: watch::Sender<Wanted>,
}

impl Beta {
    /// `recipe` is the section; without it only time tells.
    async fn start(recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::default();
        let routes = Router::new().route("/keys", get(show)).route("/fetch", post(fetch)).with_state(keys.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let text = format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\n[relying_party]\ncallback_paths = ['/cb']\n\
             client_auth_method = 'client_secret_post'\nid_token_alg = 'ES256'\npkce = false\n{recipe}"
        );
        let means = Recipe::parse(&text).unwrap().relying_party.unwrap().key_set;
        let means = means.map_or(Means::Time, Means::Recipe);
        let public_url = PublicUrl::try_from("https://beta.example".parse::<url::Url>().unwrap()).unwrap();
        let application = Application::new(url, &public_url).unwrap();
        let standing = Arc::new(Standing::open(PrivateDir::open(&folder.path().join("data")).unwrap()).unwrap());
        standing.change(|applied| applied.proved = true).unwrap();
        let (wanted, receiver) = watch::channel(Wanted::default());
        let prover = KeySetProver { application, means, standing: standing.clone() };
        tokio::spawn(prover.run(receiver));
        Self { _folder: folder, keys, standing, wanted }
    }

    fn publishes(&self, version: u64, key_ids: &[&str]) {
        *self.keys.published.lock().unwrap() = key_ids.iter().map(|&id| id.to_owned()).collect();
        let keys: Vec<Value> = key_ids.iter().map(|id| json!({"kid": id})).collect();
        let content = json!({"keys": keys}).to_string();
        self.wanted.send_modify(|wanted| {
            wanted.key_set = Some(Versioned { version, content });
            wanted.key_set_max_age = Duration::from_millis(600);
        });
    }

    async fn acknowledges(&self, version: u64) -> ProvedKeys {
        let mut standing = self.standing.watch();
        let there = standing.wait_for(|state| state.applied.versions.of(Resource::KeySet) == Some(version));
        let state = tokio::time::timeout(Duration::from_secs(10), there).await.unwrap().unwrap();
        state.applied.proved_keys.clone()
    }
}

#[tokio::test]
async fn an_application_that_keeps_no_keys_verifies_with_any() {
    let beta = Beta::start("[relying_party.key_set]\nproof = 'no_cache'").await;
    beta.publishes(1, &["one"]);
    let proved = beta.acknowledges(1).await;
    assert_eq!((proved.key_ids, proved.method.as_str()), (vec!["one".to_owned()], "KEY_SET_PROOF_METHOD_NO_CACHE"));
    assert!(beta.standing.applied().key_set.contains("one"), "the key set is on disk");
}

#[tokio::test]
async fn an_application_that_shows_its_keys_must_show_every_one() {
    let shown = "[relying_party.key_set]\nproof = 'shown'\npath = '/keys'\npointer = '/keys/*'";
    let beta = Beta::start(shown).await;
    beta.publishes(1, &["one", "two"]);
    let mut standing = beta.standing.watch();
    let refused = standing.wait_for(|state| state.refusals.contains_key(&Resource::KeySet)).await.unwrap().clone();
    let refusal = &refused.refusals[&Resource::KeySet];
    assert_eq!((refusal.version, refusal.reason), (1, "KEY_SET_NOT_SHOWN"));
    assert!(refusal.detail.contains("one two"), "{}", refusal.detail);
    *beta.keys.held.lock().unwrap() = vec!["zero".to_owned(), "two".to_owned(), "one".to_owned()];
    assert_eq!(beta.acknowledges(1).await.method, "KEY_SET_PROOF_METHOD_SHOWN");
    // What is known already needs no proof: a key that goes makes nobody wait.
    beta.keys.held.lock().unwrap().clear();
    beta.publishes(2, &["two"]);
    assert_eq!(beta.acknowledges(2).await.key_ids, ["two"]);
}

#[tokio::test]
async fn an_application_is_made_to_fetch_new_keys() {
    let warmed = "[relying_party.key_set]\nproof = 'warmed'\nwarm = [{ method = 'POST', path = '/fetch' }]";
    let beta = Beta::start(warmed).await;
    beta.publishes(1, &["one"]);
    assert_eq!(beta.acknowledges(1).await.method, "KEY_SET_PROOF_METHOD_WARMED");
    assert_eq!(*beta.keys.held.lock().unwrap(), ["one"]);
    let broken = "[relying_party.key_set]\nproof = 'warmed'\nwarm = [{ method = 'POST', path = '/nowhere' }]";
    let beta = Beta::start(broken).await;
    beta.publishes(1, &["one"]);
    let mut standing = beta.standing.watch();
    let refused = standing.wait_for(|state| !state.refusals.is_empty()).await.unwrap();
    assert_eq!(refused.refusals[&Resource::KeySet].reason, "KEY_SET_NOT_WARMED");
}

#[tokio::test]
async fn without_anything_better_caches_are_waited_for() {
    let beta = Beta::start("").await;
    beta.publishes(1, &["one"]);
    let mut standing = beta.standing.watch();
    standing.wait_for(|state| state.applied.key_set_wait.is_some()).await.unwrap();
    assert_eq!(beta.standing.applied().versions.of(Resource::KeySet), None, "not before they have expired");
    assert_eq!(beta.acknowledges(1).await.method, "KEY_SET_PROOF_METHOD_MAX_AGE");
    assert!(beta.standing.applied().key_set_wait.is_none());
}

#[tokio::test]
async fn who_verifies_nothing_has_nothing_to_prove() {
    let beta = Beta::start("").await;
    let prover = KeySetProver {
        application: {
            let public_url = PublicUrl::try_from("https://beta.example".parse::<url::Url>().unwrap()).unwrap();
            Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap()
        },
        means: Means::NoRelyingParty,
        standing: beta.standing.clone(),
    };
    let key_set = Versioned { version: 9, content: r#"{"keys":[{"kid":"one"}]}"#.to_owned() };
    prover.prove(&key_set, Duration::MAX / 4).await.unwrap();
    assert_eq!(beta.acknowledges(9).await.method, "KEY_SET_PROOF_METHOD_NO_RELYING_PARTY");
    let rubbish = Versioned { version: 10, content: "<html>".to_owned() };
    assert!(matches!(prover.prove(&rubbish, Duration::ZERO).await, Err(KeySetError::Malformed(_))));
}
