//! `tests/conformance.md` says which test covers which module of the public plans and which rule of ours. Tests move and
//! are renamed: a table that nothing reads would soon name tests that are not there.

use std::collections::BTreeSet;

use crate::{assert_tidy, root};

const TABLE: &str = "tests/conformance.md";

/// The rules of section 2 of the table: a letter, and how many rules it has.
const RULES: [(char, usize); 8] = [('R', 8), ('A', 20), ('P', 5), ('C', 8), ('T', 12), ('J', 9), ('S', 13), ('H', 7)];

/// A row: what is asked, and the tests that ask it.
struct Row {
    line: usize,
    asked: String,
    tests: Vec<String>,
}

#[test]
fn every_test_of_the_conformance_table_exists() {
    let rows = rows();
    let wrong = rows.iter().flat_map(|row| {
        let missing = row.tests.iter().filter(|test| !exists(test));
        missing.map(|test| format!("{TABLE}:{}: there is no test {test}: name the one that took its place", row.line))
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

#[test]
fn every_rule_of_the_conformance_table_has_a_test() {
    let rows = rows();
    let mut wrong: Vec<String> = rows
        .iter()
        .filter(|row| row.tests.is_empty())
        .map(|row| format!("{TABLE}:{}: nothing covers {}: write a test", row.line, row.asked))
        .collect();
    let asked: BTreeSet<&str> = rows.iter().map(|row| row.asked.as_str()).collect();
    let rules = RULES.iter().flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")));
    wrong.extend(
        rules.filter(|rule| !asked.contains(rule.as_str())).map(|rule| format!("{TABLE}:1: {rule} has no row")),
    );
    assert_tidy(&wrong);
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join(TABLE)).expect(TABLE);
    let rows: Vec<Row> = text.lines().enumerate().filter_map(|(index, line)| row(index + 1, line)).collect();
    assert!(!rows.is_empty(), "{TABLE} has no rows: was it moved?");
    rows
}

/// `| asked | what it means | tests |`, the tests between backticks.
fn row(line: usize, text: &str) -> Option<Row> {
    let cells: Vec<&str> = text.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let [asked, _, tests] = cells[..] else { return None };
    let heading = tests == "tests" || tests.starts_with("--");
    let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (!heading).then(|| Row { line, asked: asked.trim_matches('`').to_owned(), tests })
}

/// `path::name`, or `path::name[case]`, of a test in Rust or Python. A case with a slash is a scenario in Node.
pub(crate) fn exists(test: &str) -> bool {
    let (test, case) = test.strip_suffix(']').and_then(|test| test.split_once('[')).unwrap_or((test, ""));
    let Some((path, name)) = test.split_once("::") else { return false };
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let scenario = root().join(format!("tests/interop/node/{case}.mjs"));
    let declared = [format!("fn {name}("), format!("def {name}(")];
    declared.iter().any(|declared| text.contains(declared)) && (!case.contains('/') || scenario.is_file())
}
