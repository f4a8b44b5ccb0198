//! The pages that are made are as `cargo reference` would make them.

use crate::{assert_tidy, pages, root};

#[test]
fn the_reference_is_up_to_date() {
    let old = pages::all(&root()).into_iter().filter_map(|page| {
        let there = std::fs::read_to_string(root().join(page.path)).unwrap_or_default();
        let line = there.lines().zip(page.text.lines()).position(|(there, new)| there != new).unwrap_or(0) + 1;
        (there != page.text).then(|| format!("{}:{line}: is out of date: run `cargo reference`", page.path))
    });
    assert_tidy(&old.collect::<Vec<_>>());
}

#[test]
fn the_protocol_is_told_with_its_comments() {
    let page = pages::protocol::page();
    assert!(
        page.contains("| `Enrol` | [EnrolRequest](#enrolrequest) | [EnrolResponse](#enrolresponse) | Exchanges"),
        "{page}"
    );
    assert!(page.contains("| `applied_revision` | 1 | uint64 | Revision that the instance uses; 0 for none. |"));
    assert!(page.contains("stream of [SyncRequest](#syncrequest)"));
}
