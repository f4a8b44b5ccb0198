//! Documents that programs and people are sent to: a page for each recipe, and links that lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use homeward_agent::recipe::Recipe;
use homeward_agent::recipe::library::Library;

use crate::{assert_tidy, files, relative, root};

/// Where the pages are.
const PAGES: &str = "docs/recipes";

/// Whoever installs an application's recipe finds there what it asks to know.
#[test]
fn every_recipe_has_a_page_that_names_its_parameters() {
    let wrong: Vec<String> = recipes().iter().flat_map(page_violations).collect();
    assert_tidy(&wrong);
}

#[test]
fn the_index_names_every_page() {
    let index = read(&root().join("docs/README.md"));
    let missing = files(&root().join(PAGES)).into_iter().filter_map(|page| {
        let name = page.file_name()?.to_string_lossy().into_owned();
        (!index.contains(&format!("recipes/{name}")))
            .then(|| format!("docs/README.md:1: has no link to recipes/{name}"))
    });
    assert_tidy(&missing.collect::<Vec<_>>());
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"));
    documents.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    documents.extend(["README.md", "SECURITY.md"].map(|page| root().join(page)));
    assert_tidy(&documents.iter().flat_map(|document| link_violations(document)).collect::<Vec<_>>());
}

fn recipes() -> Vec<Recipe> {
    let shelved = Library::default().all().expect("the recipes that come with the agent");
    shelved.into_iter().map(|shelved| shelved.recipe.expect(&shelved.name)).collect()
}

fn page_violations(recipe: &Recipe) -> Vec<String> {
    let page = format!("{PAGES}/{}.md", recipe.name);
    let Ok(text) = std::fs::read_to_string(root().join(&page)) else {
        return vec![format!("{page}:1: is missing: what is the recipe {} for, and what does it need?", recipe.name)];
    };
    let unnamed = recipe.parameters.keys().filter(|parameter| !text.contains(parameter.as_str()));
    unnamed.map(|parameter| format!("{page}:1: does not name the parameter {parameter}")).collect()
}

fn link_violations(document: &Path) -> Vec<String> {
    let text = read(document);
    let folder = document.parent().map_or_else(root, Path::to_owned);
    let wrong = links(&text).into_iter().filter_map(|(line, target)| {
        let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
        let file = if path.is_empty() { document.to_owned() } else { folder.join(path) };
        let advice = if !file.exists() {
            format!("{target} leads nowhere")
        } else if !fragment.is_empty() && !anchors(&file).contains(fragment) {
            format!("{target}: there is no such heading")
        } else {
            return None;
        };
        Some(format!("{}:{line}: {advice}", relative(document).display()))
    });
    wrong.collect()
}

/// The targets of `[text](target)` within the repository, with their lines. What stands in code is no link.
fn links(text: &str) -> Vec<(usize, &str)> {
    let prose = text.lines().enumerate().filter(|(_, line)| !line.starts_with("    "));
    let targets = prose.flat_map(|(index, line)| {
        let after = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        after.map(move |(target, _)| (index + 1, target))
    });
    targets.filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// What headings are called in addresses: lower case, spaces are hyphens, other punctuation is gone.
fn anchors(file: &Path) -> BTreeSet<String> {
    let text = read(file);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a page that can be read")
}

#[test]
fn a_link_that_leads_nowhere_is_seen() {
    assert_eq!(links("see [a](b.md#c) and [d](https://e.example)\n    [code](x)\n[f](#g)"), [(1, "b.md#c"), (3, "#g")]);
    assert!(anchors(&root().join("docs/README.md")).contains("applications"));
}
