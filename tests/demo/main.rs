//! `cargo demo`: a federation on loopback, with nothing but Rust on the machine.
//!
//! A broker, two small sites and an agent beside each, as an operator would start them; then the addresses to try in a
//! browser. `--check` performs the login itself, prints each hop and the claims that arrived, and exits 0 or 1.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::Value;
use world::federation::{Instance, InstanceOptions};
use world::site::Account;
use world::{Browser, Federation};

/// A federation on loopback: a broker, two sites, an agent beside each.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// Log in once by itself, say how it went, and end.
    #[arg(long)]
    check: bool,
}

const ALICE: Account =
    Account { username: "alice", password: "wonderland", name: "Alice Archer", email: "alice@alpha.example" };
const BOB: Account = Account { username: "bob", password: "builder", name: "Bob Baker", email: "bob@beta.example" };

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a command's one sentence")]
async fn main() -> ExitCode {
    match demonstrate(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(1)
        }
    }
}

#[expect(clippy::print_stdout, reason = "a demonstration shows itself")]
async fn demonstrate(arguments: &Arguments) -> anyhow::Result<()> {
    println!("1/6  building the broker and the agent (a few minutes the first time) …");
    world::programs::programs()?;
    println!("2/6  starting the broker: homeward-broker init, homeward-broker serve …");
    let federation = Federation::start().await?;
    println!("3/6  enrolling alpha, a home: token create, homeward-agent enrol, homeward-agent run …");
    let alpha = federation.instance("alpha", options(ALICE)).await?;
    println!("4/6  enrolling beta, a relying party (and a home, too) …");
    let beta = federation.instance("beta", options(BOB)).await?;
    println!("5/6  letting each accept the other's users: homeward-broker trust allow …");
    federation.allow("beta", "alpha", &["alpha.example"]).await?;
    federation.allow("alpha", "beta", &["beta.example"]).await?;
    federation.in_sync("alpha").await?;
    federation.in_sync("beta").await?;
    println!("6/6  ready: nothing was typed into either site's settings.\n");
    if arguments.check {
        return check(&federation, &alpha, &beta).await;
    }
    println!("  beta, where you want to be    {}    (choose \"Sign in with Homeward\", then alpha)", beta.site.at("/"));
    println!("  alpha, where your account is  {}    name alice, password wonderland", alpha.site.at("/"));
    println!("  and the other way round, with name bob, password builder, at home at beta");
    println!("  the broker                    {}", federation.issuer()?);
    println!("\nCtrl-C stops everything.");
    tokio::signal::ctrl_c().await.context("Ctrl-C cannot be awaited")?;
    println!("\nstopping …");
    Ok(())
}

fn options(account: Account) -> InstanceOptions {
    InstanceOptions { accounts: vec![account], relying_party: true, methods: vec!["session", "password"] }
}

/// One login of alice, whose account is at alpha, at beta.
#[expect(clippy::print_stdout, reason = "a demonstration shows itself")]
async fn check(federation: &Federation, alpha: &Instance, beta: &Instance) -> anyhow::Result<()> {
    let mut browser = Browser::new();
    // Only alpha is accepted by beta, so the broker has nothing to ask; alpha's own login page comes next.
    let page = browser.open(&beta.site.at("/sign-in-with-homeward")).await?;
    if page.url.as_str().starts_with(&federation.issuer()?) {
        bail!("the broker did not lead to alpha: {}", page.body);
    }
    if page.url.port() != Some(alpha.site.address().port()) {
        bail!("alpha's login page was expected, not {}", page.url);
    }
    let page = browser.submit(&page, &[("username", ALICE.username), ("password", ALICE.password)]).await?;
    for (number, (address, status)) in browser.hops.iter().enumerate() {
        println!("  {:>2}. {status} {}", number + 1, without_secrets(address));
    }
    let user = page.body.split("<pre id=\"user\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let user = user.with_context(|| format!("nobody is signed in at beta:\n{}", page.body))?;
    println!("\nclaims that arrived at beta:\n{user}\n");
    let user: Value = serde_json::from_str(user)?;
    let expected = [
        ("preferred_username", Value::from("alice@alpha")),
        ("name", Value::from(ALICE.name)),
        ("email", Value::from(ALICE.email)),
        ("email_verified", Value::from(true)),
        ("homeward_name", Value::from("alice@alpha")),
    ];
    for (claim, value) in expected {
        if user[claim] != value {
            bail!("{claim} should be {value}, and is {}", user[claim]);
        }
    }
    // Signed in at the broker now: the second time nobody is asked for anything.
    let mut hops = browser.hops.len();
    let start = beta.site.at("/sign-in-with-homeward");
    let again = tokio::time::timeout(Duration::from_secs(10), browser.open(&start)).await;
    let again = again.context("the second login took too long")??;
    hops = browser.hops.len() - hops;
    if !again.body.contains("alice") {
        bail!("the second login failed:\n{}", again.body);
    }
    println!(
        "alice is signed in at beta with her account at alpha; a second time it took {hops} hops and no password."
    );
    Ok(())
}

/// An address as it may be shown: parameters by name only.
fn without_secrets(address: &str) -> String {
    let Ok(url) = url::Url::parse(address) else { return address.to_owned() };
    let names: Vec<String> = url.query_pairs().map(|(name, _)| format!("{name}=…")).collect();
    let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
    format!("{}{}{query}", url.origin().ascii_serialization(), url.path())
}
