//! The trust map: homes on the left, relying parties on the right, and an arrow for each home whose users a relying party
//! lets in. An instance that is both stands on both sides.
//!
//! The order of the two columns is that in which few arrows cross: each side is sorted by where its neighbours stand, a few
//! times to and fro. It depends on names and edges alone, so that the same federation is always the same picture. An arrow
//! never touches a box that it does not end at: it stays between the columns.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use askama::filters::HtmlSafe;

use crate::web::picture::federation::{Consent, Edge, Party, Roles, Standing};
use crate::web::picture::words::{Letters, clean};

/// The picture.
#[derive(Clone, Debug, Template)]
#[template(path = "picture/trust_map.svg")]
pub struct TrustMap {
    pub(super) height: i32,
    summary: String,
    /// What is not drawn, in a sentence; empty if everything is.
    left_out: String,
    pub(super) homes: Vec<Node>,
    pub(super) relying_parties: Vec<Node>,
}

impl HtmlSafe for TrustMap {}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) title: String,
    href: Option<String>,
    class: &'static str,
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) height: i32,
    outline: String,
    pub(super) lines: Vec<Line>,
    /// Of a home: what leads to relying parties.
    pub(super) arrows: Vec<Arrow>,
}

/// A line of text in a box.
#[derive(Clone, Debug)]
pub(super) struct Line {
    class: &'static str,
    pub(super) y: i32,
    pub(super) text: String,
    pub(super) title: String,
}

/// An edge.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    class: &'static str,
    pub(super) title: String,
    /// Where it begins and ends, from top.
    pub(super) ends: (i32, i32),
}

pub(super) const WIDTH: i32 = 720;
pub(super) const BOX: i32 = 264;
/// The inner edges of the two columns.
pub(super) const GAP: (i32, i32) = (8 + BOX, WIDTH - 8 - BOX);
const FIRST: i32 = 84;
const BETWEEN: i32 = 12;
const LINE: i32 = 18;
const PADDING: i32 = 12;

/// How far arrows at one box are from each other, and how much taller a box becomes for that at the most.
const PORT: (i32, i32) = (5, 140);

/// What an unhealthy box lacks at its corners, and how long the head of an arrow is.
const CORNER: i32 = 12;
const HEAD: i32 = 8;

/// The class of who is cut off.
const QUARANTINED: &str = "quarantined";

/// How often the columns are sorted.
const SWEEPS: usize = 8;

impl TrustMap {
    /// Of these instances. One that an edge names and nobody knows is shown as such.
    pub fn draw(parties: &[Party], edges: &[Edge]) -> Self {
        // The same federation is the same picture, in whatever order it is told.
        let mut edges = edges.to_vec();
        edges.sort_by(|a, b| (&a.home, &a.relying_party).cmp(&(&b.home, &b.relying_party)));
        let edges = edges.as_slice();
        let known: BTreeMap<&str, &Party> = parties.iter().map(|party| (party.name.as_str(), party)).collect();
        let mut order = Order::of(&known, edges);
        order.sort(edges);
        let mut homes = column(&order.homes, &known, edges, Side::Home);
        let mut relying_parties = column(&order.relying_parties, &known, edges, Side::RelyingParty);
        let height = bottom(&homes).max(bottom(&relying_parties)) + BETWEEN;
        spread(&mut homes, height);
        spread(&mut relying_parties, height);
        connect(&mut homes, &relying_parties, edges);
        let missing = edges.iter().filter(|edge| edge.consent != Consent::Both).count();
        let summary = format!(
            "Homes: {}. Relying parties: {}. Edges: {}, of which {missing} lack the consent of one side.",
            homes.len(),
            relying_parties.len(),
            edges.len()
        );
        Self { height, summary, left_out: String::new(), homes, relying_parties }
    }

    /// The same, of more than is drawn: the picture says what is left out.
    pub fn leaving_out(self, sentence: String) -> Self {
        Self { left_out: sentence, ..self }
    }
}

/// The names of each column from top to bottom.
struct Order<'a> {
    homes: Vec<&'a str>,
    relying_parties: Vec<&'a str>,
}

impl<'a> Order<'a> {
    fn of(known: &BTreeMap<&'a str, &'a Party>, edges: &'a [Edge]) -> Self {
        let with = |role| known.values().filter(move |party| party.roles == role || party.roles == Roles::Both);
        let mut homes: BTreeSet<&str> = with(Roles::Home).map(|party| party.name.as_str()).collect();
        let mut relying_parties: BTreeSet<&str> = with(Roles::RelyingParty).map(|party| party.name.as_str()).collect();
        homes.extend(edges.iter().map(|edge| edge.home.as_str()));
        relying_parties.extend(edges.iter().map(|edge| edge.relying_party.as_str()));
        Self { homes: homes.into_iter().collect(), relying_parties: relying_parties.into_iter().collect() }
    }

