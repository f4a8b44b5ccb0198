//! `SECURITY.md` promises: for each threat what stops it, and the test that shows it. Tests move and are renamed; a promise
//! that names a test of yesterday is none.

use crate::conformance::exists;
use crate::{assert_tidy, root};

const PAGE: &str = "SECURITY.md";

/// What stands in the last column where there is no test.
const HONEST: &str = "not covered";

#[test]
fn every_test_and_limit_of_the_threat_model_exists() {
    let wrong = rows().into_iter().flat_map(|(line, cells)| {
        let named = cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|code| code.contains("::"));
        let missing = named.filter(|named| !exists(named) && !is_limit(named));
        missing.map(|name| format!("{PAGE}:{line}: there is no {name}: name what took its place")).collect::<Vec<_>>()
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

#[test]
fn every_threat_has_a_test_or_says_that_it_has_none() {
    let uncovered = rows().into_iter().filter(|(_, cells)| !is_covered(cells.last().map_or("", String::as_str)));
    let said = |(line, cells): (usize, Vec<String>)| {
        format!("{PAGE}:{line}: nothing covers {}: write a test, or \"{HONEST}\" and why", cells[0])
    };
    assert_tidy(&uncovered.map(said).collect::<Vec<_>>());
}

/// Whether the last cell of a row names tests and nothing else that only looks like one, or says that there is none.
fn is_covered(cell: &str) -> bool {
    let mut named = cell.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).peekable();
    (named.peek().is_some() || cell.contains(HONEST)) && named.all(exists)
}

#[test]
fn a_limit_is_no_test() {
    let here = "`tests/tidy/security.rs::a_limit_is_no_test`";
    assert!(
        is_covered(here) && is_covered(&format!("{here}; not covered: the rest")) && is_covered("not covered: why")
    );
    assert!(!is_covered("") && !is_covered("`tests/tidy/security.rs::PAGE`"));
    assert!(!is_covered(&format!("{here}<br>`tests/tidy/security.rs::HONEST`")));
}

/// The rows of the tables whose last column is `test`.
fn rows() -> Vec<(usize, Vec<String>)> {
    let text = std::fs::read_to_string(root().join(PAGE)).expect(PAGE);
    let mut within = false;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let cells = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
        let Some(cells) = cells.map(|cells| cells.split(" | ").map(str::to_owned).collect::<Vec<_>>()) else {
            // The line below a heading has neither space nor text.
            within &= line.starts_with("|--");
            continue;
        };
        match cells.last().map(String::as_str) {
            Some("test") => within = true,
            _ if within => rows.push((index + 1, cells)),
            _ => {}
        }
    }
    assert!(rows.len() > 50, "{PAGE} has {} rows: was it moved?", rows.len());
    rows
}

/// `path::NAME` of a constant.
fn is_limit(named: &str) -> bool {
    named.split_once("::").is_some_and(|(path, name)| {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        text.contains(&format!("const {name}:"))
    })
}
