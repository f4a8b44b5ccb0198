//! The page of all options: the reference configurations, whole.

use std::path::Path;

use super::head;

const FILES: [(&str, &str, &str); 2] = [
    (
        "The broker",
        "deploy/broker.toml",
        "`homeward-broker --config FILE config check` says whether a file can be used.",
    ),
    ("The agent", "deploy/agent.toml", "`homeward-agent --config FILE config check` says whether a file can be used."),
];

/// Every option with its default.
pub(crate) fn page(root: &Path) -> String {
    let sections = FILES.map(|(heading, file, check)| {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        format!(
            "## {heading}\n\n`{file}`: every option, with its default where it has one. {check}\n\n```toml\n{text}```\n"
        )
    });
    head("Configuration", "deploy/*.toml")
        + "One TOML file a program. Unknown keys are refused; secrets are named by the file that they are in. `HOMEWARD_LOG`\n\
           is the only variable: the filter of the log (`info`, `debug`, `homeward_broker::login=debug`).\n\n"
        + &sections.join("\n")
}