    fn sort(&mut self, edges: &'a [Edge]) {
        let mut right: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for edge in edges {
            right.entry(&edge.home).or_default().push(&edge.relying_party);
            left.entry(&edge.relying_party).or_default().push(&edge.home);
        }
        for _ in 0..SWEEPS {
            sort_by_neighbours(&mut self.relying_parties, &left, &self.homes);
            sort_by_neighbours(&mut self.homes, &right, &self.relying_parties);
        }
    }
}

/// By the mean place of those that each is connected with; who is connected with nobody comes last.
fn sort_by_neighbours(column: &mut [&str], neighbours: &BTreeMap<&str, Vec<&str>>, others: &[&str]) {
    let places: BTreeMap<&str, usize> = others.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let mean = |name: &str| {
        let of: Vec<usize> = neighbours.get(name)?.iter().filter_map(|other| places.get(other).copied()).collect();
        // In thousandths, so that it has an order.
        (of.iter().sum::<usize>() * 1000).checked_div(of.len())
    };
    column.sort_by_cached_key(|name| mean(name).unwrap_or(usize::MAX));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Home,
    RelyingParty,
}

impl Side {
    fn name(self, edge: &Edge) -> &str {
        match self {
            Self::Home => &edge.home,
            Self::RelyingParty => &edge.relying_party,
        }
    }

    /// Whether it is this side whose consent an edge lacks.
    fn lacks(self, edge: &Edge) -> bool {
        match self {
            Self::Home => edge.consent == Consent::NotReleased,
            Self::RelyingParty => edge.consent == Consent::NotAccepted,
        }
    }
}

/// The boxes of a column, one below the other.
fn column(names: &[&str], known: &BTreeMap<&str, &Party>, edges: &[Edge], side: Side) -> Vec<Node> {
    let mut y = FIRST;
    let mut nodes = Vec::new();
    for name in names {
        let own: Vec<&Edge> = edges.iter().filter(|edge| side.name(edge) == *name).collect();
        let mut node = node(name, known.get(name).copied(), &own, side);
        node.y = y;
        y += node.height + BETWEEN;
        nodes.push(node);
    }
    nodes
}

fn node(name: &str, party: Option<&Party>, edges: &[&Edge], side: Side) -> Node {
    let (class, standing) = match party.map(|party| &party.standing) {
        Some(Standing::Healthy) => ("healthy", None),
        Some(Standing::Unhealthy(why)) => ("unhealthy", Some(format!("unhealthy: {why}"))),
        Some(Standing::Quarantined) => (QUARANTINED, Some("quarantined".to_owned())),
        None => ("unhealthy", Some("not known to the broker".to_owned())),
    };
    let mut texts = vec![("name", name.to_owned())];
    let display_name = party.map(|party| party.display_name.as_str()).filter(|shown| *shown != name);
    texts.extend(display_name.filter(|shown| !shown.is_empty()).map(|shown| ("soft", shown.to_owned())));
    texts.extend(standing.clone().map(|words| ("warn", words)));
    for edge in edges.iter().filter(|edge| side.lacks(edge)) {
        texts.push(match side {
            Side::Home => ("warn", format!("does not release to {}", edge.relying_party)),
            Side::RelyingParty => ("warn", format!("does not accept {}", edge.home)),
        });
    }
    let x = if side == Side::Home { GAP.0 - BOX } else { GAP.1 };
    let lines = texts.into_iter().enumerate().map(|(index, (class, text))| {
        let letters = match class {
            "name" => Letters::NAME,
            "warn" => Letters::STRONG,
            _ => Letters::PLAIN,
        };
        let y = PADDING + LINE * index as i32 + 13;
        Line { class, y, text: letters.fit(&text, BOX - 2 * PADDING), title: clean(&text) }
    });
    let lines: Vec<Line> = lines.collect();
    let ports = (edges.len() as i32 * PORT.0).min(PORT.1);
    let role = if side == Side::Home { "home" } else { "relying party" };
    let standing = standing.unwrap_or_else(|| "healthy".to_owned());
    Node {
        name: name.to_owned(),
        title: clean(&format!("{name}, {role}, {standing}")),
        href: party.and_then(|party| party.href.as_deref()).map(clean),
        class,
        x,
        y: 0,
        height: (2 * PADDING + LINE * lines.len() as i32).max(ports + 2 * PADDING),
        outline: String::new(),
        lines,
        arrows: Vec::new(),
    }
}

fn bottom(column: &[Node]) -> i32 {
    column.last().map_or(FIRST, |last| last.y + last.height)
}

/// Gives a column that is shorter the room of the other one, and everything its final place.
fn spread(column: &mut [Node], height: i32) {
    let room = height - BETWEEN - bottom(column);
    let count = column.len() as i32;
    for (index, node) in column.iter_mut().enumerate() {
        node.y += room * (2 * index as i32 + 1) / (2 * count);
        node.lines.iter_mut().for_each(|line| line.y += node.y);
        node.outline = outline(node);
    }
}

