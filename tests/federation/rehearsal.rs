//! `homeward-agent doctor --canary`: a whole login by the doctor, among real programs.

use serde_json::Value;
use world::federation::Instance;
use world::process::run;
use world::programs::programs;
use world::{Browser, Federation, InstanceOptions};

use crate::town::{ALICE, PASSWORD, Town, town, user};

/// What the doctor finds, with alice for a canary, and whether it is content.
async fn rehearsed(instance: &Instance, password: &str, more: &[&str]) -> (Value, bool) {
    let config = instance.folder.join("agent.toml");
    let arguments = ["--config", &*config.to_string_lossy(), "doctor", "--output", "json", "--canary", "alice"];
    let output = run(&programs().unwrap().agent, &[&arguments[..], more].concat(), Some(password)).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(PASSWORD), "{said}");
    for secret in ["ticket=", "code=", "state=", "handle=", "homeward-session"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (found, output.status.success())
}

/// The last that it finds about a step.
fn about<'a>(found: &'a Value, step: &str) -> &'a Value {
    let all = found["findings"].as_array().unwrap();
    let step = format!("rehearsal: {step}");
    all.iter()
        .rev()
        .find(|finding| finding["about"] == step)
        .unwrap_or_else(|| panic!("nothing about {step}: {found:#}"))
}

fn says(finding: &Value, verdict: &str, words: &str) {
    let sentence = finding["sentence"].as_str().unwrap();
    assert!(finding["verdict"] == verdict && sentence.contains(words), "{finding:#}");
    assert_eq!(finding["remedy"].is_null(), verdict == "ok", "{finding:#}");
}

/// Nobody is signed in anywhere.
async fn assert_gone(town: &Town) {
    let sessions = town.federation.ops_json(&["session", "list"]).await.unwrap();
    assert!(sessions.to_string().find("alice").is_none(), "{sessions}");
    assert!(town.beta.site.sessions().is_empty(), "{:?}", town.beta.site.sessions());
}

#[tokio::test]
async fn a_canary_is_logged_in_and_out_again() {
    let town = town(&["password"]).await;
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    for step in ["begin", "home", "password", "account", "end"] {
        assert_eq!(about(&found, step)["verdict"], "ok", "{found:#}");
    }
    says(about(&found, "account"), "ok", "as alice@alpha");
    says(about(&found, "home"), "ok", "/homeward/login");
    assert_gone(&town).await;
    // The site has fetched the keys in that login at the latest; here it names them.
    let keys = found["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == "keys").unwrap();
    assert_eq!(keys["verdict"], "ok", "{keys:#}");
    // The only home is taken where nobody names one, and a file has the password as well as a pipe.
    let file = town.beta.folder.join("canary");
    let mut written = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(written.create_new(true).write(true), 0o600);
    std::io::Write::write_all(&mut written.open(&file).unwrap(), format!("{PASSWORD}\n").as_bytes()).unwrap();
    let (found, _) = rehearsed(&town.beta, "", &["--password-file", &file.to_string_lossy()]).await;
    says(about(&found, "account"), "ok", "as alice@alpha");
    assert_gone(&town).await;
}

#[tokio::test]
async fn a_login_with_consent_and_the_homes_own_page_is_rehearsed_as_well() {
    let federation = Federation::start().await.unwrap();
    let options = |accounts, relying_party, methods| InstanceOptions { accounts, relying_party, methods };
    let alpha = federation.instance("alpha", options(vec![ALICE], true, vec!["session", "password"])).await.unwrap();
    let command = ["trust", "allow", "--relying-party", "alpha", "--home", "alpha", "--consent", "always"];
    federation.ops(&command).await.unwrap();
    federation.in_sync("alpha").await.unwrap();
    // An instance that is a home is its own users' home.
    let (found, _) = rehearsed(&alpha, PASSWORD, &[]).await;
    says(about(&found, "consent"), "ok", "agreed");
    says(about(&found, "account"), "ok", "as alice@alpha");
    says(about(&found, "end"), "ok", "signed out again");
    let without = federation.ops_json(&["session", "list"]).await.unwrap();
    assert!(!without.to_string().contains("alice"), "{without}");
}

#[tokio::test]
async fn what_stands_in_the_way_has_a_sentence_and_a_remedy() {
    let mut town = town(&["password"]).await;
    let (found, content) = rehearsed(&town.beta, "wrong", &["--home", "alpha"]).await;
    assert!(!content, "{found:#}");
    says(about(&found, "password"), "error", "user name or password is wrong");

    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "gamma"]).await;
    says(about(&found, "home"), "error", "beta does not accept users of gamma");
    let remedy = about(&found, "home")["remedy"].as_str().unwrap();
    assert!(remedy.contains("trust allow --relying-party beta --home gamma"), "{remedy}");

    town.beta.site.keep_cookies_from_browsers(true);
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    says(about(&found, "account"), "error", "keeps its cookies site-login from browsers");
    town.beta.site.keep_cookies_from_browsers(false);
    assert_gone(&town).await;

    town.alpha.agent.take().unwrap().stop().await.unwrap();
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    says(about(&found, "home"), "error", "not connected to the broker");
    assert!(about(&found, "home")["remedy"].as_str().unwrap().contains("systemctl start homeward-agent"));

    town.federation.ops(&["trust", "deny", "--relying-party", "beta", "--home", "alpha"]).await.unwrap();
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    says(about(&found, "home"), "error", "accepts no home yet");

    town.federation.stop_broker().await.unwrap();
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    let all = found["findings"].as_array().unwrap();
    assert!(all.iter().any(|finding| finding["about"].as_str().unwrap().starts_with("rehearsal") && finding["verdict"] == "error"), "{found:#}");
}

/// What the rehearsal began ends, and nothing else does.
#[tokio::test]
async fn a_rehearsal_leaves_other_browsers_alone() {
    let town = town(&["session", "password"]).await;
    let mut browser = Browser::new();
    let signed_in = user(&town.sign_in(&mut browser).await);
    let (found, _) = rehearsed(&town.beta, PASSWORD, &["--home", "alpha"]).await;
    says(about(&found, "account"), "ok", "as alice@alpha");
    says(about(&found, "end"), "ok", "signed out again");
    let still = user(&browser.open(&town.beta.site.at("/")).await.unwrap());
    assert_eq!(still["sub"], signed_in["sub"]);
    assert_eq!(town.beta.site.sessions().len(), 1);
}
