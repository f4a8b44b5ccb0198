//! Which pages are made, and of what.

mod commands;
mod configuration;
pub(crate) mod protocol;

use std::path::Path;

/// A page that nobody writes by hand.
pub(crate) struct Page {
    /// Where it is in the repository.
    pub(crate) path: &'static str,
    /// All of it.
    pub(crate) text: String,
}

/// All of them.
pub(crate) fn all(root: &Path) -> Vec<Page> {
    vec![
        Page { path: "docs/reference/protocol.md", text: protocol::page() },
        Page { path: "docs/reference/commands-broker.md", text: commands::page(homeward_broker::cli::command()) },
        Page {
            path: "docs/reference/commands-agent.md",
            text: commands::page(<homeward_agent::cli::Command as clap::CommandFactory>::command()),
        },
        Page { path: "docs/reference/configuration.md", text: configuration::page(root) },
    ]
}

/// What stands at the head of each, under its title.
pub(crate) fn head(title: &str, made_of: &str) -> String {
    format!("# {title}\n\n<!-- Made by `cargo reference` of {made_of}: change that, and run it again. -->\n\n")
}
