//! The pages for the operator: HTML without scripts, in the portal's dress. Their links are relative, so that a reverse proxy
//! can have them at any path.

use askama::Template;

use super::door::Shut;
use super::fact::Said;
use super::sheet::Sheet;

/// The style sheet: what all pages of the agent have, and what this one has beside it.
pub(super) const STYLE: &str =
    concat!(include_str!("../home/templates/style.css"), include_str!("../home/templates/operator.css"));

/// What all pages have around them.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where the style sheet is: beside the page.
    pub(super) path: &'static str,
}

/// The page.
#[derive(Debug, Template)]
#[template(path = "operator.html")]
pub(super) struct Page<'a> {
    pub(super) frame: Frame,
    pub(super) sheet: &'a Sheet,
    pub(super) form_token: &'a str,
    /// After how many seconds it looks again by itself, if the doctor is not back. (At its address without a fragment: to the
    /// same one with a fragment, browsers only scroll.)
    pub(super) again: u64,
}

/// A fixed sentence.
#[derive(Debug, Template)]
#[template(path = "operator_error.html")]
pub(super) struct Failure {
    pub(super) frame: Frame,
    pub(super) heading: &'static str,
    pub(super) sentence: &'static str,
    pub(super) request_id: String,
}

impl Frame {
    /// Beside the page.
    pub(super) const HERE: Self = Self { path: "" };
}

/// What is told of a request that is not let in: status, heading, sentence. The log has the cause.
pub(super) fn public(shut: &Shut) -> (u16, &'static str, &'static str) {
    match shut {
        Shut::OtherHost(_) => (
            421,
            "Not under this name",
            "This page is for the machine that it is on, and for names in [operator_page] hosts of the agent's configuration.",
        ),
        Shut::OtherSite => (
            403,
            "Not from there",
            "Another page has sent this request. Open this page by its address, and use the buttons on it.",
        ),
        Shut::ForgedForm => (
            403,
            "This page is out of date",
            "The agent has begun anew since the page was opened. Open it again and press the button there.",
        ),
    }
}

/// There is one page.
pub(super) const NO_PAGE: (u16, &str, &str) =
    (404, "There is no such page", "The agent has one page for its operator. Open it by its address.");

#[cfg(test)]
mod tests {
    use super::super::fact::{Fact, Moment, Section};
    use super::super::sheet::Doctor;
    use super::*;
    use crate::clock;
    use crate::doctor::finding::Finding;

    #[test]
    fn what_comes_from_elsewhere_is_escaped() {
        let evil = "\"><script>alert(1)</script>";
        let now = Moment::new(clock::now(), clock::now());
        let section =
            |id| Section { id, title: "x", facts: vec![Fact::code("x", evil), Fact::text("y", evil)], command: "z" };
        let finding = Finding::warning("x", evil, evil);
        let sheet = Sheet {
            instance: evil.to_owned(),
            now: now.clone(),
            attention: vec![finding.clone()],
            doctor: Doctor { under_way: Some((now.clone(), Some(evil.to_owned()))), last: Some((now, vec![finding])) },
            sections: vec![section("a")],
            resources: Vec::new(),
            places: Vec::new(),
            configured: section("b"),
        };
        let html = Page { frame: Frame::HERE, sheet: &sheet, form_token: "t", again: 3 }.render().unwrap();
        assert!(!html.contains("<script") && html.contains("&#60;script"), "{html}");
    }
}
