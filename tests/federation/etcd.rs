//! A broker whose store is in an etcd: the same logins, and what it still does while the etcd is away.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use world::{Browser, Etcd, Federation, World};

use crate::town::{settled, user};

async fn status(url: &str) -> u16 {
    reqwest::get(url).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_on_etcd() {
    let etcd = Etcd::one().await.unwrap();
    let founded = Federation::founded_on(World::new().unwrap(), &etcd.address("homeward/test"), "").await;
    let mut federation = founded.unwrap();
    federation.serve().await.unwrap();
    let town = settled(federation, &["password"]).await;
    let mut alice = Browser::new();
    assert_eq!(user(&town.sign_in(&mut alice).await)["email"], "alice@alpha.example");

    let client = town.client();
    let code = client.answer(&mut alice, &client.authorize(&[])).await.remove("code").unwrap();

    // What needs no store goes on without it, and what needs it says so in time.
    etcd.kill(0).unwrap();
    let issuer = town.federation.issuer().unwrap();
    for path in ["healthz", ".well-known/openid-configuration", "jwks"] {
        assert_eq!(status(&format!("{issuer}/{path}")).await, 200, "{path}");
    }
    assert_eq!(status(&format!("{issuer}/readyz")).await, 503);
    let (refused, said) = client.redeem(&code).await;
    assert_eq!(refused, 503, "{said}");
    let log = town.federation.broker.as_ref().unwrap().log();
    assert!(log.contains("etcd cannot be used: no member can be reached"), "{log}");

    let refused = town.federation.ops(&["token", "create", "--instance", "gamma"]).await.unwrap_err().to_string();
    assert!(refused.contains("does not answer, or takes no commits (its log says why)"), "{refused}");

    // And nothing has to be started again.
    etcd.start(0).unwrap();
    etcd.answers().await.unwrap();
    assert_eq!(status(&format!("{issuer}/readyz")).await, 200);
    let (redeemed, said) = client.redeem(&code).await;
    assert_eq!(redeemed, 200, "{said}");
    assert_eq!(client.redeem(&code).await.0, 400);
    assert_eq!(user(&town.sign_in(&mut Browser::new()).await)["email"], "alice@alpha.example");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_one_sentence() {
    let nowhere = "etcd:http://127.0.0.1:9/homeward";
    let refused = Federation::founded_on(World::new().unwrap(), nowhere, "").await.unwrap_err().to_string();
    assert!(refused.contains("the etcd at http://127.0.0.1:9 cannot be used: no member can be reached"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
}

/// The migration takes it for dead. When it goes on, it does nothing more on the store that the federation has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stood_still_while_its_federation_moved_ends() {
    let etcd = Etcd::one().await.unwrap();
    let (from, to) = (etcd.address("from"), etcd.address("to"));
    let mut federation = Federation::founded_on(World::new().unwrap(), &from, "").await.unwrap();
    federation.serve().await.unwrap();
    let migrate = ["store", "migrate", "--from", &from, "--to", &to];
    let refused = federation.ops(&migrate).await.unwrap_err().to_string();
    assert!(refused.contains("a broker lives on the source"), "{refused}");
    let mut broker = federation.broker.take().unwrap();
    let pid = Pid::from_raw(broker.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let moved = federation.ops(&migrate).await;
    let token = async {
        // Asked before it goes on: the first thing that it does may be this.
        let asked = federation.ops(&["token", "create", "--instance", "alpha"]);
        let go_on = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            kill_process(pid, Signal::CONT).unwrap();
        };
        tokio::join!(asked, go_on).0
    };
    let refused = token.await;
    moved.unwrap();
    assert!(refused.is_err(), "{refused:?}");
    assert!(!broker.ended().await.unwrap().success());
    assert!(broker.log().contains("the federation has moved to etcd:"), "{}", broker.log());
    let tokens = etcd.ctl(&["get", "--prefix", "--keys-only", "from/join_token/"]).await.unwrap();
    assert_eq!(tokens.trim(), "");
}

/// Of two runs at once, whoever they are, one restores; what it has made is a federation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_restores_at_once_one_is_done() {
    let etcd = Etcd::one().await.unwrap();
    let mut federation = Federation::founded_on(World::new().unwrap(), &etcd.address("one"), "").await.unwrap();
    let file = federation.world.folder().join("a.backup").to_string_lossy().into_owned();
    federation.ops(&["backup", "--to", &file, "--store", &etcd.address("one")]).await.unwrap();
    let text = std::fs::read_to_string(&federation.config).unwrap();
    for round in 0..4 {
        let now = etcd.address(&format!("restored-{round}"));
        configure(&federation, &text.replace(&etcd.address("one"), &now));
        let restore = ["restore", "--from", &file];
        let (one, two) = tokio::join!(federation.ops(&restore), federation.ops(&restore));
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        for refused in [one, two].into_iter().filter_map(Result::err) {
            let said = refused.to_string();
            assert!(
                said.contains("another run of the same command has taken") || said.contains("is not empty"),
                "{said}"
            );
        }
        federation.serve().await.unwrap();
        federation.stop_broker().await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody reads it before it is whole, and nothing is lost with it")]
fn configure(federation: &Federation, text: &str) {
    std::fs::write(&federation.config, text).unwrap();
}

#[tokio::test]
async fn an_etcd_without_room_makes_a_broker_unready_until_it_has_some() {
    let etcd = Etcd::one().await.unwrap();
    let founded = Federation::founded_on(World::new().unwrap(), &etcd.address("homeward/test"), "").await;
    let mut federation = founded.unwrap();
    federation.serve().await.unwrap();
    let ready = format!("{}/readyz", federation.issuer().unwrap());
    assert_eq!(status(&ready).await, 200);
    // As when the quota of its database is used up: it is read as ever.
    let alarm = format!("http://127.0.0.1:{}/v3/maintenance/alarm", etcd.port(0));
    let raised = reqwest::Client::new().post(alarm).body(r#"{"action":"ACTIVATE","alarm":"NOSPACE"}"#).send().await;
    assert!(raised.unwrap().status().is_success());
    becomes(&ready, 503).await;
    let said = reqwest::get(&ready).await.unwrap().text().await.unwrap();
    assert_eq!(said, "the store takes no commits\n");
    let log = federation.broker.as_ref().unwrap().log();
    assert!(log.contains("its database is full"), "{log}");
    etcd.ctl(&["alarm", "disarm"]).await.unwrap();
    becomes(&ready, 200).await;
}

async fn becomes(url: &str, wanted: u16) {
    let begun = tokio::time::Instant::now();
    while status(url).await != wanted {
        assert!(begun.elapsed().as_secs() < 15, "never {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_broker_waits_for_an_etcd_that_is_away_as_it_starts() {
    let etcd = Etcd::one().await.unwrap();
    let founded = Federation::founded_on(World::new().unwrap(), &etcd.address("homeward/test"), "").await;
    let mut federation = founded.unwrap();
    etcd.kill(0).unwrap();
    let back = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        etcd.start(0).unwrap();
    };
    let (served, ()) = tokio::join!(federation.serve(), back);
    served.unwrap();
    let log = federation.broker.as_ref().unwrap().log();
    assert!(log.contains("no member can be reached") && log.contains("trying again for 60 seconds"), "{log}");
    let listed = federation.ops_json(&["broker", "list"]).await.unwrap();
    assert_eq!(
        format!("http://{}", listed[0]["http_address"].as_str().unwrap().replace("127.0.0.1", "localhost")),
        federation.issuer().unwrap()
    );
}
