//! docs/ is a book (`mdbook build docs`), and reads as well where it lies: each page is a chapter, and leads to other pages.

use std::collections::BTreeSet;
use std::path::Path;

use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::{assert_tidy, files, relative, root};

const SUMMARY: &str = "docs/SUMMARY.md";
const ENDPOINTS: &str = "docs/reference/endpoints.md";

#[test]
fn every_page_is_a_chapter_and_every_chapter_a_page() {
    let chapters: Vec<String> = targets(&root().join(SUMMARY));
    let named: BTreeSet<&str> = chapters.iter().map(String::as_str).collect();
    let mut wrong = Vec::new();
    if named.len() < chapters.len() {
        wrong.push(format!("{SUMMARY}:1: names a chapter twice"));
    }
    let pages = pages().into_iter().filter(|page| !page.ends_with("SUMMARY.md"));
    let pages: BTreeSet<String> =
        pages.map(|page| relative(&page).to_string_lossy().trim_start_matches("docs/").to_owned()).collect();
    wrong.extend(
        chapters
            .iter()
            .filter(|chapter| !pages.contains(*chapter))
            .map(|chapter| format!("{SUMMARY}:1: {chapter} is no page")),
    );
    wrong.extend(
        pages
            .iter()
            .filter(|page| !named.contains(page.as_str()))
            .map(|page| format!("docs/{page}:1: is no chapter: name it in {SUMMARY}")),
    );
    assert_tidy(&wrong);
}

/// Beyond docs/ there is nothing in the book: files of the repository are named, not linked.
#[test]
fn no_link_leads_out_of_the_book() {
    let wrong = pages().into_iter().flat_map(|page| {
        let folder = page.parent().map_or_else(root, Path::to_owned);
        let docs = root().join("docs").canonicalize().expect("docs");
        let out = targets(&page).into_iter().filter(move |target| {
            let path = target.split('#').next().unwrap_or_default();
            let there = folder.join(path).canonicalize();
            !path.is_empty() && !target.contains("://") && there.is_ok_and(|there| !there.starts_with(&docs))
        });
        let page = relative(&page).display().to_string();
        out.map(move |target| format!("{page}:1: {target} leads out of the book: name the file, or link to a page"))
            .collect::<Vec<_>>()
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

#[test]
fn the_book_is_made_of_this_folder() {
    let text = std::fs::read_to_string(root().join("docs/book.toml")).expect("docs/book.toml");
    let book: toml::Table = toml::from_str(&text).expect("docs/book.toml is TOML");
    assert_eq!(book["book"]["src"].as_str(), Some("."), "pages stay where links and readers find them");
    let built = book["build"]["build-dir"].as_str().expect("where it is built");
    assert!(built.starts_with("../target/"), "{built}: the built book is no part of the repository");
}

/// Addresses are what programs and proxies are configured with.
#[test]
fn every_address_of_the_broker_is_documented() {
    let page = std::fs::read_to_string(root().join(ENDPOINTS)).expect(ENDPOINTS);
    let sources = ["broker/src/oidc/mod.rs", "broker/src/web/mod.rs", "broker/src/login/mod.rs"];
    let texts = sources.map(|source| std::fs::read_to_string(root().join(source)).expect(source));
    let addresses: BTreeSet<&str> = texts.iter().flat_map(|text| text.split('"').skip(1).step_by(2)).collect();
    let addresses: Vec<&str> = addresses.into_iter().filter(|address| is_address(address)).collect();
    assert!(addresses.len() > 20, "{addresses:?}: were they moved?");
    let missing = addresses.into_iter().filter(|address| !page.contains(&format!("`{address}`")));
    assert_tidy(&missing.map(|address| format!("{ENDPOINTS}:1: does not name {address}")).collect::<Vec<_>>());
}

fn is_address(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic())
}

/// The pages of the book, and its table of contents.
pub(crate) fn pages() -> Vec<std::path::PathBuf> {
    let found = files(&root().join("docs")).into_iter();
    found.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Where the links of a page lead, without addresses elsewhere.
fn targets(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("a page that can be read");
    let links = Parser::new_ext(&text, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
        _ => None,
    });
    links.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}
