//! Agents beside small sites: enrolled, in sync, killed, misled. The ids in comments are those of the threat notes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use world::applicant::Applicant;
use world::federation::Instance;
use world::{Federation, InstanceOptions};

fn relying_party() -> InstanceOptions {
    InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() }
}

fn credentials(instance: &Instance) -> serde_json::Value {
    let file = instance.folder.join("credentials/current/homeward.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holds(&path, needle));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Waits until a log says something.
async fn logged(instance: &Instance, text: &str, patience: Duration) {
    let wait = async {
        while !instance.agent.as_ref().unwrap().log().contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let log = || instance.agent.as_ref().unwrap().log();
    assert!(tokio::time::timeout(patience, wait).await.is_ok(), "{text:?} is not in the log:\n{}", log());
}

#[tokio::test]
async fn an_enrolled_site_is_set_up_by_its_agent_alone() {
    let federation = Federation::start().await.unwrap();
    let beta = federation.instance("beta", relying_party()).await.unwrap();
    let shown = federation.ops_json(&["instance", "show", "beta"]).await.unwrap();
    assert_eq!(shown["redirect_uris"][0], beta.site.at("/callback"));
    let written = credentials(&beta);
    assert_eq!(written["issuer"], federation.issuer().unwrap());
    assert_eq!(written["client_id"], shown["client_id"]);
    let file = std::fs::metadata(beta.folder.join("credentials/current/homeward.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let status = beta.command(&["status", "--output", "json"], None).await.unwrap();
    assert!(status.contains("beta"), "{status}");
}

/// E1, E2, E4 of the secrets: what must be nowhere in clear is nowhere in clear.
#[tokio::test]
async fn secrets_rest_sealed_and_are_in_no_log() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    beta.enrol(&token).await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
    let secret = credentials(&beta)["client_secret"].as_str().unwrap().to_owned();
    let raw: [u8; 32] = *secrecy::ExposeSecret::expose_secret(&Applicant::new(&token).unwrap().token.secret);
    for canary in [&token, &secret] {
        assert_eq!(holds(&federation.world.folder().join("broker"), canary), [""; 0]);
        assert!(!federation.broker.as_ref().unwrap().log().contains(canary.as_str()));
        assert!(!beta.agent.as_ref().unwrap().log().contains(canary.as_str()));
    }
    // The secret's place is the site's file; the agent's own folder may keep it under 0600, the token nowhere.
    assert_eq!(holds(&beta.folder, &token), [""; 0]);
    let bytes = String::from_utf8_lossy(&raw).into_owned();
    assert_eq!(holds(&federation.world.folder().join("broker"), &bytes), [""; 0]);
    for file in ["admin.sock", "kek"] {
        let mode = std::fs::metadata(federation.world.folder().join("broker").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mode = std::fs::metadata(federation.world.folder().join("broker")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_killed_broker_comes_back_and_its_agents_with_it() {
    let mut federation = Federation::start().await.unwrap();
    let beta = federation.instance("beta", relying_party()).await.unwrap();
    let before = (credentials(&beta), federation.ops_json(&["instance", "show", "beta"]).await.unwrap());
    federation.kill_broker().await.unwrap();
    // The site works on from the agent's disk.
    assert_eq!(credentials(&beta), before.0);
    federation.serve().await.unwrap();
    let after = federation.in_sync("beta").await.unwrap();
    assert_eq!(after["client_id"], before.1["client_id"]);
    assert!(after["applied_revision"].as_u64() > before.1["applied_revision"].as_u64(), "{after}");
    assert_eq!(credentials(&beta), before.0);
}

#[tokio::test]
async fn a_killed_agent_goes_on_where_it_was() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    let file = beta.folder.join("credentials/current/homeward.json");
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    beta.agent.take().unwrap().kill().await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written, "it was written again");
}

/// N1: half life, a new key, no gap.
#[tokio::test]
async fn a_certificate_is_renewed_at_half_of_its_life_without_a_gap() {
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 20").await.unwrap();
    let beta = federation.instance("beta", relying_party()).await.unwrap();
    let first = federation.in_sync("beta").await.unwrap()["certificate_expire_time"].clone();
    let log = || federation.broker.as_ref().unwrap().log();
    for _ in 0..600 {
        if log().contains("certificate in use instance=beta generation=3") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(log().contains("certificate in use instance=beta generation=3"), "{}", log());
    let shown = federation.in_sync("beta").await.unwrap();
    assert_ne!(shown["certificate_expire_time"], first);
    drop(beta);
}

#[tokio::test]
async fn an_agent_that_was_misled_by_its_token_says_nothing_and_one_sentence() {
    let federation = Federation::start().await.unwrap();
    let other = Federation::start().await.unwrap();
    let beta = federation.prepare("beta", relying_party()).await.unwrap();
    // A token whose address leads to somebody else's broker.
    let mut token = Applicant::new(&federation.token("beta", &[]).await.unwrap()).unwrap().token;
    token.agent_url = Applicant::new(&other.token("beta", &[]).await.unwrap()).unwrap().token.agent_url;
    let text = secrecy::ExposeSecret::expose_secret(&token.to_text().unwrap()).to_owned();
    let refused = beta.enrol(&text).await.unwrap_err().to_string();
    assert!(refused.contains("not the broker that the join token was made by"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
    assert!(!other.broker.as_ref().unwrap().log().contains("enrolment refused"));
}

#[tokio::test]
async fn bad_tokens_get_one_sentence() {
    let federation = Federation::start().await.unwrap();
    let beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    let id = Applicant::new(&token).unwrap().token.id.to_string();
    for (input, sentence) in
        [("", "join token"), ("hello", "one begins with hwj1."), (&token[..token.len() - 5], "damaged")]
    {
        let refused = beta.enrol(input).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{input:?}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    federation.ops(&["token", "revoke", &id]).await.unwrap();
    let refused = beta.enrol(&token).await.unwrap_err().to_string();
    assert!(refused.contains("does not accept this join token"), "{refused}");
    let refused = beta.command(&["run"], None).await.unwrap_err().to_string();
    assert!(refused.contains("not enrolled"), "{refused}");
}

#[tokio::test]
async fn an_enrolled_agent_does_not_enrol_again_by_accident() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    let token = federation.token("gamma", &[]).await.unwrap();
    let refused = beta.enrol(&token).await.unwrap_err().to_string();
    assert!(refused.contains("another homeward-agent uses"), "{refused}");
    beta.agent.take().unwrap().stop().await.unwrap();
    let refused = beta.enrol(&token).await.unwrap_err().to_string();
    assert!(refused.contains("enrolled"), "{refused}");
}

/// The broker dies at the worst moment: after the commit, before the answer. The agent tries on with the same keys.
#[tokio::test]
async fn an_enrolment_survives_a_broker_that_is_killed_in_the_middle() {
    let mut federation = Federation::start().await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    federation.kill_broker().await.unwrap();
    // Nobody answers at first; the agent waits and tries again.
    let (enrolled, served) = tokio::join!(beta.enrol(&token), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        federation.serve().await
    });
    served.unwrap();
    enrolled.unwrap();
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
}

#[tokio::test]
async fn an_application_that_is_down_is_reported_and_recovers() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    beta.site.stop();
    beta.enrol(&federation.token("beta", &[]).await.unwrap()).await.unwrap();
    beta.run().await.unwrap();
    let mut problem = String::new();
    for _ in 0..600 {
        let shown = federation.ops_json(&["instance", "show", "beta"]).await.unwrap();
        problem = shown["problem"].as_str().unwrap().to_owned();
        if problem.starts_with("APPLICATION_DOWN") || problem.starts_with("PROOF_FAILED") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(problem.starts_with("APPLICATION_DOWN") || problem.starts_with("PROOF_FAILED"), "{problem:?}");
}

/// A quarantined agent stops and does not come back in a loop.
#[tokio::test]
async fn the_agent_of_a_quarantined_instance_ends_with_78() {
    let federation = Federation::start().await.unwrap();
    let mut beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    beta.enrol(&token).await.unwrap();
    beta.run().await.unwrap();
    federation.in_sync("beta").await.unwrap();
    Applicant::new(&token).unwrap().enrol().await.unwrap_err();
    logged(&beta, "in quarantine", Duration::from_secs(10)).await;
    let status = beta.agent.as_mut().unwrap().ended().await.unwrap();
    assert_eq!(status.code(), Some(78));
}

/// M15: an agent that was away for longer than its certificate lasted says what to do, and ends.
#[tokio::test]
async fn an_agent_with_an_expired_certificate_says_so_and_can_be_enrolled_anew() {
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 15").await.unwrap();
    let mut beta = federation.instance("beta", relying_party()).await.unwrap();
    let client_id = federation.in_sync("beta").await.unwrap()["client_id"].clone();
    // Else it would come back by its recovery key.
    federation.ops(&["instance", "policy", "beta", "--recovery", "off"]).await.unwrap();
    beta.agent.take().unwrap().stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(16)).await;
    beta.run().await.unwrap();
    logged(&beta, "certificate has expired", Duration::from_secs(10)).await;
    assert_eq!(beta.agent.as_mut().unwrap().ended().await.unwrap().code(), Some(78));
    let token = federation.token("beta", &["--replace"]).await.unwrap();
    beta.command(&["enrol", "--replace", "--token-file", "-"], Some(&token)).await.unwrap();
    beta.run().await.unwrap();
    let shown = federation.in_sync("beta").await.unwrap();
    assert_eq!(shown["client_id"], client_id, "relying party and subjects stay the same");
}

#[tokio::test]
async fn a_broker_that_is_stopped_lets_its_agents_go_and_takes_them_back() {
    let mut federation = Federation::start().await.unwrap();
    let beta = federation.instance("beta", relying_party()).await.unwrap();
    let status = federation.broker.take().unwrap().stop().await.unwrap();
    assert_eq!(status.code(), Some(0));
    logged(&beta, "the broker asked to come back later", Duration::from_secs(5)).await;
    federation.serve().await.unwrap();
    federation.in_sync("beta").await.unwrap();
}

#[tokio::test]
async fn an_agent_whose_clock_is_wrong_says_so_and_nothing_is_used_up() {
    let federation = Federation::start().await.unwrap();
    let beta = federation.prepare("beta", relying_party()).await.unwrap();
    let token = federation.token("beta", &[]).await.unwrap();
    for offset in ["-2 days", "+30 days"] {
        let enrol = beta.command_off_by(offset, &["enrol", "--token-file", "-"], Some(&token)).await;
        let refused = enrol.unwrap_err().to_string();
        assert!(refused.contains("which is the time on this machine; set its clock"), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    beta.enrol(&token).await.unwrap();
}

/// SIGHUP: what was changed is taken up in the same process, and what cannot be used is not.
#[tokio::test]
async fn a_reloaded_agent_goes_on_with_what_its_file_says_now() {
    let federation = Federation::start().await.unwrap();
    let beta = federation.instance("beta", relying_party()).await.unwrap();
    let (file, agent) = (beta.folder.join("agent.toml"), beta.agent.as_ref().unwrap());
    let pid = rustix::process::Pid::from_raw(agent.pid().cast_signed()).unwrap();
    let plain = std::fs::read_to_string(&file).unwrap();
    let reload = |text: &str| {
        #[expect(clippy::disallowed_methods, reason = "a file of a test")]
        std::fs::write(&file, text).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    };
    let portal = world::federation::free_port().unwrap();
    let (head, _) = plain.rsplit_once("listen = ").unwrap();
    reload(&format!("{head}listen = \"127.0.0.1:{portal}\"\n"));
    logged(&beta, "the agent begins anew with its configuration", Duration::from_secs(10)).await;
    let listens = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", portal)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), listens).await.is_ok(), "{}", agent.log());
    federation.in_sync("beta").await.unwrap();
    reload("colour = 1");
    logged(&beta, "nothing is reloaded", Duration::from_secs(10)).await;
    // It can be read, and there is no identity where it says: the one before is taken again.
    reload(&plain.replace("/agent\"", "/elsewhere\""));
    logged(&beta, "it goes on as before", Duration::from_secs(30)).await;
    reload(&plain);
    federation.in_sync("beta").await.unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok(), "it is another process");
}
