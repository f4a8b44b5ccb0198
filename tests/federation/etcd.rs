//! A broker whose store is in an etcd: the same logins, and what it still does while the etcd is away.

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
