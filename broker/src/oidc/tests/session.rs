//! Sessions, browsers, tickets and handles.

use std::time::Duration;

use crate::login::{LoginError, LoginFailure, Outcome};
use crate::oidc::tests::world::{Browser, CALLBACK, NOW, World, alice, claims, ticket};
use crate::registry::{InstanceId, Sighting};

/// The sealed transaction of a picker page.
pub(super) fn hidden(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"transaction\" value=\"").unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_first_login_costs_three_commits_and_the_next_one() {
    let world = World::new().await;
    let before = world.store.flushes();
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let opened = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), NOW).unwrap();
    assert_eq!((opened.relying_party.as_str(), opened.silent), ("beta", false));
    assert_eq!(world.store.flushes(), before, "strangers cannot make the store grow");
    let code = browser.get(&world, &world.vouch(&portal).await).await.parameter("code").unwrap();
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
    assert_eq!(world.store.flushes() - before, 3);
    // The next one costs one, and no home.
    let again = world.authorize(&mut browser, &[]).await;
    assert_eq!(world.redeem(&again.parameter("code").unwrap(), &[]).await.status, 200);
    assert_eq!(world.store.flushes() - before, 4);
}

// A12
#[tokio::test]
async fn a_silent_request_never_shows_a_page() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.authorize(&mut browser, &[("prompt", "none")]).await.assert_redirect("login_required");
    world.sign_in(&mut browser, &[]).await;
    assert!(world.authorize(&mut browser, &[("prompt", "none")]).await.parameter("code").is_some());
    world.authorize(&mut browser, &[("prompt", "none login")]).await.assert_redirect("invalid_request");
}

// A13
#[tokio::test]
async fn a_hint_at_another_user_is_not_answered_with_this_one() {
    let world = World::new().await;
    let (mut alices, mut bobs) = (Browser::default(), Browser::default());
    let code = world.sign_in(&mut alices, &[]).await;
    let tokens = world.redeem(&code, &[]).await.json();
    let hint = tokens["id_token"].as_str().unwrap();
    world.pass(3600);
    let silent = [("prompt", "none"), ("id_token_hint", hint)];
    assert!(world.authorize(&mut alices, &silent).await.parameter("code").is_some());
    let portal = world.authorize(&mut bobs, &[]).await.location();
    let mut bob = alice(NOW);
    bob.home_user_id = "18".into();
    bobs.get(&world, &world.vouch_for(&portal, bob.clone()).await).await.parameter("code").unwrap();
    world.authorize(&mut bobs, &silent).await.assert_redirect("login_required");
    let portal = world.authorize(&mut bobs, &[("id_token_hint", hint)]).await.location();
    bobs.get(&world, &world.vouch_for(&portal, bob).await).await.assert_redirect("login_required");
    let mut forged = hint.to_owned();
    forged.replace_range(hint.len() - 4.., "AAAA");
    world.authorize(&mut alices, &[("id_token_hint", &forged)]).await.assert_redirect("invalid_request");
}

// A14
#[tokio::test]
async fn prompt_login_gets_no_code_without_a_new_login() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    world.pass(100);
    let portal = world.authorize(&mut browser, &[("prompt", "login")]).await.location();
    let opened = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), world.time.now()).unwrap();
    assert_eq!(opened.min_auth_time, Some(world.time.now()));
    // A home that does not care is not believed.
    browser.get(&world, &world.vouch_for(&portal, alice(NOW)).await).await.assert_redirect("login_required");
    let code = world.sign_in(&mut browser, &[("prompt", "login")]).await;
    let tokens = world.redeem(&code, &[]).await.json();
    assert_eq!(claims(tokens["id_token"].as_str().unwrap())["auth_time"], world.time.now().as_secs());
}

// A15
#[tokio::test]
async fn max_age_is_demanded_of_session_and_home() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    world.pass(100);
    assert!(world.authorize(&mut browser, &[("max_age", "100")]).await.parameter("code").is_some());
    for too_old in ["0", "1", "99"] {
        let portal = world.authorize(&mut browser, &[("max_age", too_old)]).await.location();
        assert!(portal.starts_with("https://alpha.example/"), "{portal}");
        let old = world.vouch_for(&portal, alice(NOW)).await;
        browser.get(&world, &old).await.assert_redirect("login_required");
        let mut unknown = alice(NOW);
        unknown.auth_time = None;
        let portal = world.authorize(&mut browser, &[("max_age", too_old)]).await.location();
        browser.get(&world, &world.vouch_for(&portal, unknown).await).await.assert_redirect("login_required");
    }
}

