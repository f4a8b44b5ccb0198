//! The web console: who is let in, by which way, for how long, and whose forms count.

use reqwest::Method;
use url::Url;
use world::browser::{Page, attribute};
use world::{Browser, Federation};

use crate::town::{PASSWORD, Town, town};

const HOST: &str = "localhost";
const COOKIE: &str = "__Host-homeward-console";

/// Pages that show something.
const PAGES: [&str; 11] = [
    "/console/",
    "/console/instances",
    "/console/tokens",
    "/console/trust",
    "/console/trust/explain",
    "/console/without-agent",
    "/console/sealing",
    "/console/turning",
    "/console/turning/board",
    "/console/audit",
    "/console/sessions",
];

fn at(federation: &Federation, path: &str) -> String {
    format!("{}{path}", federation.issuer().unwrap())
}

async fn link(federation: &Federation) -> String {
    federation.ops_json(&["console", "code"]).await.unwrap()["url"].as_str().unwrap().to_owned()
}

async fn post(browser: &mut Browser, url: &str, fields: &[(&str, &str)]) -> Page {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    browser.request(Method::POST, Url::parse(url).unwrap(), Some(&fields)).await.unwrap()
}

async fn give_code(browser: &mut Browser, federation: &Federation, link: &str) -> Page {
    let code = link.split_once("code=").unwrap().1;
    post(browser, &at(federation, "/console/enter"), &[("code", code)]).await
}

/// A browser that is signed in by a code.
async fn let_in(federation: &Federation) -> Browser {
    let mut browser = Browser::new();
    let answer = give_code(&mut browser, federation, &link(federation).await).await;
    assert_eq!((answer.status, answer.headers["location"].as_str()), (303, "/console/"), "{}", answer.body);
    browser
}

async fn is_in(browser: &mut Browser, federation: &Federation) -> bool {
    let page = browser.get(&at(federation, "/console/instances")).await.unwrap();
    match page.status {
        200 => true,
        303 => {
            assert_eq!(page.headers["location"], "/console/enter");
            false
        }
        other => panic!("{other}: {}", page.body),
    }
}

fn form_token(page: &Page) -> String {
    let field = page.body.split('<').find(|tag| tag.contains("name=\"form_token\"")).unwrap();
    attribute(field, "value").unwrap()
}

async fn events(federation: &Federation, kind: &str) -> Vec<serde_json::Value> {
    let listed = federation.ops_json(&["audit", "list", "--kind", kind]).await.unwrap();
    listed.as_array().unwrap().clone()
}

/// alice of alpha wants in. She comes back with the page that she gets.
async fn sign_in(town: &Town, browser: &mut Browser) -> Page {
    let page = browser.open(&at(&town.federation, "/console/sign-in")).await.unwrap();
    if !town.is_at(&page, &town.alpha) {
        return page;
    }
    browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap()
}

async fn make_ops_of(town: &Town, group: &str) {
    let edge = ["trust", "allow", "--relying-party", "console", "--home", "alpha", "--group", group];
    town.federation.ops(&edge).await.unwrap();
}

#[tokio::test]
async fn a_code_lets_one_browser_in_and_everything_else_is_shut() {
    let mut federation = Federation::start().await.unwrap();
    let mut stranger = Browser::new();
    for path in PAGES.iter().chain(&["/console/do/evict?name=beta"]) {
        let page = stranger.get(&at(&federation, path)).await.unwrap();
        assert_eq!((page.status, page.headers["location"].as_str()), (303, "/console/enter"), "{path}");
    }
    let refused = post(&mut stranger, &at(&federation, "/console/do/evict"), &[("name", "beta")]).await;
    assert_eq!(refused.status, 403);

    // Looking at the link takes nothing.
    let link = link(&federation).await;
    assert!(stranger.get(&link).await.unwrap().body.contains("Sign in with the code"));
    let (mut one, mut two) = (Browser::new(), Browser::new());
    let (first, second) =
        tokio::join!(give_code(&mut one, &federation, &link), give_code(&mut two, &federation, &link));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 400], "of two who have the code one is let in");
    assert!(is_in(&mut one, &federation).await != is_in(&mut two, &federation).await);
    let again = give_code(&mut stranger, &federation, &link).await;
    assert!(again.status == 400 && again.body.contains("That code does not work"), "{}", again.body);

    // The record is in the store: the next broker knows it.
    let mut browser = let_in(&federation).await;
    federation.stop_broker().await.unwrap();
    federation.serve().await.unwrap();
    for path in PAGES {
        let page = browser.get(&at(&federation, path)).await.unwrap();
        assert_eq!(page.status, 200, "{path}: {}", page.body);
    }

    // Out by its own button, and by the command.
    let page = browser.get(&at(&federation, "/console/")).await.unwrap();
    let token = form_token(&page);
    let held = browser.cookie_header(HOST).unwrap();
    post(&mut browser, &at(&federation, "/console/sign-out"), &[("form_token", token.as_str())]).await;
    let (name, value) = held.split_once('=').unwrap();
    browser.set_cookie(HOST, name, value);
    assert!(!is_in(&mut browser, &federation).await, "a copy of the cookie is worth nothing either");
    let mut browser = let_in(&federation).await;
    for session in federation.ops_json(&["console", "session", "list"]).await.unwrap().as_array().unwrap() {
        assert_eq!(session["who"], "uid=0");
        federation.ops(&["console", "session", "end", session["id"].as_str().unwrap()]).await.unwrap();
    }
    assert!(!is_in(&mut browser, &federation).await);
    assert_eq!(events(&federation, "console_entered").await.len(), 3);
    assert_eq!(events(&federation, "console_refused").await.len(), 2);
}

