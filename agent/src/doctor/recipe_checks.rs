//! What the recipe knows to go wrong with this application: registration closed, no mail server, a second factor that
//! everybody is made to set up.

use super::Patient;
use super::configuration::sentence;
use super::finding::Finding;
use crate::config::Config;
use crate::conversation::Conversation;
use crate::recipe::check::{Check, CheckedRole, Severity};

/// Asks for each of them.
pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in patient.config.recipe.checks.iter().filter(|check| concerns(check, patient.config)) {
        let mut conversation = Conversation::begin(&patient.application, None);
        findings.push(match conversation.take(&check.request, &[]).await {
            Ok(answer) if check.finds_problem(answer.status, &answer.body) => problem(check),
            Ok(_) => Finding::ok(&check.about, "As the recipe wants it."),
            Err(error) => {
                let sentence = format!("This could not be looked at: {}", sentence(&error.to_string()));
                let remedy = "homeward-agent recipe test shows the request and its answer";
                Finding::warning(&check.about, sentence, remedy)
            }
        });
    }
    findings
}

fn concerns(check: &Check, config: &Config) -> bool {
    match check.role {
        CheckedRole::RelyingParty => config.relying_party.is_some(),
        CheckedRole::Home => config.home.is_some(),
        CheckedRole::Both => true,
    }
}

fn problem(check: &Check) -> Finding {
    match check.severity {
        Severity::Warning => Finding::warning(&check.about, &check.problem, &check.remedy),
        Severity::Error => Finding::error(&check.about, &check.problem, &check.remedy),
    }
}
