//! The small site itself, as far as other tests rest on it: logins that somebody else begins, and sessions that end here.

use serde_json::{Value, json};
use world::Browser;

use crate::town::{PASSWORD, town, user};

/// OpenID Connect Core 4.
#[tokio::test]
async fn a_login_that_somebody_else_begins_ends_where_he_said() {
    let town = town(&["session"]).await;
    let site = &town.beta.site;
    let mut browser = Browser::new();
    let issuer = town.federation.issuer().unwrap();
    let initiate = |iss: &str, target: &str| {
        let parameters = [("iss", iss), ("login_hint", "alice"), ("target_link_uri", target)];
        url::Url::parse_with_params(&site.at("/initiate-login"), parameters).unwrap().to_string()
    };
    let page = browser.open(&initiate(&issuer, &site.at("/whoami"))).await.unwrap();
    assert!(town.is_at(&page, &town.alpha), "{} {}", page.url, page.body);
    let page = browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    assert_eq!(page.url.as_str(), site.at("/whoami"));
    for (iss, target) in [("https://evil.example", site.at("/")), (&issuer, "https://evil.example/".to_owned())] {
        let page = browser.get(&initiate(iss, &target)).await.unwrap();
        assert_eq!((page.status, page.headers.get("location")), (400, None), "{iss} {target}");
    }
}

#[tokio::test]
async fn sessions_at_the_site_end_by_its_page_and_by_what_the_agent_calls() {
    let town = town(&["session"]).await;
    let mut browser = Browser::new();
    let sub = user(&town.sign_in(&mut browser).await)["sub"].as_str().unwrap().to_owned();
    let [session] = &town.beta.site.sessions()[..] else { panic!("one session") };
    assert_eq!((session.subject(), session.account()), (Some(sub.as_str()), None));
    let [at_home] = &town.alpha.site.sessions()[..] else { panic!("one session") };
    assert_eq!((at_home.username(), at_home.account()), ("alice", Some("user-alice")));

    let (http, site) = (reqwest::Client::new(), format!("http://{}", town.beta.site.address()));
    let end = async |body: Value| -> Value {
        let sent = http.post(format!("{site}/api/end-sessions")).json(&body).send().await.unwrap();
        sent.json().await.unwrap()
    };
    assert_eq!(end(json!({"subject": "somebody else", "session_id": ""})).await["ended"], 0);
    assert_eq!(end(json!({"subject": sub, "session_id": ""})).await["ended"], 1);
    assert_eq!(end(json!({"subject": sub, "session_id": ""})).await["ended"], 0);

    let page = browser.open(&town.alpha.site.at("/logout")).await.unwrap();
    let page = browser.submit(&page, &[]).await.unwrap();
    assert!(page.body.contains("Nobody is signed in"), "{}", page.body);
    assert!(town.alpha.site.sessions().is_empty());
}
