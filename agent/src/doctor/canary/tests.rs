//! A login rehearsed among four programs on loopback, each of which is as it should be or hostile: application, broker,
//! home, and a thief whom nobody has any business with.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{AppendHeaders, Html, IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::{DATE, SET_COOKIE};
use tokio::net::TcpListener;

use super::*;
use crate::clock;
use crate::config::Config;
use crate::disk::PrivateDir;
use crate::doctor::finding::Verdict;
use crate::resources::applied::Applied;
use crate::test_authority::TestAuthority;

const PASSWORD: &str = "a-password-that-nobody-else-hears";

const RECIPE: &str = "name = 'stage'\ntitle = 'The stage'\ndescription = ''\n[relying_party]\ncallback_paths = ['/callback']\n\
    client_auth_method = 'client_secret_basic'\nid_token_alg = 'ES256'\npkce = false\n[[relying_party.ways]]\nname = 'files'\n\
    description = ''\n[[relying_party.ways.files]]\nname = 'a.json'\nformat = 'json'\ncontent = { secret = '${client_secret}' }\n\
    [relying_party.probe]\nsteps = [{ method = 'GET', path = '/begin' }]\n[home]\n[[home.who_am_i]]\nname = 'me'\n\
    path = '/whoami'\n[home.identity]\nhome_user_id = 'me:/id'\nusername = 'me:/username'\n";

/// Where everybody is.
#[derive(Debug, Clone)]
struct Stage {
    application: String,
    broker: String,
    home: String,
    thief: String,
}

/// What somebody does otherwise than well: of each request who is asked, method and path.
type Plot = fn(&Stage, (&str, &str, &str)) -> Option<Response>;

