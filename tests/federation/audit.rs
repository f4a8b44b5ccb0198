//! The audit of a whole federation: what is in there, what is not, and that nothing in there is changed unseen.

#![expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;
use tokio::net::UnixDatagram;
use world::{Browser, Federation};

use crate::town::{PASSWORD, Town, town, town_with};

/// All records, as they are exported.
async fn export(federation: &Federation) -> (String, Vec<Value>) {
    let text = federation.ops(&["audit", "export"]).await.unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (text, records)
}

fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

/// The files of the broker.
fn files(federation: &Federation) -> Vec<PathBuf> {
    let chains = std::fs::read_dir(federation.world.folder().join("broker/audit")).unwrap().flatten();
    let chains = chains.map(|entry| entry.path()).filter(|path| path.is_dir());
    chains.flat_map(|chain| std::fs::read_dir(chain).unwrap().flatten().map(|entry| entry.path())).collect()
}

#[tokio::test]
async fn a_login_leaves_its_records_and_none_of_its_secrets() {
    let town = town(&["session"]).await;
    let (client, mut browser) = (town.client(), Browser::new());
    town.sign_in(&mut browser).await;
    // By hand, because these codes and tokens are known here.
    let answer = client.answer(&mut browser, &client.authorize(&[])).await;
    let (_, tokens) = client.redeem(&answer["code"]).await;
    assert_eq!(client.redeem(&answer["code"]).await.0, 400);
    client.redeem("no-code").await;
    let silent = client.answer(&mut Browser::new(), &client.authorize(&[("prompt", "none")])).await;
    assert_eq!(silent["error"], "login_required");
    let lasting = client.authorize(&[("scope", "openid offline_access")]);
    let lasting = client.answer(&mut browser, &lasting).await;
    assert!(client.redeem(&lasting["code"]).await.1["refresh_token"].is_string());
    town.federation.ops(&["session", "end", "--user", "alice@alpha"]).await.unwrap();
    town.federation.ops(&["trust", "deny", "--relying-party", "beta", "--home", "alpha"]).await.unwrap();
    town.federation.ops(&["trust", "deny", "--relying-party", "beta", "--home", "alpha"]).await.unwrap_err();

    let (text, records) = export(&town.federation).await;
    let done = [
        "broker_started",
        "join_token_created",
        "instance_enrolled",
        "certificate_confirmed",
        "trust_allowed",
        "login_begun",
        "home_answered",
        "tokens_issued",
        "session_ended",
        "grants_ended",
        "trust_denied",
    ];
    for event in done {
        assert!(of(&records, event).iter().any(|record| record["outcome"] == "done"), "{event}: {text}");
    }
    let decided = of(&records, "login_decided");
    let entered = decided.iter().find(|record| record["outcome"] == "done").unwrap();
    assert_eq!((&entered["home"], &entered["relying_party"]), (&"alpha".into(), &"beta".into()));
    assert_eq!((&entered["actor"], &entered["source"]), (&"web".into(), &"127.0.0.1".into()));
    let whole = |event| of(&records, event).iter().any(|record| record["transaction"] == entered["transaction"]);
    assert!(whole("login_begun") && whole("home_answered"), "{text}");
    assert!(decided.iter().any(|record| record["reason"] == "login_required"), "{text}");
    assert_eq!(of(&records, "home_answered")[0]["actor"], "agent:alpha");
    assert_eq!(of(&records, "token_replayed")[0]["reason"], "invalid_grant");
    assert!(!of(&records, "tokens_refused").is_empty());
    assert_eq!(of(&records, "trust_denied")[0]["actor"], "uid:0");
    assert_eq!(of(&records, "admin_refused")[0]["object"], "DenyTrust");

    let mut secrets: HashMap<&str, String> = HashMap::new();
    secrets.insert("code", answer["code"].clone());
    for name in ["access_token", "id_token"] {
        secrets.insert(name, tokens[name].as_str().unwrap().to_owned());
    }
    secrets.insert("password", PASSWORD.to_owned());
    for cookie in browser.cookies_of("localhost") {
        secrets.insert("cookie", cookie.split_once('=').map_or(cookie.clone(), |(_, value)| value.to_owned()));
    }
    let credentials = town.beta.folder.join("credentials/current/homeward.json");
    let credentials: Value = serde_json::from_str(&std::fs::read_to_string(credentials).unwrap()).unwrap();
    secrets.insert("client_secret", credentials["client_secret"].as_str().unwrap().to_owned());
    for (name, text) in [
        ("e-mail", "alice@"),
        ("e-mail domain", "alpha.example"),
        ("name", "Archer"),
        ("user name", "alice"),
        ("join token", "hwj1."),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
    ] {
        secrets.insert(name, text.to_owned());
    }
    for (name, secret) in secrets {
        assert!(!text.contains(&secret), "the {name} {secret} is in the audit: {text}");
    }
}