/// Round corners for who is well, cut ones for who is not, and a second line around who is cut off.
fn outline(node: &Node) -> String {
    let (x, y, width, height) = (node.x, node.y, BOX, node.height);
    let cut = |inset: i32| {
        let (x, y, width, height, corner) =
            (x + inset, y + inset, width - 2 * inset, height - 2 * inset, CORNER - inset);
        let (across, down) = (width - 2 * corner, height - 2 * corner);
        format!(
            "M{} {y}h{across}l{corner} {corner}v{down}l-{corner} {corner}h-{across}l-{corner} -{corner}v-{down}z",
            x + corner
        )
    };
    match node.class {
        "healthy" => {
            let (across, down) = (width - 16, height - 16);
            format!(
                "M{} {y}h{across}a8 8 0 0 1 8 8v{down}a8 8 0 0 1 -8 8h-{across}a8 8 0 0 1 -8 -8v-{down}a8 8 0 0 1 8 -8z",
                x + 8
            )
        }
        QUARANTINED => format!("{}{}", cut(0), cut(4)),
        _ => cut(0),
    }
}

/// An edge with its place among those that were given, and the places of its two boxes.
struct Connection<'a> {
    given: usize,
    edge: &'a Edge,
    boxes: (usize, usize),
}

/// Draws the arrows. Where an edge lacks a consent, it ends at the line of the box that says so.
fn connect(homes: &mut [Node], relying_parties: &[Node], edges: &[Edge]) {
    let place = |column: &[Node]| -> BTreeMap<String, usize> {
        column.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect()
    };
    let (left, right) = (place(homes), place(relying_parties));
    let found = edges.iter().enumerate().filter_map(|(given, edge)| {
        Some(Connection { given, edge, boxes: (*left.get(&edge.home)?, *right.get(&edge.relying_party)?) })
    });
    let mut found: Vec<Connection<'_>> = found.collect();
    // Arrows leave a box, and come to one, in the order of the boxes that they connect.
    found.sort_by_key(|connection| connection.boxes);
    let begins = ports(homes, &found, Side::Home);
    let ends = ports(relying_parties, &found, Side::RelyingParty);
    for (connection, ends) in found.iter().zip(begins.into_iter().zip(ends)) {
        let cut_off = [&homes[connection.boxes.0], &relying_parties[connection.boxes.1]];
        let cut_off = cut_off.into_iter().find(|node| node.class == QUARANTINED).map(|node| node.name.clone());
        let (class, words) = words(connection.edge, cut_off.as_deref());
        homes[connection.boxes.0].arrows.push(Arrow { class, title: clean(&words), ends });
    }
}

/// How an edge is drawn, and what it says, where one of the two may be cut off.
fn words(edge: &Edge, cut_off: Option<&str>) -> (&'static str, String) {
    let Edge { home, relying_party, consent } = edge;
    let may_not = format!("Users of {home} may not log in at {relying_party}");
    match (consent, cut_off) {
        (Consent::NotReleased, _) => ("edge missing", format!("{may_not}: {home} does not release them.")),
        (Consent::NotAccepted, _) => ("edge missing", format!("{may_not}: {relying_party} does not accept them.")),
        (Consent::Both, Some(name)) => ("edge idle", format!("{may_not}: {name} is quarantined.")),
        (Consent::Both, None) => ("edge", format!("Users of {home} may log in at {relying_party}.")),
    }
}

/// Where each edge touches its box of one side, from top.
fn ports(column: &[Node], connections: &[Connection<'_>], side: Side) -> Vec<i32> {
    let mut ports = vec![0; connections.len()];
    for (place, node) in column.iter().enumerate() {
        let own = connections.iter().enumerate().filter(|(_, connection)| {
            place == if side == Side::Home { connection.boxes.0 } else { connection.boxes.1 }
        });
        let (mut lacking, whole): (Vec<_>, Vec<_>) = own.partition(|(_, connection)| side.lacks(connection.edge));
        // As their lines stand in the box.
        lacking.sort_by_key(|(_, connection)| connection.given);
        let first = node.lines.len() - lacking.len();
        for ((index, _), line) in lacking.iter().zip(&node.lines[first..]) {
            ports[*index] = line.y - 4;
        }
        let top = node.y + CORNER;
        let end = node.lines.get(first).map_or(node.y + node.height - CORNER, |line| line.y - LINE);
        let count = whole.len() as i32;
        for (nth, (index, _)) in whole.into_iter().enumerate() {
            ports[index] = top + (end - top) * (nth as i32 + 1) / (count + 1);
        }
    }
    ports
}

impl Arrow {
    /// From the home's box to where the head begins.
    fn line(&self) -> String {
        let ((begin, end), (from, to), middle) = (GAP, self.ends, (GAP.0 + GAP.1) / 2);
        format!("M{begin} {from}C{middle} {from} {middle} {to} {} {to}", end - HEAD)
    }

    /// The head, at the relying party's box.
    fn head(&self) -> String {
        format!("M{} {}l-{HEAD} -4v8z", GAP.1, self.ends.1)
    }
}
