//! Logins through the whole federation: two sites, two agents, a broker, a browser. The ids in comments are those of the
//! threat notes.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::Value;
use url::Url;
use world::browser::Page;
use world::{Browser, Federation, InstanceOptions};

use crate::town::{ALICE, PASSWORD, Town, town, user};

impl Town {
    pub(crate) fn client(&self) -> Client {
        let file = self.beta.folder.join("credentials/current/homeward.json");
        let read: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let text = |name: &str| read[name].as_str().unwrap().to_owned();
        Client {
            issuer: text("issuer"),
            id: text("client_id"),
            secret: text("client_secret"),
            redirect_uri: self.beta.site.at("/callback"),
        }
    }
}

/// beta's client, by hand: for what a good relying party never does.
pub(crate) struct Client {
    issuer: String,
    id: String,
    secret: String,
    redirect_uri: String,
}

const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";

impl Client {
    pub(crate) fn authorize(&self, more: &[(&str, &str)]) -> String {
        let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let mut parameters = vec![
            ("client_id", self.id.as_str()),
            ("redirect_uri", &self.redirect_uri),
            ("response_type", "code"),
            ("scope", "openid profile email groups"),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        parameters.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        parameters.extend_from_slice(more);
        Url::parse_with_params(&format!("{}/authorize", self.issuer), parameters).unwrap().into()
    }

    /// Sends the browser to the broker and stops where it would go back to beta.
    pub(crate) async fn answer(&self, browser: &mut Browser, url: &str) -> HashMap<String, String> {
        let mut page = browser.get(url).await.unwrap();
        for _ in 0..20 {
            let location = page.headers.get("location").unwrap_or_else(|| panic!("{} {}", page.url, page.body));
            let next = page.url.join(location).unwrap();
            if next.as_str().starts_with(&self.redirect_uri) {
                return next.query_pairs().into_owned().collect();
            }
            page = browser.get(next.as_str()).await.unwrap();
        }
        panic!("no answer: {:?}", browser.hops)
    }

    pub(crate) async fn redeem(&self, code: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", VERIFIER),
        ];
        let http = reqwest::Client::new();
        let sent = http.post(format!("{}/token", self.issuer)).basic_auth(&self.id, Some(&self.secret)).form(&form);
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn userinfo(&self, token: &str) -> (u16, Value) {
        let sent = reqwest::Client::new().get(format!("{}/userinfo", self.issuer)).bearer_auth(token);
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

#[tokio::test]
async fn alice_signs_in_at_beta_with_her_session_at_alpha() {
    let town = town(&["session"]).await;
    let mut browser = Browser::new();
    let signed_in = user(&town.sign_in(&mut browser).await);
    assert_eq!(signed_in["preferred_username"], "alice@alpha");
    assert_eq!(signed_in["name"], "Alice Archer");
    assert_eq!(signed_in["email"], "alice@alpha.example");
    assert_eq!(signed_in["email_verified"], true);
    assert_eq!(signed_in["homeward_name"], "alice@alpha");
    assert!(!signed_in["sub"].as_str().unwrap().contains("alice"));

    // With the broker's session nobody is asked again; the subject stays hers.
    browser.set_cookie("beta.localhost", "site-session", "gone");
    let again = user(&browser.open(&town.start()).await.unwrap());
    assert_eq!(again["sub"], signed_in["sub"]);

    // Another browser, signed in at alpha already: no password either.
    let mut other = Browser::new();
    let page = other.open(&town.alpha.site.at("/login")).await.unwrap();
    other.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    let quick = user(&other.open(&town.start()).await.unwrap());
    assert_eq!(quick["sub"], signed_in["sub"]);
}

#[tokio::test]
async fn alice_signs_in_at_beta_with_her_password_at_alpha() {
    let town = town(&["password"]).await;
    let mut browser = Browser::new();
    let form = browser.open(&town.start()).await.unwrap();
    assert!(town.is_at(&form, &town.alpha) && form.url.path().starts_with("/homeward/"), "{}", form.url);
    assert!(form.body.contains("beta site"), "who asks is not named: {}", form.body);
    let wrong = browser.submit(&form, &[("username", "alice"), ("password", "wrong")]).await.unwrap();
    assert!(town.is_at(&wrong, &town.alpha), "{}", wrong.url);
    let unknown = browser.submit(&wrong, &[("username", "nobody"), ("password", "wrong")]).await.unwrap();
    let sentence = |page: &Page| page.body.lines().find(|line| line.contains("role=\"alert\"")).map(str::to_owned);
    assert!(sentence(&wrong).is_some(), "{}", wrong.body);
    // S11: nothing tells an unknown user from a wrong password.
    assert_eq!(sentence(&wrong), sentence(&unknown));
    let page = browser.submit(&unknown, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    assert_eq!(user(&page)["preferred_username"], "alice@alpha");

    // E1, E2: the password is nowhere but in alpha's memory: not in a file, not in a log at level trace.
    assert_eq!(files_with(town.federation.world.folder(), PASSWORD), [""; 0]);
}

/// E1, E2: what a login is made of is in no file and in no log, at level trace.
#[tokio::test]
async fn codes_tokens_and_cookies_are_nowhere_in_clear() {
    let town = town(&["session"]).await;
    let client = town.client();
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    let answer = client.answer(&mut browser, &client.authorize(&[])).await;
    let tokens = client.redeem(&answer["code"]).await.1;
    let access_token = tokens["access_token"].as_str().unwrap();
    client.userinfo(access_token).await;
    let mut canaries =
        vec![answer["code"].clone(), access_token.to_owned(), tokens["id_token"].as_str().unwrap().to_owned()];
    canaries.extend(browser.cookies_of("localhost").filter(|value| value.len() > 20));
    canaries.extend(browser.cookies_of("alpha.localhost"));
    for (address, _) in &browser.hops {
        let url = Url::parse(address).unwrap();
        let carried = url.query_pairs().filter(|(name, _)| ["ticket", "handle", "code"].contains(&name.as_ref()));
        canaries.extend(carried.map(|(_, value)| value.into_owned()));
    }
    assert!(canaries.len() >= 8, "{canaries:?}");
    for canary in canaries {
        assert_eq!(files_with(town.federation.world.folder(), &canary), [""; 0], "{canary}");
    }
    // The client's secret is in beta's file, which its agent wrote, and in the agent's own, and nowhere else.
    let holders = files_with(town.federation.world.folder(), &client.secret);
    assert!(holders.iter().all(|file| file.contains("/beta/") && !file.ends_with(".log")), "{holders:?}");
}

fn files_with(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|w| w == needle.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// S2, invariant 7: a login that somebody else began ends in no session, for nobody.
#[tokio::test]
async fn no_browser_finishes_a_login_that_another_one_began() {
    let town = town(&["session"]).await;
    let client = town.client();
    let (mut thief, mut alice) = (Browser::new(), Browser::new());
    let page = alice.open(&town.alpha.site.at("/login")).await.unwrap();
    alice.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();

    // The thief begins, and has alice open the portal's address.
    let began = thief.get(&client.authorize(&[])).await.unwrap();
    let portal = began.headers["location"].clone();
    let vouched = alice.get(&portal).await.unwrap();
    let back = vouched.headers["location"].clone();
    assert!(back.starts_with(&client.issuer), "{back}");
    let refused = alice.get(&back).await.unwrap();
    assert_eq!((refused.status, refused.headers.get("location")), (403, None), "{}", refused.body);
    assert!(refused.body.contains("another browser"), "{}", refused.body);
}

/// A12, A14, A15: what beta asks of the login's freshness is what it gets.
#[tokio::test]
async fn prompt_and_max_age_are_honoured_by_the_home() {
    let town = town(&["session", "password"]).await;
    let client = town.client();
    let mut browser = Browser::new();
    let silent = client.answer(&mut browser, &client.authorize(&[("prompt", "none")])).await;
    assert_eq!(silent["error"], "login_required");
    assert_eq!((silent["state"].as_str(), silent["iss"].as_str()), ("the-state", client.issuer.as_str()));

    town.sign_in(&mut browser).await;
    let silent = client.answer(&mut browser, &client.authorize(&[("prompt", "none")])).await;
    let first = client.redeem(&silent["code"]).await.1;
    let old = claims(&first)["auth_time"].as_i64().unwrap();

    // prompt=login: signed in at broker and home, and still no code without a new proof.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let page = browser.open(&client.authorize(&[("prompt", "login")])).await.unwrap();
    assert!(town.is_at(&page, &town.alpha), "{} {}", page.url, page.body);
    let mut page = page;
    for _ in 0..3 {
        if town.is_at(&page, &town.beta) {
            break;
        }
        page = browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    }
    let (last, _) = browser.hops.iter().rev().find(|(url, _)| url.starts_with(&client.redirect_uri)).unwrap();
    let answer: HashMap<String, String> = Url::parse(last).unwrap().query_pairs().into_owned().collect();
    let fresh = client.redeem(&answer["code"]).await.1;
    assert!(claims(&fresh)["auth_time"].as_i64().unwrap() > old, "{fresh}");

    let junk = client.answer(&mut browser, &client.authorize(&[("max_age", "abc")])).await;
    assert_eq!(junk["error"], "invalid_request");
    let relaxed = client.answer(&mut browser, &client.authorize(&[("max_age", "10000"), ("prompt", "none")])).await;
    assert!(relaxed.contains_key("code"), "{relaxed:?}");
}

fn claims(tokens: &Value) -> Value {
    let payload = tokens["id_token"].as_str().unwrap_or_else(|| panic!("{tokens}")).split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// D1, C1: redemption under `kill -9`: what was answered is there, and nothing is used twice.
#[tokio::test]
async fn a_killed_broker_forgets_no_login_and_repeats_none() {
    let mut town = town(&["session"]).await;
    let client = town.client();
    let mut browser = Browser::new();

    // Killed while alice is at her home: nothing was stored, and nothing is lost.
    let page = browser.open(&client.authorize(&[])).await.unwrap();
    assert!(town.is_at(&page, &town.alpha));
    town.federation.kill_broker().await.unwrap();
    town.federation.serve().await.unwrap();
    town.federation.in_sync("alpha").await.unwrap();
    let page = browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    assert!(town.is_at(&page, &town.beta), "{} {}", page.url, page.body);

    // Killed between code and token: the code is good once.
    let answer = client.answer(&mut browser, &client.authorize(&[])).await;
    town.federation.kill_broker().await.unwrap();
    town.federation.serve().await.unwrap();
    let (status, tokens) = client.redeem(&answer["code"]).await;
    assert_eq!(status, 200, "{tokens}");
    let access_token = tokens["access_token"].as_str().unwrap();
    assert_eq!(client.userinfo(access_token).await.1["preferred_username"], "alice@alpha");

    // Killed after the answer: the code is used, the token is good; the replay ends it.
    town.federation.kill_broker().await.unwrap();
    town.federation.serve().await.unwrap();
    assert_eq!(client.userinfo(access_token).await.0, 200);
    let (status, refused) = client.redeem(&answer["code"]).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(client.userinfo(access_token).await.0, 401);
}

/// C4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_redemptions_exactly_one_succeeds() {
    let town = town(&["session"]).await;
    let client = std::sync::Arc::new(town.client());
    let mut browser = Browser::new();
    town.sign_in(&mut browser).await;
    let answer = client.answer(&mut browser, &client.authorize(&[])).await;
    let racers = (0..8).map(|_| {
        let (client, code) = (client.clone(), answer["code"].clone());
        tokio::spawn(async move { client.redeem(&code).await.0 })
    });
    let mut statuses = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        statuses.push(racer.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

/// R1, R7, A20: strangers' addresses are never redirected to.
#[tokio::test]
async fn unregistered_addresses_and_clients_get_a_page() {
    let town = town(&["session"]).await;
    let client = town.client();
    let mut browser = Browser::new();
    for (name, value) in [
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", &format!("{}/", client.redirect_uri)),
        ("redirect_uri", &format!("{}?x=1", client.redirect_uri)),
        ("redirect_uri", &client.redirect_uri.to_uppercase()),
        ("client_id", "beta-00000000"),
        ("client_id", ""),
    ] {
        let page = browser.get(&client.authorize(&[(name, value)])).await.unwrap();
        assert_eq!((page.status, page.headers.get("location")), (400, None), "{name}={value}");
        assert!(page.headers["content-security-policy"].contains("frame-ancestors 'none'"));
        assert!(!page.body.contains("evil"), "{}", page.body);
    }
    let post = browser.request(Method::PUT, Url::parse(&client.authorize(&[])).unwrap(), None).await.unwrap();
    assert_eq!(post.status, 405);
}

/// B12, C7, invariant 6: what a quarantined home vouched for is worth nothing from then on.
#[tokio::test]
async fn a_quarantined_home_takes_its_sessions_with_it() {
    let federation = Federation::start().await.unwrap();
    let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] };
    let mut alpha = federation.prepare("alpha", home).await.unwrap();
    let token = federation.token("alpha", &[]).await.unwrap();
    alpha.enrol(&token).await.unwrap();
    alpha.run().await.unwrap();
    federation.in_sync("alpha").await.unwrap();
    let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let beta = federation.instance("beta", party).await.unwrap();
    federation.allow("beta", "alpha", &[]).await.unwrap();
    let town = Town { federation, alpha, beta };
    let client = town.client();
    let mut browser = Browser::new();
    let signed_in = user(&town.sign_in(&mut browser).await);
    // No domain on the edge: the address is not called verified, whatever alpha says.
    assert_eq!(
        (signed_in["email"].as_str(), &signed_in["email_verified"]),
        (Some("alice@alpha.example"), &Value::Bool(false))
    );
    let answer = client.answer(&mut browser, &client.authorize(&[])).await;
    let other = client.answer(&mut browser, &client.authorize(&[])).await;
    let tokens = client.redeem(&other["code"]).await.1;

    world::Applicant::new(&token).unwrap().enrol().await.unwrap_err();
    assert_eq!(client.redeem(&answer["code"]).await.1["error"], "invalid_grant");
    assert_eq!(client.userinfo(tokens["access_token"].as_str().unwrap()).await.0, 401);
    let silent = client.answer(&mut browser, &client.authorize(&[("prompt", "none")])).await;
    assert_eq!(silent["error"], "login_required");
}

#[tokio::test]
async fn a_home_that_is_away_is_shown_and_cannot_be_chosen() {
    let mut town = town(&["session"]).await;
    town.alpha.agent.take().unwrap().stop().await.unwrap();
    for _ in 0..100 {
        let shown = town.federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
        if shown["online"] == false {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut browser = Browser::new();
    let page = browser.open(&town.start()).await.unwrap();
    assert!(page.url.as_str().starts_with(&town.federation.issuer().unwrap()), "{}", page.url);
    assert!(page.body.contains("alpha site") && page.body.contains("disabled"), "{}", page.body);
}
