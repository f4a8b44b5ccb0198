//! Pictures of any federation: whatever it is called, they are XML, all of it is there, nothing lies upon anything else and
//! nothing is outside.

mod lines;
mod map;

use std::time::Duration;

use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;
use crate::clock::Timestamp;

/// Names that want to be something else.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}",
        Just("</svg><script>alert(1)</script>".to_owned()),
        Just("\"><a onclick='x' &amp; &#0; ]]>".to_owned()),
        Just("a\u{0}\u{8}\u{202e}\u{ffff}b\n".to_owned()),
        Just("W".repeat(63)),
        Just("工厂".repeat(40)),
        ".{0,80}",
    ]
}

/// A place: left, top, right, bottom.
type Place = (f64, f64, f64, f64);

fn overlap(one: Place, other: Place) -> bool {
    one.0 < other.2 && other.0 < one.2 && one.1 < other.3 && other.1 < one.3
}

fn number(node: &Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}

/// All that is drawn is inside of the picture, and all that runs in a page is missing.
fn check(xml: &str) {
    let document = Document::parse(xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
    let names = ["figure", "svg", "g", "a", "title", "desc", "text", "path", "rect"];
    let of_table = ["figcaption", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td"];
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(names.contains(&name) || of_table.contains(&name), "{name}");
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on") && !["style", "id"].contains(&attribute.name()), "{name}");
        }
    }
    let svg = document.descendants().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg"))).unwrap();
    assert!(svg.children().any(|node| node.tag_name().name() == "title"), "who cannot see it has no name for it");
    let (width, height) = (number(&svg, "width"), number(&svg, "height"));
    assert_eq!(svg.attribute("viewBox").unwrap(), format!("0 0 {width} {height}"));
    for (left, top, right, bottom) in texts(&svg).into_iter().map(|(_, place)| place).chain(rects(&svg)) {
        assert!(0.0 <= left && right <= width, "{left} to {right} in {xml}");
        assert!(0.0 <= top && bottom <= height, "{top} to {bottom} in {xml}");
    }
}

/// All text, with the room that it has at the most.
fn texts(svg: &Node<'_, '_>) -> Vec<(String, Place)> {
    let texts = svg.descendants().filter(|node| node.tag_name().name() == "text");
    let texts = texts.map(|node| {
        let (x, y, text) = (number(&node, "x"), number(&node, "y"), node.text().unwrap_or_default());
        let classes = node.attribute("class").unwrap_or_default();
        let letters = match classes.split(' ').next() {
            Some("name") => words::Letters::NAME,
            Some("head") => words::Letters::HEAD,
            Some("warn" | "now") => words::Letters::STRONG,
            _ => words::Letters::PLAIN,
        };
        let width = f64::from(letters.width_of(text));
        let left = match classes.rsplit(' ').next() {
            Some("middle") => x - width / 2.0,
            Some("end") => x - width,
            _ => x,
        };
        (text.to_owned(), (left, y - 11.0, left + width, y + 4.0))
    });
    texts.collect()
}

fn rects(svg: &Node<'_, '_>) -> Vec<Place> {
    let rects = svg.descendants().filter(|node| node.tag_name().name() == "rect");
    let rects = rects.map(|node| {
        let (x, y) = (number(&node, "x"), number(&node, "y"));
        (x, y, x + number(&node, "width"), y + number(&node, "height"))
    });
    rects.collect()
}

fn no_two_overlap(texts: &[(String, Place)]) {
    for (nth, (text, place)) in texts.iter().enumerate() {
        for (other, of_other) in &texts[nth + 1..] {
            assert!(!overlap(*place, *of_other), "{text:?} at {place:?}, {other:?} at {of_other:?}");
        }
    }
}

/// The titles of all that has this class.
fn titles(document: &Document<'_>, class: &str) -> Vec<String> {
    let all = document
        .descendants()
        .filter(|node| node.attribute("class").is_some_and(|classes| classes.split(' ').any(|one| one == class)));
    all.filter_map(|node| {
        let title = node.children().find(|child| child.tag_name().name() == "title")?;
        Some(title.text().unwrap_or_default().to_owned())
    })
    .collect()
}
