//! `homeward-agent recipe`: what the agent knows of applications.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::layout::Layout;
use super::password::{self, PasswordError};
use super::{Failure, Output, Report, load, print, print_json};
use crate::config::Config;
use crate::doctor::finding::Verdict;
use crate::recipe;
use crate::recipe::library::{Library, Shelved};
use crate::recipe::way::Way;
use crate::rehearsal::act::Act;
use crate::rehearsal::{self, Typed};

/// Recipes.
#[derive(Debug, Subcommand)]
pub(super) enum Recipe {
    /// Lists the recipes: those that come with the agent, and those in recipe_dirs of the configuration.
    List,
    /// Shows one, with its comments: what it needs of the application and what it does there.
    Show {
        /// Its name.
        name: String,
    },
    /// Tries the configured recipe at the application that is there, and says what it makes of each answer. Writes nothing.
    Test {
        /// Signs this user in and out again, with the password that is asked for, or is the first line of standard input.
        #[arg(long, value_name = "NAME")]
        username: Option<String>,
    },
    /// Reads a recipe file and says what it comes to, or what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Some of it is not as the recipe says.
#[derive(Debug, thiserror::Error)]
#[error("{0} of these are not as the recipe says")]
struct NotAsTheRecipeSays(usize);

impl Recipe {
    pub(super) async fn carry_out(self, config: &Path, report: Report) -> Result<(), Failure> {
        match self {
            Self::List => list(&Config::library(config), report),
            Self::Show { name } => show(&Config::library(config), &name, report),
            Self::Check { file } => check(&file, report),
            Self::Test { username } => test(config, username, report).await,
        }
    }
}

fn list(library: &Library, report: Report) -> Result<(), Failure> {
    let shelved = library.all().map_err(Failure::refused)?;
    let rows: Vec<_> = shelved.iter().map(row).collect();
    report.many(&["name", "title", "roles", "versions", "from"], &rows);
    Ok(())
}

fn row(Shelved { name, source, recipe }: &Shelved) -> Vec<Value> {
    let from = json!(source.to_string());
    match recipe {
        Ok(recipe) => {
            vec![json!(name), json!(recipe.title), json!(roles(recipe)), json!(versions(recipe)), from]
        }
        Err(error) => vec![json!(name), json!(format!("cannot be used: {error}")), json!([]), Value::Null, from],
    }
}

fn show(library: &Library, name: &str, report: Report) -> Result<(), Failure> {
    let (text, source) = library.text(name).map_err(Failure::refused)?;
    match report.0 {
        Output::Table => print(text.trim_end()),
        Output::Json => {
            report.one(&[("name", json!(name)), ("from", json!(source.to_string())), ("toml", json!(text))]);
        }
    }
    Ok(())
}

fn check(file: &Path, report: Report) -> Result<(), Failure> {
    let recipe = recipe::Recipe::read(file).map_err(Failure::refused)?;
    let ways = recipe.relying_party.as_ref().map(|role| role.ways.as_slice()).unwrap_or_default();
    let parameters: Vec<&String> = recipe.parameters.keys().collect();
    report.one(&[
        ("name", json!(recipe.name)),
        ("title", json!(recipe.title)),
        ("roles", json!(roles(&recipe))),
        ("versions", json!(versions(&recipe))),
        ("ways", json!(ways.iter().map(|Way { name, .. }| name).collect::<Vec<_>>())),
        ("parameters", json!(parameters)),
        ("checks", json!(recipe.checks.len())),
    ]);
    Ok(())
}

async fn test(config: &Path, username: Option<String>, report: Report) -> Result<(), Failure> {
    let config = load(config)?;
    let typed = username.map(typed).transpose().map_err(Failure::refused)?;
    // On the heap: it holds every conversation that is held.
    let acts = Box::pin(rehearsal::rehearse(&config, typed.as_ref())).await.map_err(Failure::refused)?;
    match report.0 {
        Output::Json => print_json(&json!({ "recipe": config.recipe.name, "steps": acts })),
        Output::Table if acts.is_empty() => {
            print(
                "Nothing of the recipe is used here, so there is nothing to try; homeward-agent doctor looks at the rest.",
            );
        }
        Output::Table => {
            let layout = Layout::for_terminal();
            for act in &acts {
                layout.print(act.verdict, &act.part, &line(act), None);
            }
        }
    }
    match acts.iter().filter(|act| act.verdict == Verdict::Error).count() {
        0 => Ok(()),
        wrong => Err(Failure::refused(NotAsTheRecipeSays(wrong))),
    }
}

/// What was asked, what came, and what that means.
fn line(act: &Act) -> String {
    let asked = act.request.as_ref().map(|request| format!("{request} "));
    let status = act.status.map(|status| format!("→ {status}: "));
    format!("{}{}{}", asked.unwrap_or_default(), status.unwrap_or_default(), act.meaning)
}

fn typed(username: String) -> Result<Typed, PasswordError> {
    let password = password::ask(&format!("Password of {username} (shown to the application only): "))?;
    Ok(Typed { username, password, ask_code: || password::ask("Code of the second factor: ").ok() })
}

fn roles(recipe: &recipe::Recipe) -> Vec<&'static str> {
    let party = recipe.relying_party.as_ref().map(|_| "relying party");
    party.into_iter().chain(recipe.home.as_ref().map(|_| "home")).collect()
}

fn versions(recipe: &recipe::Recipe) -> Option<String> {
    recipe.version.as_ref().map(|version| version.supported.to_string())
}
