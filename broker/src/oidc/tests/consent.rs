//! Consent: when users are asked, what they read, and what comes of the answer.

use crate::login::Consents;
use crate::oidc::tests::world::{Answer, Browser, NOW, World, alice, claims};
use crate::registry::{ConsentPolicy, SubjectKey};

impl World {
    async fn ask_consent(&self, policy: ConsentPolicy) {
        self.change_edge("beta", "alpha", |edge| edge.consent = policy).await;
    }

    /// A login of alice at beta up to the question; gives its address.
    async fn question_for(&self, browser: &mut Browser, replaced: &[(&str, &str)]) -> String {
        let portal = self.authorize(browser, replaced).await.location();
        let back = browser.get(self, &self.vouch(&portal).await).await.location();
        back.strip_prefix("https://login.example").unwrap_or_else(|| panic!("{back}")).to_owned()
    }
}

fn sealed(address: &str) -> &str {
    address.strip_prefix("/login/consent?question=").unwrap_or_else(|| panic!("{address}"))
}

async fn answer(world: &World, browser: &mut Browser, address: &str, button: &str) -> Answer {
    browser.post(world, "/login/consent", &[("question", sealed(address)), (button, "1")]).await
}

const SILENT: [(&str, &str); 1] = [("prompt", "none")];

#[tokio::test]
async fn the_first_time_is_asked_and_the_next_is_not() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let address = world.question_for(&mut browser, &[]).await;
    let page = browser.get(&world, &address).await;
    assert_eq!(page.status, 200, "{}", page.text());
    for shown in ["&#60;beta&#62; &#38; co", "beta.example", "alice", "Alice Archer", "alice@alpha.example (verified)"]
    {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    // What was not asked for is neither shown nor released.
    assert!(
        !page.text().contains("Phone number") && !page.text().contains("<beta>") && !page.text().contains("<script")
    );
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https://beta.example;") && policy.contains("frame-ancestors 'none'"));
    world.authorize(&mut browser, &SILENT).await.assert_redirect("consent_required");
    let back = answer(&world, &mut browser, &address, "agree").await;
    let tokens = world.redeem(&back.parameter("code").unwrap(), &[]).await.json();
    assert_eq!(claims(tokens["id_token"].as_str().unwrap())["email"], "alice@alpha.example");
    assert!(world.authorize(&mut browser, &SILENT).await.parameter("code").is_some());
    // More than was agreed to asks again; less does not.
    let wider = [("prompt", "none"), ("scope", "openid profile email phone")];
    world.authorize(&mut browser, &wider).await.assert_redirect("consent_required");
    let wider = [("prompt", "none"), ("claims", r#"{"id_token":{"birthdate":null}}"#)];
    world.authorize(&mut browser, &wider).await.assert_redirect("consent_required");
    let fewer = [("prompt", "none"), ("scope", "openid")];
    assert!(world.authorize(&mut browser, &fewer).await.parameter("code").is_some());
    // A fresh browser of the same user is not asked either.
    world.sign_in(&mut Browser::default(), &[]).await;
}

#[tokio::test]
async fn always_means_each_login_and_a_request_can_ask_for_the_question() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::Always).await;
    let mut browser = Browser::default();
    for _ in 0..2 {
        let address = match browser.session() {
            None => world.question_for(&mut browser, &[]).await,
            Some(_) => world.authorize(&mut browser, &[]).await.location().replace("https://login.example", ""),
        };
        assert_eq!(browser.get(&world, &address).await.status, 200);
        assert!(answer(&world, &mut browser, &address, "agree").await.parameter("code").is_some());
        // The page of a question that was answered does not ask again.
        assert!(browser.get(&world, &address).await.parameter("code").is_some());
    }
    world.authorize(&mut browser, &SILENT).await.assert_redirect("consent_required");
    world.ask_consent(ConsentPolicy::None).await;
    assert!(world.authorize(&mut browser, &SILENT).await.parameter("code").is_some());
    let asked = world.authorize(&mut browser, &[("prompt", "consent")]).await.location();
    assert!(asked.starts_with("https://login.example/login/consent?question="));
    world.authorize(&mut browser, &[("prompt", "none consent")]).await.assert_redirect("invalid_request");
    // Both: a new login, then the question.
    world.pass(10);
    let address = world.question_for(&mut browser, &[("prompt", "consent login")]).await;
    assert!(answer(&world, &mut browser, &address, "agree").await.parameter("code").is_some());
}

