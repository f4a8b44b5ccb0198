//! The key-encryption key with real programs: in a file, from systemd, in a token; turned under logins and under kill -9.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use world::process::{Log, Running, run};
use world::{Browser, Federation};

use crate::town::{Town, town, user};

const PIN: &str = "pin-canary-4711";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Gives the broker's configuration these lines at its head and this at its foot, instead of those of the last time.
fn configure(federation: &Federation, head: &str, foot: &str) {
    let plain = federation.world.folder().join("plain.toml");
    let text = std::fs::read_to_string(&plain).unwrap_or_else(|_| {
        let text = std::fs::read_to_string(&federation.config).unwrap();
        write(&plain, &text);
        text
    });
    write(&federation.config, &format!("{head}\n{text}\n{foot}\n"));
}

#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn private(path: &Path, text: &str) {
    write(path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Why the broker does not start, in one sentence.
async fn refusal(federation: &mut Federation, environment: &str) -> String {
    let refused = serve(federation, environment).await.unwrap_err().to_string();
    let (_, sentence) = refused.trim().rsplit_once("homeward-broker: ").unwrap_or_else(|| panic!("{refused}"));
    assert!(!sentence.contains('\n'), "{refused}");
    sentence.to_owned()
}

/// Starts the broker with one more variable.
async fn serve(federation: &mut Federation, environment: &str) -> anyhow::Result<()> {
    let broker = world::programs::programs()?.broker.to_string_lossy().into_owned();
    let config = federation.config.to_string_lossy().into_owned();
    let arguments = [environment, &broker, "--config", &config, "serve"];
    // A log of its own, so that what it says of this start is the end of it.
    let log = federation.world.folder().join("start.log");
    drop(std::fs::remove_file(&log));
    federation.broker = Some(Running::start(Path::new("env"), &arguments, Log::everything(&log)).await?);
    Ok(())
}

/// Runs a program with one more variable and gives what it printed.
async fn with(environment: &str, program: &Path, arguments: &[&str]) -> String {
    let arguments = [&[environment, program.to_str().unwrap()], arguments].concat();
    let output = run(Path::new("env"), &arguments, None).await.unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {printed}");
    printed
}

async fn rotate(federation: &Federation) -> bool {
    federation.ops_json(&["kek", "rotate"]).await.unwrap()["turned"] == true
}

async fn shown(federation: &Federation) -> Value {
    federation.ops_json(&["kek", "show"]).await.unwrap()
}

/// The broker runs again, and both agents are there.
async fn back(town: &mut Town) {
    town.federation.serve().await.unwrap();
    for name in ["alpha", "beta"] {
        town.federation.in_sync(name).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_file_turns_under_logins_and_kill_9_and_the_old_one_opens_nothing() {
    let mut town = town(&["session"]).await;
    let folder = town.federation.world.folder().to_owned();
    let (old, new) = (folder.join("broker/kek"), folder.join("new-kek"));
    // One has a session, another one is on her way to it with a ticket of before.
    let (mut signed_in, mut underway) = (Browser::new(), Browser::new());
    user(&town.sign_in(&mut signed_in).await);
    let ticket = underway.open(&town.start()).await.unwrap();
    assert!(town.is_at(&ticket, &town.alpha), "{}", ticket.url);

    let head = format!("key_encryption_key_file = {new:?}\nprevious_key_encryption_key_file = {old:?}");
    configure(&town.federation, &head, "");
    town.federation.ops(&["kek", "create"]).await.unwrap();
    let refused = town.federation.ops(&["kek", "create"]).await.unwrap_err().to_string();
    assert!(refused.contains("exists already"), "{refused}");
    town.federation.stop_broker().await.unwrap();
    back(&mut town).await;
    let before = shown(&town.federation).await;
    assert_eq!(before["data_keys"][0]["key_id"], before["previous_key_id"], "{before}");
    assert!(before["old_key_needed"] == true && before["need"].as_str().unwrap().contains("kek rotate"), "{before}");

    // Killed when brokers take the new data key in: nothing seals with it yet.
    tokio::select! {
        turned = rotate(&town.federation) => panic!("turned too soon: {turned}"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    town.federation.kill_broker().await.unwrap();
    back(&mut town).await;
    let logins = async {
        for _ in 0..8 {
            user(&town.sign_in(&mut Browser::new()).await);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (turned, ()) = tokio::join!(rotate(&town.federation), logins);
    assert!(turned);
    assert!(!rotate(&town.federation).await, "there is nothing left to turn");
    let after = shown(&town.federation).await;
    assert_eq!((&after["stale_records"], &after["unreadable_records"]), (&0.into(), &0.into()), "{after}");
    let need = after["need"].as_str().unwrap();
    assert!(after["old_key_needed"] == false && need.contains("take `previous_…` out of the configuration"), "{after}");
    assert!(!town.federation.broker.as_ref().unwrap().log().contains("the CA has moved"));
    let keys = after["data_keys"].as_array().unwrap();
    assert!(keys.len() == 2 && keys.iter().all(|key| key["key_id"] == after["key_id"]), "{after}");

    // The ticket of before is as good as it was.
    let page = underway.submit(&ticket, &[("username", "alice"), ("password", crate::town::PASSWORD)]).await.unwrap();
    assert_eq!(user(&page)["preferred_username"], "alice@alpha", "{}", page.body);

    // The old key is destroyed before its line in the configuration, and the broker starts all the same.
    let old_key = read(&old);
    std::fs::remove_file(&old).unwrap();
    for head in [head, format!("key_encryption_key_file = {new:?}")] {
        configure(&town.federation, &head, "");
        town.federation.stop_broker().await.unwrap();
        back(&mut town).await;
        // Her session goes on: nobody asks her anything.
        user(&signed_in.open(&town.start()).await.unwrap());
    }
    let log = town.federation.broker.as_ref().unwrap().log();
    assert!(!log.contains(old_key.trim()) && !log.contains(read(&new).trim()), "a key is in the log");

    town.federation.stop_broker().await.unwrap();
    private(&old, &old_key);
    configure(&town.federation, "", "");
    let refused = refusal(&mut town.federation, "A=b").await;
    assert!(refused.contains("the store was sealed with the key-encryption key local:"), "{refused}");
    assert!(!refused.contains(old_key.trim()));
}

#[tokio::test]
async fn a_key_comes_from_systemd() {
    let mut federation = Federation::founded("").await.unwrap();
    let folder = federation.world.folder().join("credentials");
    std::fs::create_dir(&folder).unwrap();
    write(&folder.join("kek"), &read(&federation.world.folder().join("broker/kek")));
    // As systemd leaves it for a unit with User=: the mask of its ACL shows as the group's.
    std::fs::set_permissions(folder.join("kek"), std::fs::Permissions::from_mode(0o440)).unwrap();
    std::fs::remove_file(federation.world.folder().join("broker/kek")).unwrap();
    configure(&federation, "key_encryption_key_credential = \"kek\"", "");
    let refused = refusal(&mut federation, "A=b").await;
    assert!(refused.contains("LoadCredentialEncrypted="), "{refused}");
    serve(&mut federation, &format!("CREDENTIALS_DIRECTORY={}", folder.display())).await.unwrap();
    let shown = shown(&federation).await;
    assert_eq!(shown["source"], "systemd credential kek", "{shown}");
    let created = federation.ops(&["kek", "create"]).await.unwrap();
    assert!(created.contains("systemd-creds encrypt --name=kek"), "{created}");
}

/// A SoftHSM token in a folder of its own, and the variable that leads there.
async fn token(folder: &Path) -> String {
    let tokens = folder.join("tokens");
    std::fs::create_dir_all(&tokens).unwrap();
    let file = folder.join("softhsm2.conf");
    write(&file, &format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()));
    let environment = format!("SOFTHSM2_CONF={}", file.display());
    let init = ["--init-token", "--free", "--label", "homeward", "--so-pin", "so-pin-4711", "--pin", PIN];
    with(&environment, Path::new("softhsm2-util"), &init).await;
    environment
}

fn pkcs11(which: &str, token: &str, key: &str, pin_file: &Path) -> String {
    format!("[{which}]\nmodule = {MODULE:?}\ntoken_label = {token:?}\nkey_label = {key:?}\npin_file = {pin_file:?}")
}

#[tokio::test]
async fn a_key_in_a_token_seals_and_never_leaves_it() {
    let mut federation = Federation::founded("").await.unwrap();
    let (folder, broker) = (federation.world.folder().to_owned(), world::programs::programs().unwrap().broker.clone());
    let environment = token(&folder).await;
    let (file, pin): (PathBuf, PathBuf) = (folder.join("broker/kek"), folder.join("pin"));
    private(&pin, &format!("{PIN}\n"));

    // From the file into the token.
    let ours = pkcs11("pkcs11", "homeward", "kek", &pin);
    configure(&federation, &format!("previous_key_encryption_key_file = {file:?}"), &ours);
    let config = federation.config.to_string_lossy().into_owned();
    let missing = refusal(&mut federation, &environment).await;
    assert!(missing.contains("kek create"), "{missing}");
    let create = ["--config", &config, "kek", "create"];
    assert!(with(&environment, &broker, &create).await.contains("Made a new"));
    assert!(with(&environment, &broker, &create).await.contains("was there before"));
    serve(&mut federation, &environment).await.unwrap();
    federation.token("alpha", &[]).await.unwrap();
    assert!(rotate(&federation).await);
    let after = shown(&federation).await;
    assert_eq!(after["key_id"], "pkcs11:token=homeward;object=kek", "{after}");
    assert!(!federation.broker.as_ref().unwrap().log().contains(PIN), "the PIN is in the log");
    federation.stop_broker().await.unwrap();
    std::fs::remove_file(&file).unwrap();
    configure(&federation, "", &ours);
    serve(&mut federation, &environment).await.unwrap();
    federation.ops(&["healthcheck"]).await.unwrap();
    federation.stop_broker().await.unwrap();

    // Everything that may be wrong with a token has its sentence.
    let other_pin = folder.join("other-pin");
    private(&other_pin, "0000");
    let other_token = token(&folder.join("other")).await;
    let other =
        [("homeward", "kek", &other_pin, "refuses the PIN"), ("nobody", "kek", &pin, "no PKCS#11 token \"nobody\"")];
    for (token, key, pin, sentence) in other {
        configure(&federation, "", &pkcs11("pkcs11", token, key, pin));
        let refused = refusal(&mut federation, &environment).await;
        assert!(refused.contains(sentence) && !refused.contains("0000") && !refused.contains(PIN), "{refused}");
    }
    configure(&federation, "", &ours);
    with(&other_token, &broker, &create).await;
    let refused = refusal(&mut federation, &other_token).await;
    assert!(refused.contains("does not open what it sealed"), "{refused}");

    // And back into a file.
    configure(
        &federation,
        &format!("key_encryption_key_file = {file:?}"),
        &pkcs11("previous_pkcs11", "homeward", "kek", &pin),
    );
    federation.ops(&["kek", "create"]).await.unwrap();
    serve(&mut federation, &environment).await.unwrap();
    assert!(rotate(&federation).await);
    federation.stop_broker().await.unwrap();
    configure(&federation, "", "");
    federation.serve().await.unwrap();
    assert_eq!(federation.ops_json(&["token", "list"]).await.unwrap()[0]["instance"], "alpha");
}

#[tokio::test]
async fn a_federation_is_founded_on_a_token() {
    let mut federation = Federation::founded("").await.unwrap();
    let (folder, broker) = (federation.world.folder().to_owned(), world::programs::programs().unwrap().broker.clone());
    let environment = token(&folder).await;
    let pin = folder.join("pin");
    private(&pin, PIN);
    let text = read(&federation.config).replace("/broker\"", "/another\"");
    federation.config = folder.join("another.toml");
    write(&federation.config, &format!("{text}\n{}\n", pkcs11("pkcs11", "homeward", "kek", &pin)));
    with(&environment, &broker, &["--config", federation.config.to_str().unwrap(), "init"]).await;
    assert!(!folder.join("another/kek").exists());
    serve(&mut federation, &environment).await.unwrap();
    let shown = shown(&federation).await;
    assert_eq!(shown["data_keys"][0]["key_id"], "pkcs11:token=homeward;object=kek", "{shown}");
}