#[tokio::test]
async fn a_form_counts_only_from_a_page_of_this_session_and_says_who_sent_it() {
    let federation = Federation::start().await.unwrap();
    let (mut ops, mut other) = (let_in(&federation).await, let_in(&federation).await);
    let tokens = at(&federation, "/console/do/create-token");
    let confirm = ops.get(&format!("{tokens}?instance=beta&minutes=30")).await.unwrap();
    assert!(confirm.body.contains("homeward-broker token create --instance beta --lifetime 30m"), "{}", confirm.body);
    let token = form_token(&confirm);
    let others = form_token(&other.get(&format!("{tokens}?instance=beta")).await.unwrap());
    for wrong in ["", others.as_str(), "x"] {
        let fields = [("instance", "beta"), ("minutes", "30"), ("form_token", wrong)];
        assert_eq!(post(&mut ops, &tokens, &fields).await.status, 403, "{wrong}");
    }
    let cookie = ops.cookie_header(HOST).unwrap();
    let send = async |name: &str, value: &str| {
        let form = [("instance", "beta"), ("minutes", "30"), ("form_token", token.as_str())];
        let request = reqwest::Client::new().post(&tokens).header("cookie", &cookie).header(name, value);
        request.form(&form).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(send("origin", "https://evil.example").await, 403);
    assert_eq!(federation.ops_json(&["token", "list"]).await.unwrap().as_array().unwrap().len(), 0);

    assert_eq!(send("sec-fetch-site", "same-origin").await, 200);
    let listed = federation.ops_json(&["token", "list"]).await.unwrap();
    assert_eq!((&listed[0]["instance"], &listed[0]["creator"]), (&"beta".into(), &"console:uid=0".into()));
    assert_eq!(events(&federation, "join_token_created").await[0]["actor"], "console:uid=0");
    // What the broker refuses is said as the command line says it, and noted.
    let evict = at(&federation, "/console/do/evict");
    let refused = post(&mut ops, &evict, &[("name", "nobody"), ("form_token", token.as_str())]).await;
    assert_eq!(refused.status, 404);
    assert!(refused.body.contains("There is no such instance"), "{}", refused.body);
    assert_eq!(events(&federation, "admin_refused").await[0]["actor"], "console:uid=0");
}

#[tokio::test]
async fn each_consent_of_an_edge_is_given_and_taken_back_by_itself() {
    let town = town(&["session"]).await;
    let federation = &town.federation;
    let mut ops = let_in(federation).await;
    let edge = [("relying_party", "beta"), ("home", "alpha"), ("side", "home")];
    let of_edge = "side=home&relying_party=beta&home=alpha";
    for (kind, command, missing) in [("withdraw", "trust deny", "home"), ("consent", "trust allow", "")] {
        let confirm = at(federation, &format!("/console/do/{kind}"));
        let page = ops.get(&format!("{confirm}?{of_edge}")).await.unwrap();
        let command = format!("homeward-broker {command} --relying-party beta --home alpha --side home<");
        assert!(page.body.contains(&command), "{}", page.body);
        let token = form_token(&page);
        let done = post(&mut ops, &confirm, &[&edge[..], &[("form_token", token.as_str())]].concat()).await;
        let to = done.headers["location"].as_str();
        assert_eq!((done.status, to), (303, format!("/console/trust?done={kind}").as_str()), "{}", done.body);
        let listed = federation.ops_json(&["trust", "list"]).await.unwrap();
        assert_eq!(
            (&listed[0]["missing_side"], &listed[0]["email_domains"][0]),
            (&missing.into(), &"alpha.example".into())
        );
        let (table, form) = (at(federation, "/console/trust"), at(federation, "/console/trust/edge"));
        let table = ops.get(&table).await.unwrap().body;
        let form = ops.get(&format!("{form}?relying_party=beta&home=alpha")).await.unwrap().body;
        let lacks = missing == "home";
        assert_eq!(table.contains("no: it has not consented"), lacks, "{table}");
        assert_eq!(
            table.contains("Users of alpha may not log in at beta: alpha does not release them."),
            lacks,
            "{table}"
        );
        assert_eq!(form.contains("One consent is missing"), lacks, "{form}");
        // Who changes the terms gives nobody's missing consent by the way.
        assert_eq!(form.contains("<option value=\"relying-party\" selected>"), lacks, "{form}");
    }
    // Whose consent it is is never guessed.
    let nobody = "/console/do/consent?side=nobody&relying_party=beta&home=alpha";
    assert_eq!(ops.get(&at(federation, nobody)).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_console_s_name_is_nobody_else_s() {
    let federation = Federation::start().await.unwrap();
    for command in [&["token", "create", "--instance", "console"][..], &["registration", "open", "console"]] {
        let refused = federation.ops(command).await.unwrap_err().to_string();
        assert!(refused.contains("console is the broker's own web console"), "{refused}");
    }
    assert_eq!(federation.ops(&["client", "list"]).await.unwrap().trim(), "(none)");
}

#[tokio::test]
async fn a_home_s_user_is_let_in_by_an_edge_that_makes_ops_of_him_and_for_as_long() {
    let town = town(&["session"]).await;
    let federation = &town.federation;
    // No edge, then one that says nothing of ops, then one that would leave it to the home.
    let mut browser = Browser::new();
    let page = sign_in(&town, &mut browser).await;
    assert!(!page.url.path().ends_with("/console/"), "{}", page.url);
    for group in ["staff=users", "*=*"] {
        make_ops_of(&town, group).await;
        let page = sign_in(&town, &mut browser).await;
        assert_eq!(page.status, 403, "{group}: {} {}", page.url, page.body);
        assert!(page.body.contains("The console is not for you"), "{}", page.body);
        assert!(!is_in(&mut browser, federation).await);
    }
    assert_eq!(events(federation, "console_refused").await.len(), 2);

    make_ops_of(&town, "staff=ops").await;
    let page = sign_in(&town, &mut browser).await;
    assert!(page.status == 200 && page.body.contains("alice@alpha"), "{} {}", page.url, page.body);
    let entered = events(federation, "console_entered").await;
    let user = entered[0]["user"].as_str().unwrap();
    let sessions = federation.ops_json(&["console", "session", "list"]).await.unwrap();
    assert_eq!(
        (&sessions[0]["who"], &sessions[0]["actor"]),
        (&"alice@alpha".into(), &format!("console:alpha/{user}").into())
    );

    // Whoever sits at the browser next is not let in by a session at the broker that is older than half an hour: the login
    // asks for the password anew.
    let begun = browser.get(&at(federation, "/console/sign-in")).await.unwrap();
    assert!(begun.headers["location"].contains("max_age=1800"), "{}", begun.headers["location"]);

    // The cookie alone is worth nothing in another browser, nor in one where another session is.
    let cookies = browser.cookie_header(HOST).unwrap();
    let console = cookies.split("; ").find_map(|pair| pair.strip_prefix(&format!("{COOKIE}="))).unwrap().to_owned();
    let mut thief = Browser::new();
    thief.set_cookie(HOST, COOKIE, &console);
    assert!(!is_in(&mut thief, federation).await);
    assert!(!is_in(&mut browser, federation).await, "and a cookie that was seen without its session is ended");

    // Whatever it rests on ends it: the edge, the home, the session at the broker.
    for end in ["edge", "session", "home"] {
        let page = sign_in(&town, &mut browser).await;
        assert!(page.status == 200 && is_in(&mut browser, federation).await, "{end}: {} {}", page.url, page.body);
        match end {
            "edge" => federation.ops(&["trust", "deny", "--relying-party", "console", "--home", "alpha"]).await,
            "home" => federation.ops(&["instance", "quarantine", "alpha", "--reason", "stolen"]).await,
            _ => federation.ops(&["session", "end", "--user", "alice@alpha", "--wait", "0"]).await,
        }
        .ok();
        let listed = federation.ops_json(&["console", "session", "list"]).await.unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 0, "{end}: listed, although it would not be let in");
        assert!(!is_in(&mut browser, federation).await, "{end}");
        make_ops_of(&town, "staff=ops").await;
    }
}

#[tokio::test]
async fn no_browser_finishes_a_login_at_the_console_that_another_began() {
    let town = town(&["session"]).await;
    let federation = &town.federation;
    make_ops_of(&town, "staff=ops").await;
    // alice's login, stopped before it comes back.
    let mut browser = Browser::new();
    let mut page = browser.open(&at(federation, "/console/sign-in")).await.unwrap();
    page = browser.send(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    let back = loop {
        let next = page.url.join(&page.headers["location"]).unwrap();
        if next.path() == "/console/return" {
            break next.to_string();
        }
        page = browser.get(next.as_str()).await.unwrap();
    };
    let mut other = Browser::new();
    other.get(&at(federation, "/console/sign-in")).await.unwrap();
    let mut stranger = Browser::new();
    for foreign in [&mut other, &mut stranger] {
        let refused = foreign.get(&back).await.unwrap();
        assert!(refused.status == 400 && refused.body.contains("That sign-in did not work"), "{}", refused.body);
    }
    let altered = back.replace("state=", "state=x");
    assert_eq!(browser.get(&altered).await.unwrap().status, 400);
    assert_eq!(browser.get(&back).await.unwrap().headers["location"], "/console/");
    assert!(is_in(&mut browser, federation).await);
    assert_eq!(browser.get(&back).await.unwrap().status, 400, "a code is used once");
}

/// Answers of the console to whoever has this browser's cookie and says this.
async fn asked(browser: &Browser, url: &str, header: (&str, &str)) -> String {
    let request = reqwest::Client::new().get(url).header("cookie", browser.cookie_header(HOST).unwrap());
    request.header(header.0, header.1).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_a_link_of_another_site_says_was_done_was_not() {
    let federation = Federation::start().await.unwrap();
    let browser = let_in(&federation).await;
    let link = at(&federation, "/console/instances?done=evict");
    for (site, said) in [("same-origin", true), ("cross-site", false), ("none", false)] {
        let page = asked(&browser, &link, ("sec-fetch-site", site)).await;
        assert!(page.contains("<h1>Instances</h1>"), "{page}");
        assert_eq!(page.contains("The instance is evicted."), said, "{site}");
    }
}

#[tokio::test]
async fn a_browser_that_comes_in_again_leaves_its_session_behind() {
    let federation = Federation::start().await.unwrap();
    let mut browser = let_in(&federation).await;
    let before = browser.cookie_header(HOST).unwrap();
    give_code(&mut browser, &federation, &link(&federation).await).await;
    assert!(is_in(&mut browser, &federation).await);
    let (name, value) = before.split_once('=').unwrap();
    let mut copy = Browser::new();
    copy.set_cookie(HOST, name, value);
    assert!(!is_in(&mut copy, &federation).await);
    let listed = federation.ops_json(&["console", "session", "list"]).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

/// A session at the broker outlives that of the console: it must not let in whoever sits at the browser after a rest.
#[tokio::test]
async fn who_comes_back_after_a_rest_gives_his_password_again() {
    let mut town = town(&["password"]).await;
    make_ops_of(&town, "staff=ops").await;
    let (mut browser, mut resting) = (Browser::new(), let_in(&town.federation).await);
    let page = sign_in(&town, &mut browser).await;
    assert!(page.status == 200 && page.body.contains("alice@alpha"), "{} {}", page.url, page.body);

    town.alpha.agent.take().unwrap().stop().await.unwrap();
    town.federation.stop_broker().await.unwrap();
    town.federation.serve_off_by("+32 minutes").await.unwrap();
    town.alpha.run_off_by("+32 minutes").await.unwrap();
    let federation = &town.federation;
    federation.in_sync("alpha").await.unwrap();
    assert!(!is_in(&mut browser, federation).await && !is_in(&mut resting, federation).await);
    let listed = federation.ops_json(&["console", "session", "list"]).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 0);
    // At the broker she is signed in still: who strikes `max_age` from the address gets a code, and is not let in by it.
    assert!(browser.get(&at(federation, "/account")).await.unwrap().body.contains("alice"));
    let begun = browser.get(&at(federation, "/console/sign-in")).await.unwrap();
    let address = begun.headers["location"].replace("max_age=1800", "max_age=9999");
    let page = browser.open(&address).await.unwrap();
    assert!(page.status == 400 && page.body.contains("That sign-in did not work"), "{} {}", page.url, page.body);
    assert!(!is_in(&mut browser, federation).await);
    // As the console asks, the home wants the password.
    let form = browser.open(&at(federation, "/console/sign-in")).await.unwrap();
    assert!(town.is_at(&form, &town.alpha), "{} {}", form.url, form.body);
    let page = browser.submit(&form, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap();
    assert!(page.status == 200 && page.body.contains("alice@alpha"), "{} {}", page.url, page.body);
    assert!(is_in(&mut browser, federation).await);
}

#[tokio::test]
async fn of_many_records_of_one_moment_each_is_on_one_page() {
    let federation = Federation::start().await.unwrap();
    let mut browser = let_in(&federation).await;
    for _ in 0..230 {
        post(&mut Browser::new(), &at(&federation, "/console/enter"), &[("code", "hwc_x")]).await;
    }
    assert_eq!(events(&federation, "console_refused").await.len(), 100, "as many as the command shows unasked");
    let (mut next, mut rows) = ("/console/audit?kind=console_refused".to_owned(), Vec::new());
    while !next.is_empty() {
        let page = browser.get(&at(&federation, &next)).await.unwrap();
        rows.push(page.body.matches("<tr><th scope=\"row\">").count());
        let link = page.body.split('<').find(|tag| tag.starts_with("a rel=\"next\""));
        next = link.map(|tag| attribute(tag, "href").unwrap()).unwrap_or_default();
    }
    assert_eq!(rows, [100, 100, 30]);
    for wrong in ["x", "../../etc/passwd", "2026-11-22.x:1"] {
        let page = browser.get(&at(&federation, &format!("/console/audit?before={wrong}"))).await.unwrap();
        assert!(page.body.contains("place in the audit is written as an answer named it"), "{wrong}: {}", page.body);
    }
}

#[tokio::test]
async fn an_application_without_agent_is_let_in_and_put_out_at_the_console() {
    let federation = Federation::start().await.unwrap();
    let mut browser = let_in(&federation).await;
    let open = at(&federation, "/console/do/open-registration");
    let confirm = browser.get(&format!("{open}?name=wiki&clients=2&minutes=90")).await.unwrap();
    let command = "homeward-broker registration open wiki --clients 2 --lifetime 90m";
    assert!(confirm.body.contains(command), "{}", confirm.body);
    let token = form_token(&confirm);
    let fields = [("name", "wiki"), ("clients", "2"), ("minutes", "90"), ("form_token", token.as_str())];
    let opened = post(&mut browser, &open, &fields).await;
    assert!(opened.status == 200 && opened.body.contains("wiki may register itself"), "{}", opened.body);
    let listed = federation.ops_json(&["registration", "list"]).await.unwrap();
    assert_eq!((&listed[0]["relying_party"], &listed[0]["clients_left"]), (&"wiki".into(), &2.into()));
    let page = browser.get(&at(&federation, "/console/without-agent")).await.unwrap();
    assert!(page.body.contains("Remove the relying party wiki") && !page.body.contains("hwi_"), "{}", page.body);
    let close = at(&federation, "/console/do/close-registration");
    let closed = post(&mut browser, &close, &[("name", "wiki"), ("form_token", token.as_str())]).await;
    assert_eq!(closed.headers["location"], "/console/without-agent?done=close-registration", "{}", closed.body);
    assert_eq!(federation.ops(&["registration", "list"]).await.unwrap().trim(), "(none)");
    assert_eq!(events(&federation, "registration_closed").await[0]["actor"], "console:uid=0");
    let removed = at(&federation, "/console/do/remove-upstream");
    let removed = post(&mut browser, &removed, &[("name", "google"), ("form_token", token.as_str())]).await;
    assert_eq!(removed.status, 404, "{}", removed.body);

    // Whoever is looked for and unknown hides nobody who is at the console.
    let page = browser.get(&at(&federation, "/console/sessions?user=nobody@alpha")).await.unwrap();
    assert!(page.body.contains("At this console") && page.body.contains("this browser"), "{}", page.body);
}
