//! Logins and failures over time: bars on a zero baseline, one panel each, so that a thousand logins hide no ten failures, and
//! the same numbers as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::clock::Timestamp;
use crate::web::picture::words::moment;

/// What happened from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// From when on.
    pub at: Timestamp,
    /// Logins that came to their end.
    pub logins: u64,
    /// Logins that did not.
    pub failures: u64,
}

/// The picture, and the table.
#[derive(Clone, Debug, Template)]
#[template(path = "picture/plot.svg")]
pub struct Plot {
    /// What one bar stands for, in words.
    pub(super) per: String,
    summary: String,
    pub(super) panels: [Panel; 2],
    pub(super) ticks: Vec<Tick>,
    pub(super) rows: Vec<TableRow>,
}

impl HtmlSafe for Plot {}

/// One kind of bars.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    class: &'static str,
    name: &'static str,
    /// Where zero is.
    pub(super) zero: i32,
    pub(super) levels: Vec<Level>,
    pub(super) bars: Vec<Bar>,
}

/// A number at the side.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) y: i32,
    pub(super) value: u64,
}

/// A bar; none is drawn for nothing.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    title: String,
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) height: i32,
}

/// A moment below.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) x: i32,
    pub(super) label: String,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    at: String,
    pub(super) logins: u64,
    pub(super) failures: u64,
}

pub(super) const AXIS: (i32, i32) = (72, 688);
/// How high a panel is.
pub(super) const PANEL: i32 = 110;
const ZEROES: [i32; 2] = [150, 326];

/// Bars that are drawn, at the most: more are made fewer.
pub(super) const MOST: i64 = 300;

/// Words of the axis, at the most.
const MOST_TICKS: i64 = 9;

const DAY: i64 = 86_400;

impl Plot {
    /// Of these counts, in any order, with a bar for so much time: a multiple of it if that would be too many.
    pub fn draw(counts: &[Count], per: Duration) -> Self {
        let mut per = i64::try_from(per.as_secs()).unwrap_or(i64::MAX).clamp(60, DAY);
        let (from, to) = loop {
            let of = |at: Timestamp| at.as_secs().div_euclid(per);
            let ends = counts.iter().map(|count| of(count.at));
            let (from, to) = (ends.clone().min().unwrap_or(0), ends.max().unwrap_or(0));
            if to - from < MOST {
                break (from, to);
            }
            per = per.saturating_mul(2);
        };
        let mut slots: BTreeMap<i64, (u64, u64)> = (from..=to).map(|slot| (slot, (0, 0))).collect();
        if counts.is_empty() {
            slots.clear();
        }
        for count in counts {
            let (logins, failures) = slots.entry(count.at.as_secs().div_euclid(per)).or_default();
            *logins = logins.saturating_add(count.logins);
            *failures = failures.saturating_add(count.failures);
        }
        let slots: Vec<(i64, u64, u64)> =
            slots.into_iter().map(|(slot, (logins, failures))| (slot * per, logins, failures)).collect();
        Self::of(&slots, per)
    }

    fn of(slots: &[(i64, u64, u64)], per: i64) -> Self {
        let words = words_of(per);
        let logins: Vec<(i64, u64)> = slots.iter().map(|(at, logins, _)| (*at, *logins)).collect();
        let failures: Vec<(i64, u64)> = slots.iter().map(|(at, _, failures)| (*at, *failures)).collect();
        let sum = |of: &[(i64, u64)]| of.iter().fold(0_u64, |sum, (_, many)| sum.saturating_add(*many));
        let at = |secs: i64| moment(Timestamp::from_secs(secs));
        let summary = match (slots.first(), slots.last()) {
            (Some((from, ..)), Some((to, ..))) => format!(
                "{} and {} from {} to {} UTC.",
                counted(sum(&logins), "login"),
                counted(sum(&failures), "failure"),
                at(*from),
                at(to.saturating_add(per))
            ),
            _ => "Nothing was counted yet.".to_owned(),
        };
        let row = |(secs, logins, failures): &(i64, u64, u64)| TableRow {
            at: at(*secs),
            logins: *logins,
            failures: *failures,
        };
        Self {
            panels: [
                panel(("logins", "Logins"), ZEROES[0], &logins, per),
                panel(("failures", "Failures"), ZEROES[1], &failures, per),
            ],
            per: words,
            summary,
            ticks: ticks(slots, per),
            rows: slots.iter().map(row).collect(),
        }
    }
}

