//! Ops and their socket: who may ask, and what they are told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use world::process::run;
use world::{Browser, Federation};

use crate::town::{Town, town, user};

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The kernel says who is at the other end of the socket; permissions that somebody loosened let nobody else in.
#[tokio::test]
async fn another_user_is_refused_even_with_the_socket_open_to_all() {
    assert!(rustix::process::geteuid().is_root(), "this test becomes another user, so it must be run by root");
    let federation = Federation::start().await.unwrap();
    let folder = federation.world.folder();
    let config = folder.join("broker.toml");
    let program = folder.join("homeward-broker");
    #[expect(clippy::disallowed_methods, reason = "a program where the other user may read it, for this test")]
    std::fs::copy(&world::programs::programs().unwrap().broker, &program).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let command = [program.to_str().unwrap(), "--config", config.to_str().unwrap(), "token", "list"];
    let ask = || async {
        let output = run(Path::new("setpriv"), &[&nobody[..], &command[..]].concat(), None).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    chmod(folder, 0o755);
    let (code, sentence) = ask().await;
    assert_eq!(code, Some(1), "{sentence}");
    assert!(sentence.contains("run this as root or as the broker's user"), "{sentence}");
    chmod(&folder.join("broker"), 0o755);
    chmod(&folder.join("broker/admin.sock"), 0o777);
    let (code, sentence) = ask().await;
    assert_eq!((code, sentence.trim()), (Some(1), "homeward-broker: this is not for you"));
    assert!(federation.broker.as_ref().unwrap().log().contains("an admin call by somebody else was refused"));
}

#[tokio::test]
async fn an_existing_federation_is_not_touched_by_init() {
    let federation = Federation::start().await.unwrap();
    let refused = federation.ops(&["init"]).await.unwrap_err().to_string();
    assert!(refused.contains("is not empty, and init touches no existing federation"), "{refused}");
    let refused = federation.ops(&["init", "--if-needed"]).await.unwrap_err().to_string();
    assert!(refused.contains("is in use by another broker"), "{refused}");
    federation.ops(&["healthcheck"]).await.unwrap();
    let refused = federation.ops(&["serve"]).await.unwrap_err().to_string();
    assert!(refused.contains("is in use by another broker"), "{refused}");
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_can_be_taken_back() {
    let federation = Federation::start().await.unwrap();
    let text = federation.token("alpha", &["--note", "for Alice"]).await.unwrap();
    let listed = federation.ops_json(&["token", "list"]).await.unwrap();
    assert_eq!((&listed[0]["state"], &listed[0]["note"]), (&"issued".into(), &"for Alice".into()));
    assert!(!listed.to_string().contains(&text));
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(federation.ops_json(&["token", "revoke", id]).await.unwrap()["state"], "revoked");
    for (arguments, sentence) in [
        (&["token", "revoke", "0123456789abcdef"][..], "there is no such join token"),
        (&["token", "revoke", "1"], "16 hex digits"),
        (&["token", "create", "--instance", "Alpha"], "an instance name is 1 to 63 characters"),
        (&["token", "create", "--instance", "alpha", "--lifetime", "2w"], "for example 30m"),
        (&["instance", "show", "nobody"], "there is no such instance"),
        (
            &["trust", "allow", "--relying-party", "beta", "--home", "alpha"],
            "there is no instance beta: enrol it first",
        ),
    ] {
        let refused = federation.ops(arguments).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{arguments:?}: {refused}");
    }
}

/// Waits until nobody from elsewhere is signed in at beta.
async fn logged_out_at_beta(town: &Town) {
    let empty = async {
        while !town.beta.site.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), empty).await.unwrap();
}

#[tokio::test]
async fn the_two_consents_of_an_edge_are_given_and_taken_back_each_by_itself() {
    let mut town = town(&["session"]).await;
    for (side, lacks) in [
        ("home", "alpha does not release its users to beta, which accepts them"),
        ("relying-party", "beta does not accept users of alpha, which releases them"),
    ] {
        let command =
            |verb: &'static str| ["trust", verb, "--relying-party", "beta", "--home", "alpha", "--side", side];
        let mut browser = Browser::new();
        assert_eq!(user(&town.sign_in(&mut browser).await)["username"], "alice@alpha");
        let taken = town.federation.ops_json(&command("deny")).await.unwrap();
        assert_eq!((&taken["side"], &taken["denied"]), (&side.into(), &true.into()));
        logged_out_at_beta(&town).await;

        // Nobody comes in, also after a restart, and ops see whose word is missing.
        town.federation.stop_broker().await.unwrap();
        town.federation.serve().await.unwrap();
        let page = browser.open(&town.start()).await.unwrap();
        assert!(page.body.contains("accepts accounts from nowhere else yet"), "{} {}", page.url, page.body);
        let listed = town.federation.ops_json(&["trust", "list"]).await.unwrap();
        assert_eq!(
            (&listed[0]["missing_side"], &listed[0]["email_domains"][0]),
            (&side.into(), &"alpha.example".into())
        );
        let table = town.federation.ops(&["trust", "list"]).await.unwrap();
        assert!(table.contains("MISSING SIDE") && table.contains(side), "{table}");
        let again = town.federation.ops(&command("deny")).await.unwrap_err().to_string();
        assert!(again.contains("there is nothing to take away"), "{again}");

        // What explains it says the command that completes it.
        let explain = ["trust", "explain", "--user", "alice@alpha", "--rp", "beta"];
        let explained = town.federation.ops_json(&explain).await.unwrap();
        let problem = explained["problems"].as_array().unwrap().iter().find_map(|problem| {
            let (lacking, says) = problem.as_str().unwrap().split_once(": homeward-broker ")?;
            (lacking == lacks).then(|| says.to_owned())
        });
        let says = problem.unwrap_or_else(|| panic!("{explained}"));
        assert!(explained["account"].is_null(), "{explained}");
        let whole = town.federation.ops_json(&says.split(' ').collect::<Vec<_>>()).await.unwrap();
        assert_eq!((&whole["missing_side"], &whole["email_domains"][0]), (&"".into(), &"alpha.example".into()));
        town.federation.in_sync("alpha").await.unwrap();
        town.federation.in_sync("beta").await.unwrap();
        assert_eq!(user(&town.sign_in(&mut Browser::new()).await)["username"], "alice@alpha");
    }
    let noted = town.federation.ops_json(&["audit", "list", "--kind", "trust_denied"]).await.unwrap();
    let mut noted: Vec<_> = noted.as_array().unwrap().iter().map(|record| record["detail"].clone()).collect();
    noted.sort_by_key(ToString::to_string);
    assert_eq!(noted, ["home", "relying-party"]);
    let wrong = ["trust", "allow", "--relying-party", "beta", "--home", "alpha", "--side", "nobody"];
    assert!(town.federation.ops(&wrong).await.is_err());
}
