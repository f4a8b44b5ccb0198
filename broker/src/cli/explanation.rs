//! What `trust explain` prints.

use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::output::{Output, Row, print_line};

/// Prints what a login would come to.
pub(super) fn print(output: Output, asked: &v1::ExplainTrustRequest, explained: &v1::ExplainTrustResponse) {
    match output {
        Output::Json => output.show(&json(asked, explained)),
        Output::Table => print_table(asked, explained),
    }
}

fn print_table(asked: &v1::ExplainTrustRequest, explained: &v1::ExplainTrustResponse) {
    let v1::ExplainTrustRequest { relying_party, home, username } = asked;
    match explained.identity_source() {
        v1::IdentitySource::Unspecified => print_line(&format_args!("Nothing is known of {username}@{home}.")),
        v1::IdentitySource::Home => {
            print_line(&format_args!("What {home} says of {username}, and what {relying_party} gets:\n"));
        }
        v1::IdentitySource::LastLogin => {
            print_line(&format_args!(
                "What {home} said of {username} at the last login, and what {relying_party} gets:\n"
            ));
        }
    }
    if !explained.claims.is_empty() {
        Output::Table.list(&explained.claims);
    }
    if let Some(account) = &explained.account {
        print_line(&format_args!("\nWhat {relying_party} would make of that: {}", account.outcome));
        for found in &account.matches {
            let account = if found.account.is_empty() { "no account" } else { &found.account };
            print_line(&format_args!("  by {} {}: {account}", found.claim, found.value));
        }
    }
    if explained.problems.is_empty() {
        print_line(&"\nNothing stands in the way.");
    } else {
        print_line(&"\nTo know before the first login:");
        explained.problems.iter().for_each(|problem| print_line(&format_args!("  - {problem}")));
    }
}

impl Row for v1::ClaimMapping {
    const COLUMNS: &'static [&'static str] = &["CLAIM", "HOME SAID", "RELYING PARTY GETS", "WHY"];

    fn cells(&self) -> Vec<String> {
        let value = match serde_json::from_str(&self.value) {
            Ok(Value::String(text)) => text,
            _ => self.value.clone(),
        };
        vec![self.claim.clone(), self.home_value.clone(), value, self.reason.clone()]
    }

    fn json(&self) -> Value {
        json!({
            "claim": self.claim,
            "home_value": self.home_value,
            "value": serde_json::from_str::<Value>(&self.value).unwrap_or_default(),
            "reason": self.reason,
        })
    }
}

fn json(asked: &v1::ExplainTrustRequest, explained: &v1::ExplainTrustResponse) -> Value {
    let source = explained.identity_source().as_str_name().trim_start_matches("IDENTITY_SOURCE_").to_lowercase();
    let account = explained.account.as_ref().map(|account| {
        let found = account
            .matches
            .iter()
            .map(|found| json!({"claim": found.claim, "value": found.value, "account": found.account}));
        json!({"outcome": account.outcome, "matches": found.collect::<Vec<_>>(), "problems": account.problems})
    });
    json!({
        "relying_party": asked.relying_party,
        "home": asked.home,
        "username": asked.username,
        "identity_source": source,
        "claims": explained.claims.iter().map(Row::json).collect::<Vec<_>>(),
        "account": account,
        "problems": explained.problems,
    })
}
