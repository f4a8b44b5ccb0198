//! Linked homes: what ops see of a link and end, and what the word of one of its homes ends. gamma's ally is alpha's alice.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use url::Url;
use world::federation::Instance;
use world::site::Account;
use world::{Browser, InstanceOptions};

use crate::town::{PASSWORD, Town, town, user};

const ALLY: Account =
    Account { username: "ally", password: PASSWORD, name: "Ally Archer", email: "ally@gamma.example" };

/// How long something that should come about may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A town in which she has linked them, and is signed in at beta by both, each in a browser of its own.
struct Linked {
    town: Town,
    gamma: Instance,
    alice: Browser,
    ally: Browser,
    /// By which beta knows them.
    subject: Value,
}

impl Linked {
    async fn start() -> Self {
        let town = town(&["password"]).await;
        let (mut alice, mut ally) = (Browser::new(), Browser::new());
        let subject = user(&town.sign_in(&mut alice).await)["sub"].clone();
        let home = InstanceOptions { accounts: vec![ALLY], relying_party: false, methods: vec!["password"] };
        let gamma = town.federation.instance("gamma", home).await.unwrap();
        let command = ["trust", "allow", "--relying-party", "beta", "--home", "gamma", "--linked"];
        town.federation.ops(&command).await.unwrap();
        town.federation.in_sync("beta").await.unwrap();
        link(&town, &mut alice).await;
        let signed_in = sign_in_from_gamma(&town, &mut ally).await;
        assert_eq!((&signed_in["username"], &signed_in["sub"]), (&"ally@gamma".into(), &subject));
        Self { town, gamma, alice, ally, subject }
    }

    async fn links(&self) -> Vec<Value> {
        let listed = self.town.federation.ops_json(&["link", "list"]).await.unwrap();
        listed.as_array().unwrap().clone()
    }

    async fn tokens(&mut self) -> [String; 2] {
        [token(&self.town, &mut self.alice).await, token(&self.town, &mut self.ally).await]
    }

    /// Whether they are good still.
    async fn good(&self, tokens: &[String; 2]) -> [bool; 2] {
        let client = self.town.client();
        let [alices, allys] = tokens;
        [client.userinfo(alices).await.0 == 200, client.userinfo(allys).await.0 == 200]
    }

    /// Waits until beta has these users signed in and nobody else: it is told by its back channel.
    async fn are_at_beta(&self, names: &[&str]) {
        let signed_in = || {
            let sessions = self.town.beta.site.sessions();
            let mut names: Vec<_> = sessions.iter().map(|session| session.username().to_owned()).collect();
            names.sort();
            names
        };
        let come = async {
            while signed_in() != names {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, come).await.is_ok(), "{:?}, not {names:?}", signed_in());
    }

    /// What a home reports of its user; how many sessions ended.
    async fn disabled(&self, home: &Instance, id: &str) -> u64 {
        let arguments = ["report", "--home-user-id", id, "--event", "disabled", "--output", "json"];
        let printed: Value = serde_json::from_str(&home.command(&arguments, None).await.unwrap()).unwrap();
        printed["sessions_ended"].as_u64().unwrap()
    }

    /// ally signs in anew, and is himself at beta.
    async fn assert_apart(&mut self) {
        self.ally.forget();
        let anew = sign_in_from_gamma(&self.town, &mut self.ally).await;
        assert_eq!(anew["username"], "ally@gamma");
        assert_ne!(anew["sub"], self.subject);
    }
}

