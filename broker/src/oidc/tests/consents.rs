//! Edges that lack a consent, as users and relying parties meet them: as if nobody had allowed anything.

use crate::login::LoginError;
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::session::hidden;
use crate::oidc::tests::world::{Browser, World, ticket};
use crate::registry::{GrantType, TrustEdge, TrustEdgeId, TrustSide, TrustTerms};

fn id(relying_party: &str, home: &str) -> TrustEdgeId {
    TrustEdgeId { relying_party: relying_party.parse().unwrap(), home: home.parse().unwrap() }
}

impl World {
    /// One of the two takes its consent back.
    pub(super) async fn withdraw(&self, relying_party: &str, home: &str, side: TrustSide) {
        self.registry.withdraw_trust(&id(relying_party, home), side, self.time.now()).await.unwrap();
    }

    /// And gives it again.
    async fn consent(&self, relying_party: &str, home: &str, side: TrustSide) {
        let fresh = TrustEdge::new(id(relying_party, home), self.time.now()).unwrap();
        let whole = self.registry.consent_to_trust(fresh, side, TrustTerms::default()).await.unwrap();
        assert!(whole.is_in_force());
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_an_edge_that_lacks_a_consent() {
    for side in TrustSide::ALL {
        let world = World::new().await;
        let (mut known, mut browser) = (Browser::default(), Browser::default());
        world.sign_in(&mut known, &[]).await;
        let portal = world.authorize(&mut browser, &[]).await.location();
        let back = world.vouch(&portal).await;
        world.withdraw("beta", "alpha", side).await;
        // In the middle of a login.
        browser.get(&world, &back).await.assert_redirect("access_denied");
        let opened = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), world.time.now());
        assert!(matches!(opened, Err(LoginError::HomeNotAccepted)), "{side:?}");
        // At its beginning, also for who says where he comes from.
        for hint in [&[][..], &[("login_hint", "alice@alpha")]] {
            let page = world.authorize(&mut Browser::default(), hint).await;
            assert!(page.status == 200 && page.text().contains("accepts accounts from nowhere else yet"), "{side:?}");
        }
        // And for whom the broker knows already.
        let silent = [("prompt", "none")];
        world.authorize(&mut known, &silent).await.assert_redirect("login_required");
        world.consent("beta", "alpha", side).await;
        assert!(world.authorize(&mut known, &silent).await.parameter("code").is_some());
    }
}

#[tokio::test]
async fn who_may_choose_is_not_offered_a_home_that_lacks_a_consent() {
    for side in TrustSide::ALL {
        let world = World::new().await;
        let delta = world.client_id("delta");
        let at_delta = [("client_id", delta.as_str()), ("redirect_uri", "https://delta.example/two")];
        let mut browser = Browser::default();
        let page = world.authorize(&mut browser, &at_delta).await;
        assert!(page.text().contains("value=\"alpha\"") && page.text().contains("value=\"gamma\""));
        world.withdraw("delta", "gamma", side).await;
        // Whoever has the page open yet is not sent there.
        let transaction = hidden(page.text());
        let chosen = [("transaction", transaction.as_str()), ("home", "gamma")];
        let answer = browser.post(&world, "/login/home", &chosen).await;
        assert!(!answer.header("location").contains("gamma"), "{}", answer.header("location"));
        // One home is no choice.
        let address = world.authorize(&mut Browser::default(), &at_delta).await.location();
        assert!(address.starts_with("https://alpha.example/"), "{address}");
    }
}

#[tokio::test]
async fn what_rests_on_a_consent_ends_with_it_for_good() {
    for side in TrustSide::ALL {
        let world = World::new().await;
        let tokens = world.offline_tokens().await;
        let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
        let code = world.sign_in(&mut Browser::default(), &[]).await;
        assert_eq!(world.userinfo(&access).await.status, 200);
        world.withdraw("beta", "alpha", side).await;
        let dead = async || {
            assert_eq!(world.userinfo(&access).await.status, 401, "{side:?}");
            assert_eq!(world.introspect("beta", &access, "").await.json()["active"], false);
            world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
            world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
        };
        dead().await;
        // What died with one life of the edge does not come back with another.
        world.consent("beta", "alpha", side).await;
        dead().await;
        let code = world.sign_in(&mut Browser::default(), &[]).await;
        let access = text(&world.redeem(&code, &[]).await.json(), "access_token");
        assert_eq!(world.userinfo(&access).await.status, 200);
    }
}

#[tokio::test]
async fn an_api_is_not_called_over_an_edge_that_lacks_a_consent() {
    let world = World::new().await;
    for grant_type in [GrantType::TokenExchange, GrantType::ClientCredentials] {
        world.grant_type("beta", grant_type).await;
    }
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = text(&world.redeem(&code, &[]).await.json(), "access_token");
    world.allow_with("beta", "gamma", |edge| edge.api_access = true).await;
    world.allow("gamma", "alpha").await;
    let basic = world.basic("beta");
    let exchange = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token&resource=https://gamma.example"
    );
    let itself = "grant_type=client_credentials&resource=https://gamma.example";
    let ask = async |form: &str| world.token(Some(&basic), form).await;
    for side in TrustSide::ALL {
        assert_eq!((ask(&exchange).await.status.as_u16(), ask(itself).await.status.as_u16()), (200, 200));
        // beta may not call gamma.
        world.withdraw("beta", "gamma", side).await;
        for form in [exchange.as_str(), itself] {
            ask(form).await.assert_token_error(400, "invalid_target");
        }
        world.consent("beta", "gamma", side).await;
        // gamma does not know alpha's users.
        world.withdraw("gamma", "alpha", side).await;
        ask(&exchange).await.assert_token_error(400, "invalid_target");
        world.consent("gamma", "alpha", side).await;
    }
}
