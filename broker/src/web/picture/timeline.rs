//! The timeline: what is pending, active and retired, a lane each, and what happens next.
//!
//! Its axis is not even: an hour from now is as far away as a week from a day, so that a key that is retired since minutes and
//! a CA that ends in years have room beside each other. Every bar and every mark has a row of its own, with its dates in
//! words above it: nothing is said by its place alone.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::clock::Timestamp;
use crate::web::picture::words::{Letters, clean, moment};

/// What turns by itself: the signing keys of an algorithm, one instance's client secret, the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// What it is: `Signing key`, `Client secret`, `CA`.
    pub kind: String,
    /// Which one: the algorithm, or the instance. May be nothing.
    pub name: String,
    /// What there is of it.
    pub spans: Vec<Span>,
    /// What will happen.
    pub marks: Vec<Mark>,
}

/// A key, a secret or a CA, for as long as it is in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What names it.
    pub name: String,
    /// Its state.
    pub state: SpanState,
    /// Since when.
    pub from: Timestamp,
    /// Until when; nothing if nobody knows yet.
    pub until: Option<Timestamp>,
}

/// What something is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanState {
    /// For nothing yet: it is made known.
    Pending,
    /// It is in use.
    Active,
    /// For what was made with it.
    Retired,
}

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, at the earliest.
    pub at: Timestamp,
    /// What: one sentence.
    pub words: String,
}

/// The picture.
#[derive(Clone, Debug, Template)]
#[template(path = "picture/timeline.svg")]
pub struct Timeline {
    pub(super) height: i32,
    now: String,
    pub(super) ticks: Vec<Tick>,
    pub(super) lanes: Vec<Row>,
}

impl HtmlSafe for Timeline {}

/// A lane as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) y: i32,
    kind: String,
    name: String,
    title: String,
    pub(super) entries: Vec<Entry>,
}

/// A bar or a mark, with its words above it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    class: &'static str,
    pub(super) y: i32,
    pub(super) words: String,
    pub(super) title: String,
    pub(super) from: i32,
    pub(super) to: i32,
}

/// A line of the axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) x: i32,
    pub(super) label: &'static str,
}

pub(super) const WIDTH: i32 = 720;
/// Where the axis begins and ends.
pub(super) const AXIS: (i32, i32) = (168, WIDTH - 36);
const FIRST: i32 = 72;
pub(super) const ENTRY: i32 = 38;
const BETWEEN: i32 = 14;

/// The class of what will happen.
const NEXT: &str = "next";

/// How far apart the words of the axis are at least.
const APART: i32 = 66;

const HOUR: f64 = 3600.0;

/// Moments of the axis, so many hours from now.
const MOMENTS: [(f64, &str, &str); 7] = [
    (1.0, "1 h ago", "in 1 h"),
    (24.0, "1 d ago", "in 1 d"),
    (168.0, "1 wk ago", "in 1 wk"),
    (720.0, "30 d ago", "in 30 d"),
    (2160.0, "90 d ago", "in 90 d"),
    (8760.0, "1 y ago", "in 1 y"),
    (87_600.0, "10 y ago", "in 10 y"),
];

impl Timeline {
    /// As it is at this moment.
    pub fn draw(now: Timestamp, lanes: &[Lane]) -> Self {
        let axis = Axis::of(now, lanes);
        let (mut y, mut rows) = (FIRST, Vec::new());
        for lane in lanes {
            let row = row(lane, y, &axis);
            y += ENTRY * row.entries.len().max(1) as i32 + BETWEEN;
            rows.push(row);
        }
        Self { height: y, now: moment(now), ticks: axis.ticks(), lanes: rows }
    }
}

/// From moments to places.
struct Axis {
    now: Timestamp,
    /// How far the past and the future go, as they are drawn.
    ends: (f64, f64),
}

