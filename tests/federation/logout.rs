//! Logouts that arrive, through the whole federation: whoever is down, slow, killed or without a way to be told.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use world::browser::Page;
use world::federation::Instance;
use world::{Browser, InstanceOptions};

use crate::town::{PASSWORD, Town, town, user};

/// How long something that should come about may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn party() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

/// A town with gamma, a further relying party that accepts alpha, with or without a back channel.
async fn larger_town(back_channel: bool) -> (Town, Instance) {
    let town = town(&["session"]).await;
    let mut gamma = town.federation.prepare("gamma", party()).await.unwrap();
    if !back_channel {
        gamma.without_back_channel().unwrap();
    }
    let token = town.federation.token("gamma", &[]).await.unwrap();
    gamma.enrol(&token).await.unwrap();
    gamma.run().await.unwrap();
    town.federation.allow("gamma", "alpha", &[]).await.unwrap();
    town.federation.in_sync("gamma").await.unwrap();
    (town, gamma)
}

/// Signs in at another relying party with the session that the browser has.
async fn enter(browser: &mut Browser, instance: &Instance) {
    user(&browser.open(&instance.site.at("/sign-in-with-homeward")).await.unwrap());
    assert_eq!(instance.site.sessions().len(), 1);
}

async fn leave(browser: &mut Browser, instance: &Instance) -> Page {
    browser.open(&instance.site.at("/logout-everywhere")).await.unwrap()
}

/// Waits until nobody is signed in there.
async fn empties(instance: &Instance) {
    let empty = async {
        while !instance.site.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, empty).await;
    assert!(
        waited.is_ok(),
        "{}: {:?} {:?}",
        instance.site.name(),
        instance.site.sessions(),
        instance.site.heard_logouts()
    );
}