// A18
#[tokio::test]
async fn a_home_that_vouches_for_nobody_is_an_answer() {
    let world = World::new().await;
    for (failure, error) in [
        (LoginFailure::LoginRequired, "login_required"),
        (LoginFailure::Cancelled, "access_denied"),
        (LoginFailure::Denied, "access_denied"),
        (LoginFailure::Unavailable, "temporarily_unavailable"),
    ] {
        let mut browser = Browser::default();
        let portal = world.authorize(&mut browser, &[]).await.location();
        browser.get(&world, &world.fail(&portal, failure).await).await.assert_redirect(error);
        assert!(browser.session().is_none());
    }
}

// S1
#[tokio::test]
async fn a_login_changes_the_session_and_ends_the_old_one() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let planted = "A".repeat(43);
    browser.cookies.insert("__Host-homeward-session".into(), planted.clone());
    world.sign_in(&mut browser, &[]).await;
    let first = browser.session().unwrap().clone();
    assert_ne!(first, planted);
    let mut old = browser.clone();
    world.sign_in(&mut browser, &[("prompt", "login")]).await;
    assert_ne!(browser.session().unwrap(), &first);
    world.authorize(&mut old, &[("prompt", "none")]).await.assert_redirect("login_required");
}

// S2
#[tokio::test]
async fn a_handle_is_worthless_in_another_browser() {
    let world = World::new().await;
    let (mut victim, mut thief) = (Browser::default(), Browser::default());
    let portal = world.authorize(&mut victim, &[]).await.location();
    let back = world.vouch(&portal).await;
    Browser::default().get(&world, &back).await.assert_page(403);
    world.authorize(&mut thief, &[]).await;
    thief.get(&world, &back).await.assert_page(403);
    assert!(victim.get(&world, &back).await.parameter("code").is_some());
}

#[tokio::test]
async fn a_handle_is_used_once() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    assert!(browser.get(&world, &back).await.parameter("code").is_some());
    browser.get(&world, &back).await.assert_page(400);
    for bad in ["/login/return", "/login/return?handle=x", "/login/return?handle=AAAAAAAAAAAAAAAAAAAAAA.x"] {
        browser.get(&world, bad).await.assert_page(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_returns_at_once_one_gets_a_code() {
    let world = std::sync::Arc::new(World::new().await);
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    let tries = (0..12).map(|_| {
        let (world, mut browser, back) = (world.clone(), browser.clone(), back.clone());
        tokio::spawn(async move { browser.get(&world, &back).await.status.as_u16() })
    });
    let mut succeeded = 0;
    for attempt in tries.collect::<Vec<_>>() {
        succeeded += usize::from(attempt.await.unwrap() == 303);
    }
    assert_eq!(succeeded, 1);
}

#[tokio::test]
async fn a_ticket_is_used_once_and_by_its_home_only() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let (alpha, gamma) = ("alpha".parse().unwrap(), "gamma".parse().unwrap());
    let ticket = ticket(&portal);
    let identity = || Outcome::Identity(alice(NOW));
    assert!(matches!(world.login.open_ticket(&gamma, &ticket, NOW), Err(LoginError::TicketOfAnotherHome)));
    let foreign = world.login.complete_ticket((&gamma, world.instance_id("gamma")), &ticket, identity(), NOW).await;
    assert!(matches!(foreign, Err(LoginError::TicketOfAnotherHome)));
    assert!(matches!(world.login.open_ticket(&alpha, &ticket[1..], NOW), Err(LoginError::Unreadable)));
    let home = (&alpha, world.instance_id("alpha"));
    let of_before = world.login.complete_ticket((&alpha, InstanceId::generate()), &ticket, identity(), NOW).await;
    assert!(matches!(of_before, Err(LoginError::HomeNotAccepted)), "another home of this name by now");
    let mut nameless = alice(NOW);
    nameless.username.clear();
    let refused = world.login.complete_ticket(home, &ticket, Outcome::Identity(nameless), NOW).await;
    assert!(matches!(refused, Err(LoginError::IdentityRefused(_))));
    let back = world.vouch(&portal).await;
    let again = world.login.complete_ticket(home, &ticket, identity(), NOW).await;
    assert!(matches!(again, Err(LoginError::TicketUsed)));
    assert!(browser.get(&world, &back).await.parameter("code").is_some());
    let much_later = world.login.complete_ticket(home, &ticket, identity(), NOW).await;
    assert!(matches!(much_later, Err(LoginError::TicketUsed)), "not even after the browser came back");
}

#[tokio::test]
async fn a_login_ends_after_ten_minutes() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    world.pass(600);
    let late = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), world.time.now());
    assert!(matches!(late, Err(LoginError::Expired)));
    browser.get(&world, &back).await.assert_page(400);
}