// A18
#[tokio::test]
async fn who_refuses_is_not_made_known() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let address = world.question_for(&mut browser, &[]).await;
    answer(&world, &mut browser, &address, "refuse").await.assert_redirect("access_denied");
    world.authorize(&mut browser, &SILENT).await.assert_redirect("consent_required");
    // No logout is ever told to a client that was not entered.
    let page = crate::storage::Page { prefix: "session/".into(), after: None, limit: 10 };
    let sessions = crate::storage::Store::list(world.store.as_ref(), page).await.unwrap();
    let (_, session) = sessions.first().unwrap();
    assert!(!String::from_utf8_lossy(&session.value).contains(&world.client_id("beta")));
}

// S3
#[tokio::test]
async fn only_who_was_asked_can_answer() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let address = world.question_for(&mut browser, &[]).await;
    // Another browser, with and without a session of the same user.
    let mut other = Browser::default();
    answer(&world, &mut other, &address, "agree").await.assert_page(403);
    world.question_for(&mut other, &[]).await;
    answer(&world, &mut other, &address, "agree").await.assert_page(403);
    other.get(&world, &address).await.assert_page(403);
    // Without the session, or with one that has ended meanwhile.
    let mut signed_out = browser.clone();
    signed_out.cookies.remove("__Host-homeward-session");
    answer(&world, &mut signed_out, &address, "agree").await.assert_page(403);
    // Rubbish, two answers, none; a ticket or a picker's transaction is no question.
    for bad in ["", "x", "AAAA"] {
        let form = [("question", bad), ("agree", "1")];
        browser.post(&world, "/login/consent", &form).await.assert_page(400);
    }
    let question = sealed(&address);
    browser.post(&world, "/login/consent", &[("question", question)]).await.assert_page(400);
    let both = [("question", question), ("agree", "1"), ("refuse", "1")];
    browser.post(&world, "/login/consent", &both).await.assert_page(400);
    browser.post(&world, "/login/home", &[("transaction", question), ("home", "alpha")]).await.assert_page(400);
    // Somebody else signs in in the same browser: the question is not his.
    let portal = world.authorize(&mut browser, &[("prompt", "login")]).await.location();
    let mut bob = alice(NOW);
    (bob.home_user_id, bob.username) = ("18".into(), "bob".into());
    browser.get(&world, &world.vouch_for(&portal, bob).await).await.location();
    answer(&world, &mut browser, &address, "agree").await.assert_page(403);
}

#[tokio::test]
async fn a_question_ends_with_its_login_and_with_trust() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let address = world.question_for(&mut browser, &[]).await;
    world.deny("beta", "alpha").await;
    answer(&world, &mut browser, &address, "agree").await.assert_redirect("access_denied");
    world.allow("beta", "alpha").await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let fresh = world.question_for(&mut browser, &[("max_age", "100")]).await;
    world.pass(101);
    // How fresh a user must be is counted from the request: reading takes time.
    assert!(answer(&world, &mut browser, &fresh, "agree").await.parameter("code").is_some());
    world.pass(600);
    browser.get(&world, &fresh).await.assert_page(400);
}

#[tokio::test]
async fn what_was_agreed_to_is_listed_and_taken_back() {
    let world = World::new().await;
    world.ask_consent(ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let scope = [("scope", "openid offline_access email")];
    let address = world.question_for(&mut browser, &scope).await;
    let page = browser.get(&world, &address).await;
    assert!(page.text().contains("when you have signed out"));
    answer(&world, &mut browser, &address, "agree").await.location();
    let store: std::sync::Arc<dyn crate::storage::Store> = world.store.clone();
    let alpha = world.registry.snapshot().instance(&"alpha".parse().unwrap()).unwrap().id;
    let user = SubjectKey::load(&store, &world.sealing).await.unwrap().user(alpha, "17");
    let consents = Consents::new(store.clone());
    let given = consents.of_user(&user).await.unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!((given[0].client_id.as_str(), given[0].at), (world.client_id("beta").as_str(), NOW));
    assert_eq!(given[0].scopes.to_string(), "openid email offline_access");
    store.commit(vec![consents.revoke(&user, &given[0].client_id)]).await.unwrap();
    world.authorize(&mut browser, &SILENT).await.assert_redirect("consent_required");
    assert!(consents.of_user(&user).await.unwrap().is_empty());
}