/// As alice does it on her account page.
async fn link(town: &Town, alice: &mut Browser) {
    let account = format!("{}/account", town.federation.issuer().unwrap());
    let page = alice.open(&account).await.unwrap();
    let token = page.body.split("name=\"form_token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = [("form_token", token.unwrap()), ("link", "gamma")];
    let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sent = alice.request(Method::POST, Url::parse(&account).unwrap(), Some(&form)).await.unwrap();
    let door = alice.follow(sent).await.unwrap();
    assert!(town.is_at(&door, &town.alpha), "{} {}", door.url, door.body);
    let step = alice.submit(&door, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    let door = alice.submit(&step, &[("go_on", "1")]).await.unwrap();
    let question = alice.submit(&door, &[("username", "ally"), ("password", PASSWORD)]).await.unwrap();
    let done = alice.submit(&question, &[("yes", "1")]).await.unwrap();
    assert!(done.url.path() == "/account" && done.body.contains("ally from"), "{} {}", done.url, done.body);
}

/// Begins at beta, chooses gamma, ends at beta.
async fn sign_in_from_gamma(town: &Town, browser: &mut Browser) -> Value {
    let picker = browser.open(&town.start()).await.unwrap();
    let door = browser.submit(&picker, &[("home", "gamma")]).await.unwrap();
    user(&browser.submit(&door, &[("username", "ally"), ("password", PASSWORD)]).await.unwrap())
}

/// An access token at beta, by the session of the browser.
async fn token(town: &Town, browser: &mut Browser) -> String {
    let client = town.client();
    let code = client.answer(browser, &client.authorize(&[])).await.remove("code").unwrap();
    let (status, tokens) = client.redeem(&code).await;
    assert_eq!(status, 200, "{tokens}");
    tokens["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ops_list_a_link_and_end_it_with_what_came_in_by_it() {
    let mut linked = Linked::start().await;
    let tokens = linked.tokens().await;
    assert_eq!(linked.good(&tokens).await, [true, true]);
    let links = linked.links().await;
    let [link] = &links[..] else { panic!("{links:?}") };
    assert_eq!((&link["primary"], &link["alias"]), (&"alice@alpha".into(), &"ally@gamma".into()));
    assert_eq!(link["void_reason"], "");
    let id = link["id"].as_str().unwrap();

    let federation = &linked.town.federation;
    let ended = federation.ops_json(&["link", "end", id]).await.unwrap();
    assert_eq!((&ended["link"]["id"], &ended["sessions_ended"]), (&id.into(), &1.into()), "{ended}");
    assert!(linked.links().await.is_empty());
    assert_eq!(linked.good(&tokens).await, [true, false]);
    linked.are_at_beta(&["alice@alpha"]).await;
    for (id, sentence) in [(id, "there is no such link"), ("x", "the id of a link is 22 letters")] {
        let refused = federation.ops(&["link", "end", id]).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{id}: {refused}");
    }

    let exported = federation.ops(&["audit", "export"]).await.unwrap();
    let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_of = |record: &Value, event: &str| record["event"] == event && record["object"] == id;
    let of = |event: &str| records.iter().filter(|record| is_of(record, event)).collect::<Vec<_>>();
    assert_eq!((of("homes_linked").len(), of("homes_unlinked").len()), (1, 1), "{exported}");
    let unlinked = of("homes_unlinked")[0];
    assert_eq!((&unlinked["home"], &unlinked["detail"]), (&"gamma".into(), &"by order of ops".into()));
    linked.assert_apart().await;
}

#[tokio::test]
async fn the_home_of_the_linked_account_ends_what_came_in_by_it_and_nothing_else() {
    let mut linked = Linked::start().await;
    let tokens = linked.tokens().await;
    assert_eq!(linked.disabled(&linked.gamma, "user-ally").await, 1);
    assert!(linked.links().await.is_empty());
    assert_eq!(linked.good(&tokens).await, [true, false]);
    linked.are_at_beta(&["alice@alpha"]).await;
    // Who is let in there again is somebody of his own, until he links his account anew.
    linked.assert_apart().await;
}

/// It does not stand by her any more, so no other home lets anybody in as her.
#[tokio::test]
async fn the_home_of_the_account_that_counts_ends_what_came_in_by_either() {
    let mut linked = Linked::start().await;
    let tokens = linked.tokens().await;
    assert_eq!(linked.disabled(&linked.town.alpha, "user-alice").await, 1);
    assert!(linked.links().await.is_empty());
    assert_eq!(linked.good(&tokens).await, [false, false]);
    linked.are_at_beta(&[]).await;
    linked.assert_apart().await;
}
