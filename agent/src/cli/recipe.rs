//! `homeward-agent recipe`: what the agent knows of applications.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Output, Report};
use crate::recipe;

/// Recipes.
#[derive(Debug, Subcommand)]
pub(super) enum Recipe {
    /// Lists the recipes that come with the agent.
    List,
    /// Shows one, with its comments: what it needs of the application and what it does there.
    Show {
        /// Its name.
        name: String,
    },
}

impl Recipe {
    pub(super) fn carry_out(self, report: Report) -> Result<(), Failure> {
        match self {
            Self::List => list(report),
            Self::Show { name } => show(&name, report),
        }
    }
}

fn list(report: Report) -> Result<(), Failure> {
    let recipes = recipe::Recipe::all_embedded().map_err(Failure::refused)?;
    let rows: Vec<_> = recipes
        .iter()
        .map(|recipe| {
            let roles: Vec<&str> =
                [recipe.relying_party.as_ref().map(|_| "relying party"), recipe.home.as_ref().map(|_| "home")]
                    .into_iter()
                    .flatten()
                    .collect();
            vec![json!(recipe.name), json!(recipe.title), json!(roles)]
        })
        .collect();
    report.many(&["name", "title", "roles"], &rows);
    Ok(())
}

fn show(name: &str, report: Report) -> Result<(), Failure> {
    let text = recipe::Recipe::embedded_text(name).map_err(Failure::refused)?;
    match report.0 {
        Output::Table => print!("{text}"),
        Output::Json => report.one(&[("name", json!(name)), ("toml", json!(text))]),
    }
    Ok(())
}
