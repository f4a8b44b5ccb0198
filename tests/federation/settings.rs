//! What ops see of the configuration: what is in force and whose word it is, and what is wrong before a broker starts.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use world::Federation;

#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn write(federation: &Federation, text: &str) {
    std::fs::write(&federation.config, text).unwrap();
}

async fn shown(federation: &Federation, name: &str) -> Value {
    let all = federation.ops_json(&["config", "show"]).await.unwrap();
    all.as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("{all}")).clone()
}

#[tokio::test]
async fn a_file_changes_what_it_names_and_ops_see_what_is_in_force() {
    let mut federation = Federation::with_settings("[lifetimes]\nsession = 9000").await.unwrap();
    let plain = std::fs::read_to_string(&federation.config).unwrap();
    let of_founding = shown(&federation, "lifetimes.session").await;
    assert_eq!(
        (&of_founding["value"], &of_founding["from"]),
        (&9000.into(), &"store, since the federation was made".into())
    );
    assert_eq!(shown(&federation, "listen.http").await["from"], "file");
    assert_eq!(shown(&federation, "trusted_proxies").await["from"], "default");

    // The line is taken out, and another one put in.
    write(&federation, &plain.replace("session = 9000", "id_token = 60"));
    federation.stop_broker().await.unwrap();
    federation.serve().await.unwrap();
    assert_eq!(shown(&federation, "lifetimes.session").await["value"], 9000);
    let named = shown(&federation, "lifetimes.id_token").await;
    assert!(named["value"] == 60 && named["from"].as_str().unwrap().starts_with("store, by the file of "), "{named}");
    let log = federation.broker.as_ref().unwrap().log();
    assert!(log.contains("changes the federation's settings for all brokers: lifetimes.id_token 600 -> 60"), "{log}");
}

#[tokio::test]
async fn what_a_start_would_refuse_is_said_before() {
    let mut federation = Federation::founded("").await.unwrap();
    let (plain, folder) = (std::fs::read_to_string(&federation.config).unwrap(), federation.world.folder().to_owned());
    assert_eq!(federation.ops_json(&["config", "check"]).await.unwrap()["ok"], true);
    let (kek, nowhere) = (folder.join("broker/kek"), folder.join("nowhere"));
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = federation.ops(&["config", "check"]).await.unwrap_err().to_string();
    assert!(refused.contains("a broker would not start") && refused.contains("chmod 600"), "{refused}");
    assert!(federation.serve().await.is_err(), "it starts all the same");
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (more, sentence) in [
        (format!("[outbound]\nca_file = {nowhere:?}"), "outbound.ca_file"),
        (format!("[etcd]\nca_file = {nowhere:?}"), "etcd.ca_file"),
        (format!("[etcd]\nuser = \"u\"\npassword_file = {:?}", federation.config), "etcd.password_file"),
        (format!("[etcd]\ncertificate_file = {kek:?}\nprivate_key_file = {kek:?}"), "does not hold what it should"),
    ] {
        write(&federation, &format!("{plain}\n{more}"));
        let refused = federation.ops(&["config", "check"]).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{refused}");
    }
    write(&federation, &plain.replace("/broker\"", "/nowhere\""));
    let refused = federation.ops(&["config", "check"]).await.unwrap_err().to_string();
    assert!(refused.contains("data_dir") && refused.contains("does not exist: make it by"), "{refused}");
}