fn panel((class, name): (&'static str, &'static str), zero: i32, values: &[(i64, u64)], per: i64) -> Panel {
    let most = values.iter().map(|(_, many)| *many).max().unwrap_or(0);
    let step = step(most);
    // Always to a whole step above the highest bar, so that it is read between two numbers.
    let top = most.div_ceil(step).max(1).saturating_mul(step);
    let y = |value: u64| (value as f64 / top as f64 * f64::from(PANEL)).round() as i32;
    let level = |value| Level { y: zero - y(value), value };
    let levels = (0..=top / step).map(|nth| level(nth * step)).collect();
    let slot = f64::from(AXIS.1 - AXIS.0) / values.len().max(1) as f64;
    // Few bars are no walls.
    let width = (slot * 0.8).min(40.0);
    let bars = values.iter().enumerate().filter(|(_, (_, many))| *many > 0).map(|(nth, (at, many))| Bar {
        title: format!("{}, {}: {many}", moment(Timestamp::from_secs(*at)), words_of(per)),
        x: rounded(f64::from(AXIS.0) + slot * nth as f64 + (slot - width) / 2.0),
        width: rounded(width),
        // What there is, is seen.
        height: y(*many).max(1),
    });
    Panel { class, name, zero, levels, bars: bars.collect() }
}

/// The distance of two numbers at the side: 1, 2 or 5 times a power of ten, with four of them at the most.
fn step(most: u64) -> u64 {
    let mut ten: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = ten.saturating_mul(factor);
            if most <= step.saturating_mul(4) {
                return step;
            }
        }
        ten = ten.saturating_mul(10);
    }
}

impl Level {
    /// A round number in little room.
    fn label(&self) -> String {
        let (mut value, mut units) = (self.value, ["", "k", "M", "G", "T", "P"].into_iter());
        let mut unit = units.next().unwrap_or_default();
        while value >= 1000 && value.is_multiple_of(1000) {
            let Some(next) = units.next() else { break };
            (value, unit) = (value / 1000, next);
        }
        format!("{value}{unit}")
    }
}

/// Moments below, at round hours, or at midnights.
fn ticks(slots: &[(i64, u64, u64)], per: i64) -> Vec<Tick> {
    let (Some((from, ..)), Some((last, ..))) = (slots.first(), slots.last()) else { return Vec::new() };
    let (from, to) = (*from, last.saturating_add(per));
    let steps = [300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY];
    let fits = |step: &i64| (to - from) / step < MOST_TICKS;
    let step = steps.into_iter().find(fits).unwrap_or((to - from) / MOST_TICKS + 1);
    let first = from.div_euclid(step) + i64::from(from.rem_euclid(step) != 0);
    let places = (first..).map(|nth| nth * step).take_while(|at| *at <= to);
    let tick = |at: i64| {
        let part = (at - from) as f64 / (to - from) as f64;
        let text = moment(Timestamp::from_secs(at));
        // A day where one begins, and the hour elsewhere.
        let label = if at.rem_euclid(DAY) == 0 { text.get(5..10) } else { text.get(11..16) };
        Tick {
            x: AXIS.0 + (part * f64::from(AXIS.1 - AXIS.0)).round() as i32,
            label: label.unwrap_or_default().to_owned(),
        }
    };
    places.map(tick).collect()
}

fn counted(many: u64, what: &str) -> String {
    if many == 1 { format!("1 {what}") } else { format!("{many} {what}s") }
}

fn words_of(per: i64) -> String {
    match per {
        DAY => "per day".to_owned(),
        3600 => "per hour".to_owned(),
        60 => "per minute".to_owned(),
        secs if secs % 3600 == 0 => format!("per {} hours", secs / 3600),
        secs => format!("per {} minutes", secs / 60),
    }
}

/// To tenths of a pixel.
fn rounded(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}
