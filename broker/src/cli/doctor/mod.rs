//! `homeward-broker doctor`: what would go wrong for users and agents, found before they meet it.
//!
//! `inside` asks the running broker over its socket, `outside` goes the way of a browser and of an agent: by the name, through
//! whatever stands before the broker. The doctor changes nothing, and signs nobody in.

mod finding;
mod inside;
mod outside;

use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use crate::cli::output::{Output, print_line};
use crate::cli::{admin, serve};
use crate::clock::Clock;
use crate::config::Config;
use finding::{Finding, Verdict};
use inside::Inside;

/// No question takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<()> {
    let findings = examine(config).await;
    let number = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (errors, warnings) = (number(Verdict::Error), number(Verdict::Warning));
    match output {
        Output::Json => print_line(&json!({ "findings": findings, "errors": errors, "warnings": warnings })),
        Output::Table => {
            for Finding { verdict, about, sentence, remedy } in &findings {
                print_line(&format_args!("{:<8}{about:<14} {sentence}", verdict.word()));
                if let Some(remedy) = remedy {
                    print_line(&format_args!("{:<23}→ {remedy}", ""));
                }
            }
        }
    }
    match (errors, output) {
        (0, Output::Table) if warnings == 0 => print_line(&"All is well."),
        (0, _) => {}
        (1, _) => bail!("1 thing is wrong"),
        (errors, _) => bail!("{errors} things are wrong"),
    }
    Ok(())
}

async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(remark) = serve::unproxied(config) {
        findings.push(Finding::warning("configuration", remark, "edit [listen] or trusted_proxies (docs/tls.md)"));
    }
    let asked = async {
        let mut admin = admin::connect(config).await?;
        Inside::ask(&mut admin).await
    };
    let inside = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(inside)) => inside,
        Ok(Err(error)) => {
            let remedy = match error.is::<admin::NoBroker>() {
                true => "systemctl start homeward-broker; homeward-broker config check says whether it could start",
                false => "sudo homeward-broker doctor; if that says the same, look into the broker's log",
            };
            findings.push(Finding::error("broker", format!("{error:#}"), remedy));
            return findings;
        }
        Err(_) => {
            let sentence = "the broker does not answer on its socket";
            findings.push(Finding::error(
                "broker",
                sentence,
                "systemctl restart homeward-broker, and look into its log",
            ));
            return findings;
        }
    };
    let now = Clock::system().now();
    findings.extend(inside.findings(now));
    findings.extend(outside::findings(config, &inside, now).await);
    findings
}
