//! Linked homes: the way there, what it changes and where, and how it ends. gamma's ally is alpha's alice.

mod apis;
mod ends;

use std::sync::Arc;

use serde_json::Value;

use super::session::hidden as transaction_of;
use super::world::{Answer, Browser, ISSUER, World, alice, claims};
use crate::clock::Timestamp;
use crate::registry::{
    AssertedIdentity, Departure, InstanceState, Link, LinkError, QuarantineCause, SubjectType, UserId,
};

fn ally(auth_time: Timestamp) -> AssertedIdentity {
    AssertedIdentity {
        home_user_id: "99".into(),
        username: "ally".into(),
        name: "Ally A".into(),
        email: "ally@gamma.example".into(),
        ..alice(auth_time)
    }
}

fn field(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name}: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn path(answer: &Answer) -> String {
    let to = answer.location();
    to.strip_prefix(ISSUER).unwrap_or(&to).to_owned()
}

fn home_of(portal: &str) -> &str {
    portal.strip_prefix("https://").unwrap().split('.').next().unwrap()
}

/// beta accepts both homes, and follows links from gamma; delta accepts both, and follows none.
async fn world() -> World {
    let world = World::new().await;
    world.allow_with("beta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    world
}

/// Signs in at beta with this home; gives the code.
async fn sign_in(world: &World, browser: &mut Browser, home: &str, who: AssertedIdentity) -> String {
    let picker = world.authorize(browser, &[("prompt", "select_account"), ("scope", "openid profile email")]).await;
    let form = [("transaction", transaction_of(picker.text())), ("home", home.to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let portal = browser.post(world, "/login/home", &form).await.location();
    let back = browser.get(world, &world.vouch_for(&portal, who).await).await;
    back.parameter("code").unwrap_or_else(|| panic!("{}", back.location()))
}

async fn tokens(world: &World, browser: &mut Browser, home: &str) -> Value {
    let now = world.time.now();
    let who = if home == "alpha" { alice(now) } else { ally(now) };
    let code = sign_in(world, browser, home, who).await;
    world.redeem(&code, &[]).await.json()
}

fn said(tokens: &Value) -> Value {
    claims(tokens["id_token"].as_str().unwrap())
}

/// The subject by which beta knows who comes from this home.
async fn subject(world: &World, home: &str) -> String {
    let tokens = tokens(world, &mut Browser::default(), home).await;
    said(&tokens)["sub"].as_str().unwrap().to_owned()
}

/// alice, signed in.
async fn alices(world: &World) -> Browser {
    let mut browser = Browser::default();
    sign_in(world, &mut browser, "alpha", alice(world.time.now())).await;
    browser
}

async fn form_token(world: &World, browser: &mut Browser) -> String {
    field(browser.get(world, "/account").await.text(), "form_token")
}

async fn begin(world: &World, browser: &mut Browser, other: &str) -> Answer {
    let token = form_token(world, browser).await;
    browser.post(world, "/account", &[("link", other), ("form_token", &token)]).await
}

/// Signs in where the browser is sent; gives the address of the page that comes next.
async fn prove(world: &World, browser: &mut Browser, portal: &str, who: AssertedIdentity) -> Answer {
    browser.get(world, &world.vouch_for(portal, who).await).await
}

async fn answer(world: &World, browser: &mut Browser, page: &str, which: &str) -> Answer {
    let form = [("form_token", field(page, "form_token")), ("link", field(page, "link"))];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).chain([(which, "1")]).collect();
    browser.post(world, "/account/link", &form).await
}

/// As far as gamma's door: alice has signed in anew at alpha.
async fn half_way(world: &World, browser: &mut Browser) -> String {
    let portal = begin(world, browser, "gamma").await.location();
    assert_eq!(home_of(&portal), "alpha");
    let page = path(&prove(world, browser, &portal, alice(world.time.now())).await);
    let page = browser.get(world, &page).await;
    assert!(page.text().contains("Now sign in at"), "{}", page.text());
    let portal = answer(world, browser, page.text(), "go_on").await.location();
    assert_eq!(home_of(&portal), "gamma");
    portal
}

/// As far as the question.
async fn asked(world: &World, browser: &mut Browser) -> String {
    let portal = half_way(world, browser).await;
    let page = path(&prove(world, browser, &portal, ally(world.time.now())).await);
    let page = browser.get(world, &page).await;
    assert!(page.text().contains("Are both accounts yours?"), "{}", page.text());
    page.text().to_owned()
}

async fn link(world: &World, browser: &mut Browser) {
    let page = asked(world, browser).await;
    assert_eq!(answer(world, browser, &page, "yes").await.location(), "/account");
}

fn user(world: &World, home: &str, id: &str) -> UserId {
    world.provider.subjects.user(world.instance_id(home), id)
}

/// ally's to alice.
async fn made(world: &World) -> Link {
    world.registry.links.of_user(&user(world, "gamma", "99")).await.unwrap().remove(0)
}

async fn links(world: &World) -> usize {
    world.registry.links.page(None, 100).await.unwrap().0.len()
}

fn assert_not_linked(answer: &Answer) {
    answer.assert_page(403);
    assert!(answer.text().contains("Your homes were not linked"), "{}", answer.text());
}

#[tokio::test]
async fn whoever_links_two_homes_is_one_person_where_ops_allow_it() {
    let world = world().await;
    let (own, other) = (subject(&world, "alpha").await, subject(&world, "gamma").await);
    assert_ne!(own, other);
    let mut browser = alices(&world).await;
    let page = asked(&world, &mut browser).await;
    for shown in ["alice", "ally", "&#60;beta&#62; &#38; co", "&#60;gamma&#62; &#38; co"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("delta"), "where it has no effect");
    assert_eq!(answer(&world, &mut browser, &page, "yes").await.location(), "/account");
    let page = browser.get(&world, "/account").await;
    assert!(page.text().contains("ally from") && page.text().contains("name=\"unlink\""), "{}", page.text());

    let tokens = tokens(&world, &mut Browser::default(), "gamma").await;
    let said = said(&tokens);
    assert_eq!(said["sub"], own.as_str());
    // Everything else is the word of the home that he came from.
    assert_eq!((said["email"].as_str(), said["name"].as_str()), (Some("ally@gamma.example"), Some("Ally A")));
    let userinfo = world.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(userinfo.json()["sub"], own.as_str());
    assert_eq!(subject(&world, "alpha").await, own);
}

/// OpenID Connect Core 8.1: also who knows users by subjects of its own knows them by those of whom they are linked to.
#[tokio::test]
async fn a_client_with_subjects_of_its_own_knows_the_linked_one_by_his() {
    let world = world().await;
    let sector = "beta.example".to_owned();
    world.change_policy(|policy| policy.subject_type = SubjectType::Pairwise { sector }).await;
    let (own, other) = (subject(&world, "alpha").await, subject(&world, "gamma").await);
    assert_ne!(own, world.provider.subjects.subject(world.instance_id("alpha"), "17").to_string());
    let mut browser = alices(&world).await;
    link(&world, &mut browser).await;
    for _ in 0..2 {
        assert_eq!(subject(&world, "gamma").await, own);
        assert_eq!(subject(&world, "alpha").await, own);
    }
    let page = browser.get(&world, "/account").await;
    let (id, token) = (field(page.text(), "unlink"), field(page.text(), "form_token"));
    browser.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
    assert_eq!(subject(&world, "gamma").await, other, "and he is the one again who he was");
}

#[tokio::test]
async fn where_ops_have_not_allowed_it_a_link_has_no_effect() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let linked = subject(&world, "gamma").await;
    world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
    world.change_edge("delta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    assert_ne!(subject(&world, "gamma").await, linked, "not allowed at beta, whoever allows it elsewhere");
    world.change_edge("beta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    assert_eq!(subject(&world, "gamma").await, linked);
    world.deny("beta", "alpha").await;
    assert_ne!(subject(&world, "gamma").await, linked, "whose other home is not accepted");
}

#[tokio::test]
async fn unlinking_ends_what_rested_on_the_link() {
    let world = world().await;
    let mut browser = alices(&world).await;
    let other = subject(&world, "gamma").await;
    link(&world, &mut browser).await;
    let mut allys = Browser::default();
    let tokens = tokens(&world, &mut allys, "gamma").await;
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(world.userinfo(access).await.status, 200);
    let page = browser.get(&world, "/account").await;
    let (id, token) = (field(page.text(), "unlink"), field(page.text(), "form_token"));
    browser.post(&world, "/account", &[("unlink", &id)]).await.assert_page(403);
    assert_eq!(links(&world).await, 1, "a form from elsewhere ends nothing");
    // Somebody else's form ends nothing of it either.
    let mut bobs = Browser::default();
    let bob = AssertedIdentity { home_user_id: "18".into(), username: "bob".into(), ..alice(world.time.now()) };
    sign_in(&world, &mut bobs, "alpha", bob).await;
    let bobs_token = form_token(&world, &mut bobs).await;
    bobs.post(&world, "/account", &[("unlink", &id), ("form_token", &bobs_token)]).await;
    assert_eq!(links(&world).await, 1);
    browser.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
    assert_eq!(links(&world).await, 0);
    assert_eq!(world.userinfo(access).await.status, 401);
    world.authorize(&mut allys, &[("prompt", "none")]).await.assert_redirect("login_required");
    assert_eq!(subject(&world, "gamma").await, other);
}

#[tokio::test]
async fn the_linked_account_can_unlink_too() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let mut allys = Browser::default();
    tokens(&world, &mut allys, "gamma").await;
    let page = allys.get(&world, "/account").await;
    assert!(!page.text().contains("name=\"link\""), "an alias links nothing");
    let (id, token) = (field(page.text(), "unlink"), field(page.text(), "form_token"));
    let answer = allys.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
    assert_eq!((answer.status.as_u16(), links(&world).await), (200, 0), "and is signed out");
}

#[tokio::test]
async fn a_quarantine_voids_a_link_for_good() {
    for home in ["alpha", "gamma"] {
        let world = world().await;
        let (own, other) = (subject(&world, "alpha").await, subject(&world, "gamma").await);
        link(&world, &mut alices(&world).await).await;
        let tokens = tokens(&world, &mut Browser::default(), "gamma").await;
        world.change(home, |home| home.cut_off("test".into(), QuarantineCause::Ops, world.time.now())).await;
        let access = tokens["access_token"].as_str().unwrap();
        assert_eq!(world.userinfo(access).await.status, 401, "{home}: what rested on it is dead");
        world.pass(60);
        world.change(home, |home| home.state = InstanceState::Confirmed).await;
        assert_eq!(world.userinfo(access).await.status, 401, "{home}: also when it is released");
        assert_eq!(subject(&world, "gamma").await, other, "{home}: and it stays void");
        assert_eq!(subject(&world, "alpha").await, own);
        // Whoever links anew has one that counts.
        let mut browser = alices(&world).await;
        let page = browser.get(&world, "/account").await;
        assert!(page.text().contains("one of the two homes was cut off since"), "{}", page.text());
        let (id, token) = (field(page.text(), "unlink"), field(page.text(), "form_token"));
        browser.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
        link(&world, &mut browser).await;
        assert_eq!(subject(&world, "gamma").await, own);
    }
}

#[tokio::test]
async fn what_a_home_has_said_before_a_quarantine_links_nobody_after_it() {
    for home in ["alpha", "gamma"] {
        let world = world().await;
        let mut browser = alices(&world).await;
        let portal = half_way(&world, &mut browser).await;
        // Whoever has taken gamma over says so; the browser comes back with it when all is over.
        let back = world.vouch_for(&portal, ally(world.time.now())).await;
        world.change(home, |home| home.cut_off("test".into(), QuarantineCause::Ops, world.time.now())).await;
        world.change(home, |home| home.state = InstanceState::Confirmed).await;
        let to = browser.get(&world, &back).await;
        if to.status.is_redirection() {
            let page = browser.get(&world, &path(&to)).await;
            if page.text().contains("name=\"link\"") {
                answer(&world, &mut browser, page.text(), "yes").await;
            }
        }
        assert_eq!(links(&world).await, 0, "{home}");
    }
}

#[tokio::test]
async fn a_home_that_is_another_one_by_now_has_no_links() {
    let world = world().await;
    let other = subject(&world, "gamma").await;
    link(&world, &mut alices(&world).await).await;
    world.change("alpha", |alpha| alpha.id = crate::registry::InstanceId::generate()).await;
    assert_eq!(subject(&world, "gamma").await, other);
    assert!(world.registry.sweep_links().await.unwrap().is_empty(), "nothing is left to end");
    assert_eq!(links(&world).await, 0);
}

#[tokio::test]
async fn a_session_swap_in_between_links_nothing() {
    let world = world().await;
    let mut browser = alices(&world).await;
    let portal = half_way(&world, &mut browser).await;
    // Somebody else signs in in the same browser.
    let bob = AssertedIdentity { home_user_id: "18".into(), username: "bob".into(), ..alice(world.time.now()) };
    sign_in(&world, &mut browser, "alpha", bob).await;
    assert_not_linked(&prove(&world, &mut browser, &portal, ally(world.time.now())).await);
    // Nor at the question: also alice herself, signed in anew, is another session.
    let mut browser = alices(&world).await;
    let page = asked(&world, &mut browser).await;
    browser.cookies.remove("__Host-homeward-session");
    sign_in(&world, &mut browser, "alpha", alice(world.time.now())).await;
    let token = form_token(&world, &mut browser).await;
    let form = [("form_token", token.as_str()), ("link", &field(&page, "link")), ("yes", "1")];
    assert_not_linked(&browser.post(&world, "/account/link", &form).await);
    assert_eq!(links(&world).await, 0);
}

#[tokio::test]
async fn another_user_at_the_own_home_links_nothing() {
    let world = world().await;
    let mut browser = alices(&world).await;
    let portal = begin(&world, &mut browser, "gamma").await.location();
    let bob = AssertedIdentity { home_user_id: "18".into(), username: "bob".into(), ..alice(world.time.now()) };
    assert_not_linked(&prove(&world, &mut browser, &portal, bob).await);
}

#[tokio::test]
async fn an_old_login_at_either_home_links_nothing() {
    let world = world().await;
    let mut browser = alices(&world).await;
    world.pass(60);
    let portal = begin(&world, &mut browser, "gamma").await.location();
    let old = world.time.now() - std::time::Duration::from_secs(1);
    assert_not_linked(&prove(&world, &mut browser, &portal, alice(old)).await);
    let portal = half_way(&world, &mut browser).await;
    assert_not_linked(&prove(&world, &mut browser, &portal, ally(old)).await);
    let portal = half_way(&world, &mut browser).await;
    let unknown = AssertedIdentity { auth_time: None, ..ally(old) };
    assert_not_linked(&prove(&world, &mut browser, &portal, unknown).await);
}

#[tokio::test]
async fn another_browser_or_site_links_nothing() {
    let world = world().await;
    let mut browser = alices(&world).await;
    let token = form_token(&world, &mut browser).await;
    browser.post(&world, "/account", &[("link", "gamma")]).await.assert_page(403);
    let portal = half_way(&world, &mut browser).await;
    let back = world.vouch_for(&portal, ally(world.time.now())).await;
    // An attacker has a victim's browser finish what he began.
    let mut victim = alices(&world).await;
    victim.get(&world, &back).await.assert_page(403);
    let page = path(&browser.get(&world, &back).await);
    victim.get(&world, &page).await.assert_page(403);
    let page = browser.get(&world, &page).await.text().to_owned();
    let form = [("link", field(&page, "link")), ("yes", "1".to_owned())];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post(&world, "/account/link", &form).await.assert_page(403);
    let foreign = form_token(&world, &mut victim).await;
    assert_ne!(foreign, token);
    let form: Vec<_> = form.into_iter().chain([("form_token", foreign.as_str())]).collect();
    browser.post(&world, "/account/link", &form).await.assert_page(403);
    victim.post(&world, "/account/link", &form).await.assert_page(403);
    assert_eq!(links(&world).await, 0);
}

#[tokio::test]
async fn a_link_on_its_way_is_good_once_and_for_ten_minutes() {
    let world = world().await;
    let mut browser = alices(&world).await;
    let page = asked(&world, &mut browser).await;
    assert_eq!(answer(&world, &mut browser, &page, "yes").await.location(), "/account");
    assert_not_linked(&answer(&world, &mut browser, &page, "yes").await);
    let account = browser.get(&world, "/account").await;
    let (id, token) = (field(account.text(), "unlink"), field(account.text(), "form_token"));
    browser.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
    // What the user has taken back does not come back with an old page.
    assert_not_linked(&answer(&world, &mut browser, &page, "yes").await);
    let page = asked(&world, &mut browser).await;
    world.pass(600);
    answer(&world, &mut browser, &page, "yes").await.assert_page(400);
    assert_eq!(links(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_answers_at_once_one_links() {
    let world = Arc::new(world().await);
    let mut browser = alices(&world).await;
    let page = asked(&world, &mut browser).await;
    let tries = (0..12).map(|_| {
        let (world, mut browser, page) = (world.clone(), browser.clone(), page.clone());
        tokio::spawn(async move { answer(&world, &mut browser, &page, "yes").await.status.as_u16() })
    });
    let mut linked = 0;
    for attempt in tries.collect::<Vec<_>>() {
        linked += usize::from(attempt.await.unwrap() == 303);
    }
    assert_eq!((linked, links(&world).await), (1, 1));
}

#[tokio::test]
async fn nobody_is_linked_twice_or_in_a_chain() {
    let world = world().await;
    world.allow_with("beta", "delta", |edge| edge.linked = Some(edge.epoch)).await;
    let mut browser = alices(&world).await;
    // Two pages that ask for the same account of gamma, by two users.
    let page = asked(&world, &mut browser).await;
    let mut bobs = Browser::default();
    let bob = |world: &World| AssertedIdentity {
        home_user_id: "18".into(),
        username: "bob".into(),
        ..alice(world.time.now())
    };
    sign_in(&world, &mut bobs, "alpha", bob(&world)).await;
    let portal = begin(&world, &mut bobs, "gamma").await.location();
    let step = path(&prove(&world, &mut bobs, &portal, bob(&world)).await);
    let step = bobs.get(&world, &step).await.text().to_owned();
    let portal = answer(&world, &mut bobs, &step, "go_on").await.location();
    let bobs_page = path(&prove(&world, &mut bobs, &portal, ally(world.time.now())).await);
    let bobs_page = bobs.get(&world, &bobs_page).await.text().to_owned();
    assert_eq!(answer(&world, &mut browser, &page, "yes").await.location(), "/account");
    assert_not_linked(&answer(&world, &mut bobs, &bobs_page, "yes").await);
    assert_eq!(links(&world).await, 1);

    let link = made(&world).await;
    let id = || crate::registry::LinkId::generate().unwrap();
    let as_primary = Link { id: id(), primary: link.alias.clone(), alias: link.primary.clone(), ..link.clone() };
    assert!(matches!(world.registry.links.make(&as_primary).await, Err(LinkError::PrimaryIsAlias)));
    let mut third = link.primary.clone();
    third.user = user(&world, "delta", "1");
    (third.home, third.home_id) = ("delta".parse().unwrap(), world.instance_id("delta"));
    let as_alias = Link { id: id(), primary: third, alias: link.primary.clone(), ..link.clone() };
    assert!(matches!(world.registry.links.make(&as_alias).await, Err(LinkError::AliasIsLinked)));
    let same = Link { id: id(), alias: link.primary.clone(), ..link };
    assert!(matches!(world.registry.links.make(&same).await, Err(LinkError::SameHome)));
}

#[tokio::test]
async fn the_same_home_or_one_that_nobody_follows_is_not_linked() {
    let world = world().await;
    let mut browser = alices(&world).await;
    for other in ["alpha", "delta", "nobody"] {
        assert_not_linked(&begin(&world, &mut browser, other).await);
    }
    world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
    assert!(!browser.get(&world, "/account").await.text().contains("Linked homes"));
    assert_not_linked(&begin(&world, &mut browser, "gamma").await);
}

#[tokio::test]
async fn a_home_that_has_taken_back_its_word_meanwhile_links_nobody() {
    let world = world().await;
    for (home, id) in [("alpha", "17"), ("gamma", "99")] {
        let mut browser = alices(&world).await;
        let page = asked(&world, &mut browser).await;
        world.registry.home_users.cut_off(world.instance_id(home), id, Departure::Disabled).await.unwrap();
        answer(&world, &mut browser, &page, "yes").await.assert_page(403);
        assert_eq!(links(&world).await, 0, "{home}");
    }
}