#[tokio::test]
async fn trust_withdrawn_in_the_middle_of_a_login_ends_it() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    world.deny("beta", "alpha").await;
    browser.get(&world, &back).await.assert_redirect("access_denied");
    let alpha = "alpha".parse().unwrap();
    assert!(matches!(world.login.open_ticket(&alpha, &ticket(&portal), NOW), Err(LoginError::HomeNotAccepted)));
    world.allow("beta", "alpha").await;
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    world.quarantine("beta").await;
    browser.get(&world, &back).await.assert_page(400);
    let ticket = world.login.open_ticket(&alpha, &ticket(&portal), NOW);
    assert!(matches!(ticket, Err(LoginError::RelyingPartyGone)));
}

#[tokio::test]
async fn a_session_ends_with_its_home_and_with_time() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    let silent = [("prompt", "none")];
    world.quarantine("alpha").await;
    world.authorize(&mut browser, &silent).await.assert_redirect("login_required");
    world.change("alpha", |alpha| alpha.state = crate::registry::InstanceState::Confirmed).await;
    // Two hours without a login end it; each login counts.
    world.pass(7199);
    assert!(world.authorize(&mut browser, &silent).await.parameter("code").is_some());
    world.pass(7199);
    assert!(world.authorize(&mut browser, &silent).await.parameter("code").is_some());
    world.pass(7200);
    world.authorize(&mut browser, &silent).await.assert_redirect("login_required");
    world.sign_in(&mut browser, &[]).await;
    for _ in 0..6 {
        world.pass(7100);
        assert!(world.authorize(&mut browser, &silent).await.parameter("code").is_some());
    }
    // Twelve hours end it in any case.
    world.pass(601);
    world.authorize(&mut browser, &silent).await.assert_redirect("login_required");
}

#[tokio::test]
async fn a_new_installation_under_an_old_name_is_another_home() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    world.change("alpha", |alpha| alpha.id = InstanceId::generate()).await;
    world.authorize(&mut browser, &[("prompt", "none")]).await.assert_redirect("login_required");
}

// S3
#[tokio::test]
async fn the_picker_is_answered_by_the_browser_that_was_asked() {
    let world = World::new().await;
    world.allow("beta", "gamma").await;
    let (mut asked, mut other) = (Browser::default(), Browser::default());
    let page = world.authorize(&mut asked, &[]).await;
    let sealed = hidden(page.text());
    world.authorize(&mut other, &[]).await;
    let form = [("transaction", sealed.as_str()), ("home", "gamma")];
    other.post(&world, "/login/home", &form).await.assert_page(403);
    Browser::default().post(&world, "/login/home", &form).await.assert_page(403);
    asked.post(&world, "/login/home", &[("home", "gamma")]).await.assert_page(400);
    asked.post(&world, "/login/home", &[("transaction", "x"), ("home", "gamma")]).await.assert_page(400);
    for stranger in ["delta", "nobody", "<script>", ""] {
        let form = [("transaction", sealed.as_str()), ("home", stranger)];
        asked.post(&world, "/login/home", &form).await.assert_page(403);
    }
    // A ticket is no transaction.
    let portal = asked.post(&world, "/login/home", &form).await.location();
    assert!(portal.starts_with("https://gamma.example/homeward/login?ticket="));
    let ticket = ticket(&portal);
    asked.post(&world, "/login/home", &[("transaction", &ticket), ("home", "gamma")]).await.assert_page(400);
    let cancel = asked.post(&world, "/login/home", &[("transaction", &sealed), ("cancel", "1")]).await;
    cancel.assert_redirect("access_denied");
}