impl Axis {
    fn of(now: Timestamp, lanes: &[Lane]) -> Self {
        let spans = || lanes.iter().flat_map(|lane| &lane.spans);
        let marks = lanes.iter().flat_map(|lane| &lane.marks).map(|mark| mark.at);
        let all: Vec<Timestamp> =
            spans().flat_map(|span| [Some(span.from), span.until]).flatten().chain(marks).collect();
        let mut axis = Self { now, ends: (0.0, 0.0) };
        // Never less than an hour back and a day ahead, so that there is an axis.
        let past = all.iter().map(|at| axis.distance(*at)).fold(stretched(-1.0), f64::min);
        let future = all.iter().map(|at| axis.distance(*at)).fold(stretched(24.0), f64::max);
        axis.ends = (past, future);
        axis
    }

    fn distance(&self, at: Timestamp) -> f64 {
        let (later, earlier) = (at.since(self.now).as_secs_f64(), self.now.since(at).as_secs_f64());
        stretched((later - earlier) / HOUR)
    }

    fn x(&self, at: Timestamp) -> i32 {
        self.place(self.distance(at))
    }

    fn place(&self, distance: f64) -> i32 {
        let (past, future) = self.ends;
        let part = ((distance - past) / (future - past)).clamp(0.0, 1.0);
        AXIS.0 + (part * f64::from(AXIS.1 - AXIS.0)).round() as i32
    }

    /// The words of the axis, as many as have room: now first, then outwards.
    fn ticks(&self) -> Vec<Tick> {
        let mut ticks = vec![Tick { x: self.place(0.0), label: "now" }];
        for (hours, ago, ahead) in MOMENTS {
            for (distance, label) in [(stretched(-hours), ago), (stretched(hours), ahead)] {
                let x = self.place(distance);
                let room = ticks.iter().all(|tick| (tick.x - x).abs() >= APART);
                if room && distance >= self.ends.0 && distance <= self.ends.1 {
                    ticks.push(Tick { x, label });
                }
            }
        }
        ticks
    }
}

/// So many hours from now, as the axis has them.
fn stretched(hours: f64) -> f64 {
    hours.signum() * hours.abs().ln_1p()
}

fn row(lane: &Lane, y: i32, axis: &Axis) -> Row {
    let mut marks = lane.marks.clone();
    marks.sort_by_key(|mark| mark.at);
    let spans = lane.spans.iter().map(|span| bar(span, axis));
    let mut entries: Vec<Entry> = spans.chain(marks.iter().map(|mark| diamond(mark, axis))).collect();
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.y = y + ENTRY * index as i32;
    }
    Row {
        y,
        kind: Letters::NAME.fit(&lane.kind, AXIS.0 - 16),
        name: Letters::PLAIN.fit(&lane.name, AXIS.0 - 16),
        title: clean(format!("{} {}", lane.kind, lane.name).trim_end()),
        entries,
    }
}

fn bar(span: &Span, axis: &Axis) -> Entry {
    let (class, state) = match span.state {
        SpanState::Pending => ("pending", "pending"),
        SpanState::Active => ("active", "active"),
        SpanState::Retired => ("retired", "retired"),
    };
    let until = span.until.map_or_else(String::new, |until| format!(" until {}", moment(until)));
    let words = format!("{state} since {}{until}: {}", moment(span.from), span.name);
    // What has no end yet goes on to the edge. What is over in a moment is seen still.
    let from = axis.x(span.from).min(AXIS.1 - 4);
    let to = span.until.map_or(AXIS.1, |until| axis.x(until)).max(from + 4);
    Entry { class, y: 0, words: Letters::PLAIN.fit(&words, AXIS.1 - AXIS.0), title: clean(&words), from, to }
}

fn diamond(mark: &Mark, axis: &Axis) -> Entry {
    let words = format!("{}: {}", moment(mark.at), mark.words);
    let x = axis.x(mark.at);
    Entry {
        class: NEXT,
        y: 0,
        words: Letters::PLAIN.fit(&words, AXIS.1 - AXIS.0),
        title: clean(&words),
        from: x - 6,
        to: x + 6,
    }
}
