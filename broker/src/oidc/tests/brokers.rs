//! Two brokers on one store: any of them answers any request at any step of a login.

use serde_json::Value;

use super::world::*;

/// Each step of a login at one or the other, in all ways.
#[tokio::test]
async fn each_step_of_a_login_may_be_at_another_broker() {
    let one = World::new().await;
    let two = one.beside().await;
    let both = [&one, &two];
    for way in 0..32_usize {
        let at = |step: usize| both[way >> step & 1];
        let mut browser = Browser::default();
        let portal = at(0).authorize(&mut browser, &[]).await.location();
        let back = at(1).vouch(&portal).await;
        let answer = browser.get(at(2), &back).await;
        let code = answer.parameter("code").unwrap_or_else(|| panic!("{way:05b}: {}", answer.location()));
        let tokens = at(3).redeem(&code, &[]).await;
        assert_eq!(tokens.status, 200, "{way:05b}: {}", tokens.text());
        let access_token = tokens.json()["access_token"].as_str().unwrap().to_owned();
        let told = at(4).userinfo(&access_token).await;
        assert_eq!((told.status.as_u16(), &told.json()["name"]), (200, &Value::from("Alice Archer")), "{way:05b}");
        // Whoever signed on at one is signed on at both.
        let again = at(4).authorize(&mut browser, &[]).await;
        assert!(again.parameter("code").is_some(), "{way:05b}: {}", again.location());
    }
}

// Invariant 1.
#[tokio::test]
async fn what_may_be_used_once_is_used_at_one_broker_only() {
    let one = World::new().await;
    let two = one.beside().await;
    for _ in 0..20 {
        let mut browser = Browser::default();
        let code = one.sign_in(&mut browser, &[]).await;
        let (here, there) = tokio::join!(one.redeem(&code, &[]), two.redeem(&code, &[]));
        let granted = [&here, &there].into_iter().filter(|answer| answer.status == 200).count();
        assert!(granted <= 1, "{} {}", here.text(), there.text());
        // Whoever comes twice is no one to trust: the whole family is gone, at both.
        for answer in [here, there].into_iter().filter(|answer| answer.status == 200) {
            let token = answer.json()["access_token"].as_str().unwrap().to_owned();
            for world in [&one, &two] {
                assert_eq!(world.userinfo(&token).await.status, 401);
            }
        }
        let ticket = one.authorize(&mut Browser::default(), &[]).await.location();
        let back = two.vouch(&ticket).await;
        // A stranger's browser finishes nothing, at neither.
        for world in [&one, &two] {
            assert!(Browser::default().get(world, &back).await.headers.get("location").is_none());
        }
    }
}