/// Waits until the logout for this one is in this state.
async fn becomes(town: &Town, target: &str, state: &str) -> Value {
    let begun = Instant::now();
    loop {
        let listed = town.federation.ops_json(&["session", "logouts"]).await.unwrap();
        let found = listed.as_array().unwrap().iter().find(|one| one["target"] == target && one["state"] == state);
        if let Some(found) = found {
            return found.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{target} is not {state}: {listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// S8, S9: alice leaves beta, and gamma hears of it by its back channel, her home by its agent.
#[tokio::test]
async fn a_logout_at_one_relying_party_reaches_the_others_and_the_home() {
    let (town, gamma) = larger_town(true).await;
    let mut browser = Browser::new();
    let first = user(&town.sign_in(&mut browser).await);
    enter(&mut browser, &gamma).await;
    let page = leave(&mut browser, &town.beta).await;
    // beta and gamma have front channels: the page that loads them goes on by itself.
    assert!(page.body.contains("You are signed out") && page.body.matches("<iframe").count() == 2, "{}", page.body);
    let refresh = &page.headers["refresh"];
    let back = refresh.strip_prefix("2;url=").unwrap_or_else(|| panic!("{refresh}"));
    assert!(back.starts_with(&town.beta.site.at("/signed-out?state=")), "{back}");
    let signed_out = browser.open(back).await.unwrap();
    assert!(signed_out.body.contains("id=\"signed-out\""), "{}", signed_out.body);
    empties(&gamma).await;
    empties(&town.alpha).await;
    for (target, channel) in [("beta", "back channel"), ("gamma", "back channel"), ("alpha", "home")] {
        assert_eq!(becomes(&town, target, "confirmed").await["channel"], channel);
    }
    let heard = gamma.site.heard_logouts();
    assert!(matches!(&heard[..], [only] if only.ended == Ok(1)), "{heard:?}");
    // The frames of a browser that loads them end nothing more.
    let source = page.body.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(browser.get(&source.replace("&#38;", "&")).await.unwrap().status, 200);
    // Nobody gets in again without proving who they are.
    let page = browser.open(&town.start()).await.unwrap();
    assert!(town.is_at(&page, &town.alpha) && page.body.contains("password"), "{} {}", page.url, page.body);
    let again = user(&browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap());
    assert_eq!(again["sub"], first["sub"]);
    assert_ne!(again["sid"], first["sid"]);
}

/// An application that takes no logout tokens has its sessions ended by its agent, also if that comes later.
#[tokio::test]
async fn an_application_without_back_channel_is_logged_out_by_its_agent() {
    let (town, mut gamma) = larger_town(false).await;
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    enter(&mut browser, &gamma).await;
    gamma.agent.take().unwrap().stop().await.unwrap();
    leave(&mut browser, &town.beta).await;
    becomes(&town, "beta", "confirmed").await;
    assert_eq!(becomes(&town, "gamma", "pending").await["channel"], "agent");
    assert_eq!(gamma.site.sessions().len(), 1);
    gamma.run().await.unwrap();
    empties(&gamma).await;
    assert_eq!(becomes(&town, "gamma", "confirmed").await["detail"], "1 session(s) ended");
}

/// The broker dies between commit and delivery; who failed is tried again by the next one, and who is slow delays nobody.
#[tokio::test]
async fn what_was_committed_arrives_whoever_fails_sleeps_or_dies() {
    let (mut town, gamma) = larger_town(true).await;
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    enter(&mut browser, &gamma).await;
    gamma.site.slow_back_channel(Duration::from_secs(60), 1);
    town.beta.site.fail_back_channel(1);
    let begun = Instant::now();
    leave(&mut browser, &town.beta).await;
    becomes(&town, "beta", "confirmed").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "beta waited for gamma: {:?}", begun.elapsed());
    assert_eq!(becomes(&town, "gamma", "pending").await["attempts"], 0);
    town.federation.kill_broker().await.unwrap();
    assert_eq!(gamma.site.sessions().len(), 1);
    town.federation.serve().await.unwrap();
    empties(&gamma).await;
    becomes(&town, "gamma", "confirmed").await;
    // The receipts are there still.
    let listed = town.federation.ops_json(&["session", "logouts"]).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
}

/// `session end --user alice@alpha` ends everything everywhere and prints who confirmed.
#[tokio::test]
async fn ops_end_all_sessions_of_a_user_and_see_who_confirms() {
    let (town, gamma) = larger_town(false).await;
    let (mut one, mut two) = (Browser::new(), Browser::new());
    town.sign_in(&mut one).await;
    enter(&mut one, &gamma).await;
    town.sign_in(&mut two).await;
    let listed = town.federation.ops_json(&["session", "list", "--user", "alice@alpha"]).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed, sorted(&town.federation.ops_json(&["session", "list"]).await.unwrap(), &listed));
    let stats = town.federation.ops_json(&["session", "stats"]).await.unwrap();
    let logins: Vec<u64> = stats.as_array().unwrap().iter().filter_map(|line| line["logins"].as_u64()).collect();
    assert_eq!((logins.len(), logins.iter().sum()), (24, 3), "{stats}");
    let ended = town.federation.ops_json(&["session", "end", "--user", "alice@alpha"]).await.unwrap();
    assert_eq!((&ended["sessions_ended"], &ended["grants_ended"]), (&2.into(), &0.into()), "{ended}");
    let told = ended["logouts"].as_array().unwrap();
    assert!(told.len() == 4 && told.iter().all(|one| one["state"] == "confirmed"), "{ended}");
    for instance in [&town.alpha, &town.beta, &gamma] {
        assert!(instance.site.sessions().is_empty(), "{}", instance.site.name());
    }
    assert_eq!(town.federation.ops_json(&["session", "list"]).await.unwrap(), Value::Array(Vec::new()));
    // Somebody who cannot be told is named, by the exit code too.
    town.sign_in(&mut one).await;
    town.beta.site.fail_back_channel(5);
    let id = town.federation.ops_json(&["session", "list"]).await.unwrap()[0]["id"].as_str().unwrap().to_owned();
    let refused = town.federation.ops(&["session", "end", "--session", &id, "--wait", "1"]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("not confirmed by beta"), "{refused}");
    for (arguments, sentence) in [
        (&["session", "end", "--session", &id][..], "there is no such session"),
        (&["session", "end", "--user", "nobody@alpha"], "nobody of this name has signed in"),
        (&["session", "end", "--user", "alice"], "write the user as name@home"),
        (&["session", "retry", "x"], "26 hex digits"),
        (&["session", "retry", "00000000000000000000000000"], "there is no such logout"),
    ] {
        let refused = town.federation.ops(arguments).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{arguments:?}: {refused}");
    }
}

/// The same sessions in the order of another list.
fn sorted(sessions: &Value, like: &Value) -> Value {
    let all = sessions.as_array().unwrap();
    like.as_array()
        .unwrap()
        .iter()
        .filter_map(|one| all.iter().find(|other| other["id"] == one["id"]))
        .cloned()
        .collect()
}

/// C7: what the home reports ends everything that it vouched for, and nobody else's.
#[tokio::test]
async fn what_a_home_reports_ends_the_users_sessions_everywhere() {
    let town = town(&["session"]).await;
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    let report = |id: &'static str, event: &'static str| {
        let arguments = ["report", "--home-user-id", id, "--event", event, "--output", "json"];
        let agent = &town.alpha;
        async move {
            let printed: Value = serde_json::from_str(&agent.command(&arguments, None).await.unwrap()).unwrap();
            printed["sessions_ended"].as_u64().unwrap()
        }
    };
    assert_eq!(report("user-bob", "logged-out").await, 0);
    assert_eq!(town.beta.site.sessions().len(), 1);
    assert_eq!(report("user-alice", "logged-out").await, 1);
    empties(&town.beta).await;
    // The home knows already.
    let listed = town.federation.ops_json(&["session", "logouts"]).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    browser.open(&town.start()).await.unwrap();
    assert_eq!(town.beta.site.sessions().len(), 1);
    assert_eq!(report("user-alice", "disabled").await, 1);
    empties(&town.beta).await;
}

/// Invariant 6: a home that is cut off takes its users' sessions with it, everywhere.
#[tokio::test]
async fn a_quarantined_home_loses_its_users_sessions_everywhere() {
    let town = town(&["session"]).await;
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    town.federation.ops(&["instance", "quarantine", "alpha", "--reason", "a test"]).await.unwrap();
    empties(&town.beta).await;
    assert_eq!(town.federation.ops_json(&["session", "list"]).await.unwrap(), Value::Array(Vec::new()));
    // Nothing comes back with it.
    town.federation.ops(&["instance", "release", "alpha"]).await.unwrap();
    let silent = browser.open(&town.start()).await.unwrap();
    assert!(!town.is_at(&silent, &town.beta) || silent.body.contains("failure"), "{}", silent.body);
}
