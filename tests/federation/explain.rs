//! What a login would come to, told before anybody tries; and what becomes of who may not log in at home any more.

use std::time::Duration;

use serde_json::{Value, json};
use world::{Browser, Federation, InstanceOptions};

use crate::town::{ALICE, Town, town, user};

/// How long something that should come about may take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn explained(town: &Town, user: &str) -> Value {
    town.federation.ops_json(&["trust", "explain", "--user", user, "--rp", "beta"]).await.unwrap()
}

/// What the relying party gets, and why.
fn claim(explained: &Value, name: &str) -> (Value, String) {
    let claims = explained["claims"].as_array().unwrap();
    let found = claims.iter().find(|claim| claim["claim"] == name);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {name}: {explained}"));
    (found["value"].clone(), found["reason"].as_str().unwrap().to_owned())
}

fn problems(explained: &Value) -> String {
    let problems = explained["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap());
    problems.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn ops_are_told_what_a_login_would_come_to_before_anybody_tries() {
    let mut town = town(&["session"]).await;
    let before = explained(&town, "alice@alpha").await;
    assert_eq!(before["identity_source"], "home", "{before}");
    assert_eq!(claim(&before, "preferred_username").0, "alice@alpha");
    assert_eq!(claim(&before, "email_verified").0, true);
    assert!(claim(&before, "groups").1.contains("--group"), "{before}");
    assert_eq!(before["account"]["outcome"], "makes the account alice@alpha", "{before}");
    assert!(problems(&before).contains("beta learns of no groups of alpha"), "{before}");

    // What was said is what comes.
    let signed_in = user(&town.sign_in(&mut Browser::new()).await);
    for name in ["sub", "preferred_username", "email", "homeward_name", "name"] {
        assert_eq!(signed_in[name], claim(&before, name).0, "{name}");
    }
    let after = explained(&town, "alice@alpha").await;
    assert_eq!(after["account"]["outcome"], "signs in to alice@alpha", "{after}");

    assert!(problems(&explained(&town, "nobody@alpha").await).contains("alpha knows nobody who logs in as nobody"));
    // Without its agent the home says nothing new.
    town.alpha.agent.take().unwrap().kill().await.unwrap();
    let remembered = loop {
        let remembered = explained(&town, "alice@alpha").await;
        if remembered["identity_source"] != "home" {
            break remembered;
        }
    };
    assert_eq!(remembered["identity_source"], "last_login", "{remembered}");
    assert_eq!(claim(&remembered, "sub").0, signed_in["sub"]);
    assert!(problems(&remembered).contains("its agent is not connected"), "{remembered}");

    let deny = ["trust", "deny", "--relying-party", "beta", "--home", "alpha"];
    assert_eq!(town.federation.ops_json(&deny).await.unwrap()["denied"], true);
    let denied = explained(&town, "alice@alpha").await;
    assert!(problems(&denied).contains("homeward-broker trust allow --relying-party beta --home alpha"), "{denied}");
    // Whoever is not to have alpha's users is not even asked about one.
    assert!(problems(&denied).contains("beta was not asked") && denied["account"].is_null(), "{denied}");
    let empty = async {
        while !town.beta.site.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "nobody else reads the file, and nothing is lost with it")]
async fn whoever_is_disabled_at_home_is_out_everywhere() {
    let federation = Federation::start().await.unwrap();
    let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] };
    let mut alpha = federation.prepare("alpha", home).await.unwrap();
    let config = alpha.folder.join("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("[home]\n", "[home]\nwatch_every = 1\n");
    std::fs::write(&config, text).unwrap();
    alpha.enrol(&federation.token("alpha", &[]).await.unwrap()).await.unwrap();
    alpha.run().await.unwrap();
    let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let beta = federation.instance("beta", party).await.unwrap();
    federation.allow("beta", "alpha", &["alpha.example"]).await.unwrap();
    for name in ["alpha", "beta"] {
        federation.in_sync(name).await.unwrap();
    }
    let town = Town { federation, alpha, beta };
    let mut browser = Browser::new();
    user(&town.sign_in(&mut browser).await);

    town.alpha.site.disable("alice");
    let empty = async {
        while !town.beta.site.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
    let sessions = town.federation.ops_json(&["session", "list"]).await.unwrap();
    assert_eq!(sessions, json!([]));
    let page = browser.open(&town.start()).await.unwrap();
    assert!(town.is_at(&page, &town.alpha), "nobody is signed in at the broker any more: {}", page.url);
}