/// What everybody was sent: who, and all of it.
type Heard = Arc<Mutex<Vec<(&'static str, String)>>>;

type Played = (Vec<Finding>, Result<(), Ended>, Vec<(&'static str, String)>);

async fn play(plot: Plot) -> Played {
    play_at(None, plot).await
}

/// With a public address of the application's that leads to it for browsers only.
async fn play_at(public_url: Option<&str>, plot: Plot) -> Played {
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let at = |position: usize| format!("http://{}", listeners[position].local_addr().unwrap());
    let url = at(0);
    let application = public_url.map_or_else(|| url.clone(), str::to_owned);
    let stage = Stage { application, broker: at(1), home: at(2), thief: at(3) };
    let heard = Heard::default();
    for (listener, who) in listeners.into_iter().zip(["application", "broker", "home", "thief"]) {
        let (stage, heard) = (stage.clone(), heard.clone());
        let router = Router::new().fallback(move |request| answer(stage.clone(), who, heard.clone(), plot, request));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), &stage.application, &url);
    let identity = TestAuthority::new(clock::now()).enrol(folder.path(), "https://127.0.0.1:1".to_owned());
    let data = PrivateDir::open(&folder.path().join("agent")).unwrap();
    // What the agent has heard last of the homes is no reason to trust anybody with a password.
    let homes = vec![("gamma".to_owned(), "Gamma".to_owned())];
    Applied { client_id: Some("alpha-1".to_owned()), homes, ..Applied::default() }.store(&data).unwrap();
    let patient = Patient::new(&config, Some((data, identity))).unwrap();
    let home = Some("gamma".parse().unwrap());
    let canary = Canary { username: "canary".to_owned(), password: PASSWORD.into(), home };
    let mut walk = Walk::new(&patient, &canary).unwrap();
    walk.expected.issuer.clone_from(&stage.broker);
    let ended = walk.go().await;
    walk.leave().await;
    let heard = heard.lock().unwrap().clone();
    (walk.findings, ended, heard)
}

fn configured(folder: &std::path::Path, public_url: &str, url: &str) -> Config {
    let put = |name: &str, text: &str| {
        let mut file = std::fs::File::create_new(folder.join(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        folder.join(name)
    };
    let recipe = put("recipe.toml", RECIPE);
    let (data, credentials) = (folder.join("agent"), folder.join("credentials"));
    let text = format!(
        "public_url = '{public_url}'\ndata_dir = '{}'\nrecipe_file = '{}'\n[app]\nurl = '{url}'\n\
         [relying_party]\ncredentials_dir = '{}'\n[portal]\nlisten = '127.0.0.1:0'",
        data.display(),
        recipe.display(),
        credentials.display()
    );
    Config::load(&put("agent.toml", &text)).unwrap()
}

async fn answer(stage: Stage, who: &'static str, heard: Heard, plot: Plot, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let cookies = head.headers.get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = to_bytes(body, 100_000).await.unwrap();
    let sent = format!("{} {} {cookies} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    heard.lock().unwrap().push((who, sent));
    let asked = (who, head.method.as_str(), head.uri.path());
    plot(&stage, asked).unwrap_or_else(|| good(&stage, asked, &cookies))
}

/// As everybody should be.
fn good(stage: &Stage, asked: (&str, &str, &str), cookies: &str) -> Response {
    let Stage { application, broker, home, .. } = stage;
    match asked {
        ("application", "GET", "/begin") => {
            ([(SET_COOKIE, "begun=secret-begun; Path=/")], to(&request(stage, "alpha-1"))).into_response()
        }
        ("application", "GET", "/callback") if cookies.contains("begun=") => {
            ([(SET_COOKIE, "session=secret-session; Path=/")], to("/inside")).into_response()
        }
        ("application", "GET", "/callback") => StatusCode::BAD_REQUEST.into_response(),
        ("application", "GET", "/whoami") if cookies.contains("session=") => {
            axum::Json(serde_json::json!({ "id": 1, "username": "canary-here" })).into_response()
        }
        ("application", "GET", "/whoami") => StatusCode::UNAUTHORIZED.into_response(),
        ("application", ..) => "a page".into_response(),
        ("broker", "GET", "/authorize") => html(
            "<form method=post action=/login/home><input type=hidden name=transaction value=secret-transaction>\
             <button name=home value=gamma>Gamma</button><button name=home value=delta disabled>Delta</button></form>",
        ),
        ("broker", "POST", "/login/home") => to(&format!("{home}/homeward/login?ticket=secret-ticket")),
        ("broker", "GET", "/login/return") => {
            let callback = to(&format!("{application}/callback?code=secret-code&state=secret-state"));
            ([(SET_COOKIE, "sso=secret-sso; Path=/")], callback).into_response()
        }
        ("broker", "GET", "/account") if cookies.contains("sso=") => html(
            "<form method=post action=/account/end><input type=hidden name=form_token value=secret-token>\
             <input type=hidden name=session value=secret-id></form>",
        ),
        // All of them are one host, so the application's session ends with the broker's.
        ("broker", "POST", "/account/end") => {
            let ended = ["sso=; Max-Age=0; Path=/", "session=; Max-Age=0; Path=/"].map(|text| (SET_COOKIE, text));
            (AppendHeaders(ended), to("/account")).into_response()
        }
        ("broker", "GET", "/account") => html("<h1>Nobody is signed in here</h1>"),
        ("home", "GET", "/homeward/login") => form("/homeward/login", "secret-ticket"),
        ("home", "POST", "/homeward/login") => to(&format!("{broker}/login/return?handle=secret-handle")),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn request(stage: &Stage, client: &str) -> String {
    let Stage { application, broker, .. } = stage;
    format!("{broker}/authorize?client_id={client}&redirect_uri={application}/callback&state=secret-state")
}

fn to(address: &str) -> Response {
    Redirect::to(address).into_response()
}

fn html(text: &str) -> Response {
    Html(text.to_owned()).into_response()
}

fn form(action: &str, ticket: &str) -> Response {
    html(&format!(
        "<form method=post action='{action}'><input type=hidden name=ticket value={ticket}>\
         <input type=hidden name=form_token value=secret-token><input name=username><input name=password></form>"
    ))
}

#[tokio::test]
async fn a_canary_is_signed_in_and_nothing_secret_is_told() {
    let (findings, ended, heard) = play(|_, _| None).await;
    ended.unwrap();
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.sentence.contains("as canary-here")), "{findings:#?}");
    let last = findings.last().unwrap();
    assert!(last.sentence.contains("signed out again, here and at the broker"), "{last:?}");
    assert!(!format!("{findings:?}").contains("secret-"), "{findings:#?}");
    let whose: Vec<_> = heard.iter().filter(|(_, sent)| sent.contains(PASSWORD)).map(|(who, _)| *who).collect();
    assert_eq!(whose, ["home"]);
    assert!(heard.iter().any(|(who, sent)| *who == "broker" && sent.contains("prompt=select_account")), "{heard:?}");
}

/// Whoever would like to have the password, does not get it, and the thief is not even asked.
#[tokio::test]
async fn the_password_goes_to_the_chosen_homes_portal_and_nowhere_else() {
    let plots: [(&str, Plot); 16] = [
        ("an application that leads elsewhere", |stage, asked| {
            (asked.2 == "/begin").then(|| to(&request(stage, "alpha-1").replace(&stage.broker, &stage.thief)))
        }),
        ("an application that leads to a portal of its own choice", |stage, asked| {
            (asked.2 == "/begin").then(|| to(&format!("{}/homeward/login?ticket=t", stage.thief)))
        }),
        ("another client's login, which the broker answers elsewhere", |stage, asked| match asked {
            ("application", _, "/begin") => Some(to(&request(stage, "thief-1"))),
            ("broker", _, "/login/home") => Some(to(&format!("{}/homeward/login?ticket=t", stage.thief))),
            _ => None,
        }),
        ("two clients at once", |stage, asked| {
            (asked.2 == "/begin").then(|| to(&format!("{}&client_id=thief-1", request(stage, "alpha-1"))))
        }),
        ("an address of the broker's that is not for logins", |stage, asked| {
            (asked.2 == "/begin").then(|| to(&request(stage, "alpha-1").replace("/authorize", "/logout")))
        }),
        ("a home that nobody has chosen", |stage, asked| {
            (asked.2 == "/authorize").then(|| to(&format!("{}/homeward/login?ticket=t", stage.thief)))
        }),
        ("a pushed request, for which the broker does not ask which home", |stage, asked| match asked {
            ("application", _, "/begin") => {
                Some(to(&format!("{}/authorize?client_id=alpha-1&request_uri=urn:x", stage.broker)))
            }
            ("broker", _, "/authorize") => Some(to(&format!("{}/homeward/login?ticket=t", stage.home))),
            _ => None,
        }),
        ("a page of homes that is sent elsewhere", |stage, asked| {
            let page = format!(
                "<form method=post action='{}/login/home'><input type=hidden name=transaction value=t>\
                 <button name=home value=gamma></form>",
                stage.thief
            );
            (asked.2 == "/authorize").then(|| html(&page))
        }),
        ("a home that is no portal", |stage, asked| {
            (asked.2 == "/login/home").then(|| to(&format!("{}/authorize?client_id=a&ticket=t", stage.thief)))
        }),
        ("a portal that leads elsewhere", |stage, asked| {
            (asked.0 == "home").then(|| to(&format!("{}/homeward/login?ticket=secret-ticket", stage.thief)))
        }),
        ("a form that is sent elsewhere", |stage, asked| {
            (asked.0 == "home").then(|| form(&format!("{}/homeward/login", stage.thief), "secret-ticket"))
        }),
        ("a form with another ticket", |_, asked| (asked.0 == "home").then(|| form("/homeward/login", "other"))),
        ("a form on another page of the home", |_, asked| {
            (asked.0 == "home").then(|| form("/elsewhere/login", "secret-ticket"))
        }),
        ("a login page that leads back and forth", |_, asked| (asked.0 == "home").then(|| to("/login"))),
        ("a home without a portal", |_, asked| (asked.0 == "home").then(|| StatusCode::NOT_FOUND.into_response())),
        ("an endless page", |_, asked| {
            let endless =
                futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8192])));
            (asked.0 == "home").then(|| Body::from_stream(endless).into_response())
        }),
    ];
    for (what, plot) in plots {
        let (findings, ended, heard) = play(plot).await;
        let finding = ended.expect_err(what);
        assert!(finding.verdict > Verdict::Ok && finding.remedy.is_some(), "{what}: {finding:?}");
        assert!(!heard.iter().any(|(_, sent)| sent.contains(PASSWORD)), "{what}: {heard:?}");
        assert!(!heard.iter().any(|(who, _)| *who == "thief"), "{what}: {heard:?}");
        assert!(!format!("{findings:?} {finding:?}").contains("secret-"), "{what}: {finding:?}");
    }
}

/// Once the home has the password, nobody else gets it from the doctor, and nobody leads the browser away.
#[tokio::test]
async fn what_comes_after_the_password_is_held_against_the_way_too() {
    let plots: [(&str, &str, Plot); 7] = [
        ("a home that has forms sent on", "not back to the broker", |stage, asked| {
            let address = format!("{}/homeward/login", stage.thief);
            (asked.0 == "home" && asked.1 == "POST").then(|| Redirect::temporary(&address).into_response())
        }),
        ("a consent that is asked elsewhere", "the login ends there", |stage, asked| {
            let page = format!(
                "<form method=post action='{}'><input type=hidden name=question value=q><button name=agree></form>",
                stage.thief
            );
            (asked.2 == "/login/return").then(|| html(&page))
        }),
        ("a broker that leads elsewhere", "no callback of this instance", |stage, asked| {
            (asked.2 == "/login/return").then(|| to(&format!("{}/callback?code=c", stage.thief)))
        }),
        ("a broker in circles", "in circles", |_, asked| {
            (asked.2 == "/login/return").then(|| to("/login/return?handle=h"))
        }),
        ("an application in circles", "in circles", |_, asked| {
            matches!(asked, ("application", _, "/inside" | "/")).then(|| to("/inside"))
        }),
        ("an application that begins again", "begins the login again", |stage, asked| {
            (asked.2 == "/callback").then(|| to(&request(stage, "alpha-1")))
        }),
        ("an application that says no", "signup_closed", |_, asked| {
            (asked.2 == "/callback").then(|| to("/login?error=signup_closed&secret-more=1"))
        }),
    ];
    for (what, says, plot) in plots {
        let (_, ended, heard) = play(plot).await;
        let finding = ended.expect_err(what);
        assert!(finding.sentence.contains(says) && finding.remedy.is_some(), "{what}: {finding:?}");
        assert!(!heard.iter().any(|(who, _)| *who == "thief"), "{what}: {heard:?}");
        let password = heard.iter().filter(|(_, sent)| sent.contains(PASSWORD)).count();
        assert_eq!(password, 1, "{what}: {heard:?}");
        assert!(!format!("{finding:?}").contains("secret-"), "{what}: {finding:?}");
    }
    // Where an application that has signed somebody in sends him then, is its own affair; nobody goes along.
    let (_, ended, heard) = play(|stage, asked| (asked.2 == "/inside").then(|| to(&stage.thief))).await;
    assert!(ended.is_ok() && !heard.iter().any(|(who, _)| *who == "thief"), "{ended:?}");
}

#[tokio::test]
async fn each_way_in_which_nobody_is_signed_in_has_its_sentence() {
    let plots: [(&str, Plot); 7] = [
        ("This machine's clock is", |stage, asked| match asked.2 {
            "/login/return" => {
                let date = [(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")];
                Some((date, to(&format!("{}/callback?code=c&state=s", stage.application))).into_response())
            }
            "/callback" => Some(StatusCode::BAD_REQUEST.into_response()),
            _ => None,
        }),
        ("does not accept users of gamma", |_, asked| {
            (asked.2 == "/authorize").then(|| {
                html(
                    "<form method=post action=/login/home><input type=hidden name=transaction value=t>\
                     <button name=home value=delta></form>",
                )
            })
        }),
        ("not connected", |_, asked| {
            (asked.2 == "/authorize").then(|| {
                html(
                    "<form method=post action=/login/home><input type=hidden name=transaction value=t>\
                     <button name=home value=gamma disabled></form>",
                )
            })
        }),
        ("its cookie did not come back", |_, asked| {
            (asked.0 == "home" && asked.1 == "POST").then(|| StatusCode::FORBIDDEN.into_response())
        }),
        ("second factor", |_, asked| {
            let page = "<form method=post action=/homeward/code><input type=hidden name=ticket value=t><input name=code></form>";
            (asked.0 == "home" && asked.1 == "POST").then(|| html(page))
        }),
        ("browsers take no notice of its cookies begun", |stage, asked| {
            let cookie = [(SET_COOKIE, "begun=secret-begun; Domain=other.example; Path=/")];
            (asked.2 == "/begin").then(|| (cookie, to(&request(stage, "alpha-1"))).into_response())
        }),
        ("access_denied", |stage, asked| {
            (asked.2 == "/login/return")
                .then(|| to(&format!("{}/callback?error=access_denied&state=s", stage.application)))
        }),
    ];
    for (says, plot) in plots {
        let finding = play(plot).await.1.expect_err(says);
        assert!(finding.verdict == Verdict::Error && finding.sentence.contains(says), "{says}: {finding:?}");
        assert!(finding.remedy.is_some());
    }
}

#[tokio::test]
async fn a_public_address_that_leads_here_for_browsers_only_is_gone_around() {
    let (findings, ended, _) = play_at(Some("https://127.0.0.1:1"), |_, _| None).await;
    ended.unwrap();
    assert!(findings[0].sentence.contains("cannot be asked from this machine"), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.sentence.contains("as canary-here")), "{findings:#?}");
    // The home of such a login must be reached all the same.
    let finding = play_at(Some("https://127.0.0.1:1"), |stage, asked| {
        (asked.2 == "/login/home")
            .then(|| to(&format!("{}/homeward/login?ticket=t", stage.home.replace("127.0.0.1", "127.9.9.9"))))
    });
    let finding = finding.await.1.expect_err("nobody is there");
    assert!(finding.sentence.contains("127.9.9.9") && finding.remedy.unwrap().contains("as browsers do"));
}