#[tokio::test]
async fn an_edit_is_found_while_the_broker_runs_and_when_it_is_stopped() {
    let mut federation = Federation::start().await.unwrap();
    federation.token("alpha", &[]).await.unwrap();
    let found = federation.ops_json(&["audit", "verify"]).await.unwrap();
    assert_eq!((found[0]["here"].clone(), found[0]["findings"].clone()), (true.into(), Value::Array(Vec::new())));
    federation.kill_broker().await.unwrap();
    // Nobody has to be asked: folder and store are enough.
    federation.ops(&["audit", "verify"]).await.unwrap();
    let listed = federation.ops_json(&["audit", "list", "--kind", "join_token_created"]).await.unwrap();
    assert_eq!(listed[0]["instance"], "alpha");
    let file = files(&federation).remove(0);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"instance\":\"alpha\"", "\"instance\":\"gamma\"")).unwrap();
    let stopped = federation.ops(&["audit", "verify"]).await.unwrap_err().to_string();
    assert!(stopped.contains("the audit is not what was written"), "{stopped}");
    federation.serve().await.unwrap();
    federation.ops(&["audit", "verify"]).await.unwrap_err();
    std::fs::write(&file, text.clone() + std::fs::read_to_string(&file).unwrap().get(text.len()..).unwrap()).unwrap();
    federation.ops(&["audit", "verify"]).await.unwrap();
}

#[tokio::test]
async fn syslog_gets_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    let federation =
        Federation::with_settings(&format!("[audit]\nsyslog = \"unix:{}\"", path.display())).await.unwrap();
    federation.token("alpha", &[]).await.unwrap();
    let mut buffer = vec![0; 8192];
    let created = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        loop {
            let length = log.recv(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(" join_token_created - ") {
                return text;
            }
        }
    });
    let created = created.await.unwrap();
    assert!(created.starts_with("<110>1 ") && created.contains("\"instance\":\"alpha\""), "{created}");
}

/// A disk that is full, here a folder that is no folder.
#[tokio::test]
async fn a_broker_whose_audit_cannot_be_written_says_so_and_does_not_start() {
    let mut federation = Federation::founded("").await.unwrap();
    let audit = federation.world.folder().join("broker/audit");
    std::fs::write(&audit, "").unwrap();
    let refused = federation.serve().await.unwrap_err().to_string();
    assert!(refused.contains("audit") || federation_log(&federation).contains("make it writable"), "{refused}");
    std::fs::remove_file(&audit).unwrap();
    federation.serve().await.unwrap();
}

fn federation_log(federation: &Federation) -> String {
    std::fs::read_to_string(federation.world.folder().join("broker.log")).unwrap_or_default()
}

/// Who restores a backup does not hide what was taken out of the files since.
#[tokio::test]
async fn a_restored_store_still_knows_where_the_audit_ends() {
    let town: Town = town_with(&["session"], "").await;
    let mut federation = town.federation;
    let backup = federation.world.folder().join("backup");
    federation.ops(&["backup", "--to", backup.to_str().unwrap()]).await.unwrap();
    federation.token("gamma", &[]).await.unwrap();
    federation.stop_broker().await.unwrap();
    let store = federation.world.folder().join("broker/store");
    std::fs::remove_dir_all(&store).unwrap();
    federation.ops(&["restore", "--from", backup.to_str().unwrap()]).await.unwrap();
    federation.ops(&["audit", "verify"]).await.unwrap();
    let (text, records) = export(&federation).await;
    assert_eq!((of(&records, "store_restored").len(), of(&records, "backup_made").len()), (1, 1), "{text}");
    let file = files(&federation).remove(0);
    let written = std::fs::read_to_string(&file).unwrap();
    let without: String =
        written.lines().filter(|line| !line.contains("instance_enrolled")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, without).unwrap();
    federation.ops(&["audit", "verify"]).await.unwrap_err();
}