#[tokio::test]
async fn the_picker_remembers_escapes_and_explains() {
    let world = World::new().await;
    world.allow("beta", "gamma").await;
    let mut browser = Browser::default();
    let page = world.authorize(&mut browser, &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.text().find("alpha.example").unwrap() < page.text().find("gamma.example").unwrap());
    assert!(!page.text().contains("<alpha>") && page.text().contains("&#60;alpha&#62; &#38; co"), "{}", page.text());
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https://alpha.example https://gamma.example https://beta.example;"));
    assert!(!page.text().contains("<script"));
    let form = [("transaction", hidden(page.text())), ("home", "gamma".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post(&world, "/login/home", &form).await.location();
    let page = world.authorize(&mut browser, &[]).await;
    let text = page.text();
    assert!(text.find("value=\"gamma\"").unwrap() < text.find("value=\"alpha\"").unwrap());
    let asleep = |sighting: &mut Sighting| sighting.online = false;
    world.liveness.update(&"gamma".parse().unwrap(), asleep, NOW);
    let page = world.authorize(&mut browser, &[]).await;
    assert!(page.text().contains("value=\"gamma\" disabled") && page.text().contains("Not connected right now"));
    let form = [("transaction", hidden(page.text())), ("home", "gamma".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(browser.post(&world, "/login/home", &form).await.text().contains("Not connected right now"));
}

#[tokio::test]
async fn a_single_home_that_is_asleep_is_explained() {
    let world = World::new().await;
    world.liveness.update(&"alpha".parse().unwrap(), |sighting| sighting.home_ready = false, NOW);
    let page = world.authorize(&mut Browser::default(), &[]).await;
    assert!(page.status == 200 && page.text().contains("Cannot log anybody in right now"));
    world.deny("beta", "alpha").await;
    let page = world.authorize(&mut Browser::default(), &[]).await;
    assert!(page.status == 200 && page.text().contains("accepts accounts from nowhere else yet"));
}

// S4
#[tokio::test]
async fn two_tabs_do_not_mix_their_logins() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let delta = world.client_id("delta");
    let deltas = [("client_id", delta.as_str()), ("redirect_uri", "https://delta.example/two"), ("state", "2")];
    let one = world.authorize(&mut browser, &[("nonce", "1"), ("state", "1")]).await.location();
    let page = world.authorize(&mut browser, &deltas).await;
    let form = [("transaction", hidden(page.text())), ("home", "alpha".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let two = browser.post(&world, "/login/home", &form).await.location();
    let (one, two) = (world.vouch(&one).await, world.vouch(&two).await);
    let second = browser.get(&world, &two).await;
    let first = browser.get(&world, &one).await;
    assert!(first.location().starts_with(CALLBACK) && first.parameter("state").as_deref() == Some("1"));
    assert!(
        second.location().starts_with("https://delta.example/two?")
            && second.parameter("state").as_deref() == Some("2")
    );
    let tokens = world.redeem(&first.parameter("code").unwrap(), &[]).await.json();
    assert_eq!(claims(tokens["id_token"].as_str().unwrap())["nonce"], "1");
}

// A20, S5
#[tokio::test]
async fn cookies_are_host_cookies() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let answer = world.authorize(&mut browser, &[]).await;
    let back = browser.get(&world, &world.vouch(&answer.location()).await).await;
    let set: Vec<&str> =
        [&answer, &back].iter().flat_map(|a| a.headers.get_all("set-cookie")).map(|v| v.to_str().unwrap()).collect();
    assert_eq!(set.len(), 2);
    for cookie in set {
        assert!(
            cookie.starts_with("__Host-") && cookie.contains("; HttpOnly; SameSite=Lax; Secure; Path=/"),
            "{cookie}"
        );
        assert!(!cookie.contains("Domain"));
    }
}

#[tokio::test]
async fn the_store_holds_no_code_token_or_cookie() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let (_, cookie) = browser.session().unwrap().split_once('.').unwrap();
    let page = crate::storage::Page { prefix: String::new(), after: None, limit: 1000 };
    let all = crate::storage::Store::list(world.store.as_ref(), page).await.unwrap();
    for (key, value) in all {
        let text = format!("{} {}", key.as_str(), String::from_utf8_lossy(&value.value));
        for secret in [&code, &token, cookie, world.secret("beta")] {
            assert!(!text.contains(secret), "{}", key.as_str());
        }
    }
    world.pass(Duration::from_secs(86_400).as_secs());
    for table in ["login", "session", "user_session", "grant"] {
        let swept = crate::storage::expiry::sweep(world.store.as_ref(), table, world.time.now()).await.unwrap();
        assert_eq!(swept, 1, "{table}");
    }
}
