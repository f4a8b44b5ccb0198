//! The timeline and the plot.

use super::timeline::ENTRY;
use super::*;

const NOW: i64 = 1_795_000_000;

fn moment() -> impl Strategy<Value = Timestamp> {
    // Seconds to decades, either way.
    (0_u32..30, any::<bool>()).prop_map(|(power, ahead)| {
        let distance = 1_i64 << power;
        Timestamp::from_secs(if ahead { NOW + distance } else { NOW - distance })
    })
}

prop_compose! {
    fn span()(name in hostile(), from in moment(), until in proptest::option::of(moment()),
        state in prop_oneof![Just(SpanState::Pending), Just(SpanState::Active), Just(SpanState::Retired)]) -> Span {
        Span { name, state, from, until }
    }
}

fn lane() -> impl Strategy<Value = Lane> {
    let mark = (moment(), hostile()).prop_map(|(at, words)| Mark { at, words });
    let (spans, marks) = (proptest::collection::vec(span(), 0..4), proptest::collection::vec(mark, 0..4));
    (hostile(), hostile(), spans, marks).prop_map(|(kind, name, spans, marks)| Lane { kind, name, spans, marks })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_timeline_shows_every_span_and_mark_in_a_row_of_its_own(lanes in proptest::collection::vec(lane(), 0..12)) {
        let now = Timestamp::from_secs(NOW);
        let timeline = Timeline::draw(now, &lanes);
        let xml = timeline.to_string();
        check(&xml);
        let document = Document::parse(&xml).unwrap();
        no_two_overlap(&texts(&document.root_element()));
        prop_assert_eq!(timeline.lanes.len(), lanes.len());
        let mut last = 0;
        for (row, lane) in timeline.lanes.iter().zip(&lanes) {
            prop_assert_eq!(row.entries.len(), lane.spans.len() + lane.marks.len());
            for entry in &row.entries {
                prop_assert!(entry.y >= last && entry.from < entry.to);
                last = entry.y + ENTRY;
            }
            for (entry, span) in row.entries.iter().zip(&lane.spans) {
                prop_assert!(entry.title.ends_with(&words::clean(&span.name)));
                prop_assert!(span.from > now || entry.from <= timeline.ticks[0].x, "what has begun begins before now");
            }
        }
        prop_assert!(last <= timeline.height);
        prop_assert_eq!(timeline.ticks.iter().filter(|tick| tick.label == "now").count(), 1);
    }

    #[test]
    fn a_plot_counts_everything_once_from_a_zero_baseline(
        numbers in proptest::collection::vec((0_u64..5_000_000, 0_u64..40), 0..600),
        per in prop_oneof![Just(300_u64), Just(3600), Just(86_400)],
        begin in 0_i64..100_000,
    ) {
        let counts: Vec<Count> = numbers.iter().enumerate().map(|(nth, (logins, failures))| Count {
            at: Timestamp::from_secs(NOW + begin + nth as i64 * 300),
            logins: *logins,
            failures: *failures,
        }).collect();
        let plot = Plot::draw(&counts, Duration::from_secs(per));
        let xml = plot.to_string();
        check(&xml);
        let document = Document::parse(&xml).unwrap();
        no_two_overlap(&texts(&document.root_element()));
        let total: u64 = counts.iter().map(|count| count.logins).sum();
        prop_assert_eq!(plot.rows.iter().map(|row| row.logins).sum::<u64>(), total);
        prop_assert_eq!(
            plot.rows.iter().map(|row| row.failures).sum::<u64>(), counts.iter().map(|count| count.failures).sum::<u64>()
        );
        for (panel, of) in plot.panels.iter().zip([|row: &plot::TableRow| row.logins, |row: &plot::TableRow| row.failures]) {
            let (first, top) = (panel.levels.first().unwrap(), panel.levels.last().unwrap());
            prop_assert_eq!((first.value, first.y), (0, panel.zero));
            prop_assert_eq!(panel.zero - top.y, plot::PANEL);
            prop_assert!(panel.levels.len() <= 6);
            prop_assert_eq!(panel.bars.len(), plot.rows.iter().filter(|row| of(row) > 0).count());
            let heights: Vec<f64> = plot.rows.iter().map(of).filter(|many| *many > 0).map(|many| {
                many as f64 / top.value as f64 * f64::from(plot::PANEL)
            }).collect();
            for (nth, (bar, height)) in panel.bars.iter().zip(heights).enumerate() {
                prop_assert!((f64::from(bar.height) - height).abs() <= 1.0, "a bar is as high as its number");
                let next = panel.bars.get(nth + 1).map_or(f64::from(plot::AXIS.1) + 0.2, |next| next.x);
                prop_assert!(bar.x + bar.width <= next + 0.1, "two bars overlap");
            }
        }
        prop_assert!(plot.rows.len() as i64 <= plot::MOST);
        prop_assert!(plot.ticks.len() <= 10);
    }
}

#[test]
fn the_table_has_the_hours_in_which_nothing_happened() {
    let hour =
        |nth: i64, logins| Count { at: Timestamp::from_secs(NOW / 3600 * 3600 + nth * 3600), logins, failures: 0 };
    let plot = Plot::draw(&[hour(3, 5), hour(0, 7)], Duration::from_secs(3600));
    assert_eq!(plot.rows.iter().map(|row| row.logins).collect::<Vec<_>>(), [7, 0, 0, 5]);
    assert_eq!(plot.per, "per hour");
    assert!(plot.to_string().contains("12 logins and 0 failures from"));
    assert!(Plot::draw(&[hour(0, 1)], Duration::from_secs(3600)).to_string().contains("1 login and 0 failures from"));
}

#[test]
fn nothing_counted_and_nothing_planned_are_pictures_too() {
    let plot = Plot::draw(&[], Duration::from_secs(3600)).to_string();
    check(&plot);
    assert!(plot.contains("Nothing was counted yet.") && !plot.contains("<table>"));
    check(&Timeline::draw(Timestamp::from_secs(NOW), &[]).to_string());
}

#[test]
fn a_timeline_says_what_is_active_and_what_happens_next() {
    let at = |secs| Timestamp::from_secs(NOW + secs);
    let lane = Lane {
        kind: "Signing key".into(),
        name: "RS256".into(),
        spans: vec![Span { name: "kid1".into(), state: SpanState::Active, from: at(-86_400), until: None }],
        marks: vec![Mark { at: at(86_400), words: "A new signing key is published.".into() }],
    };
    let timeline = Timeline::draw(at(0), &[lane]);
    let words: Vec<&str> = timeline.lanes[0].entries.iter().map(|entry| entry.words.as_str()).collect();
    assert_eq!(words, ["active since 2026-11-17 11:06: kid1", "2026-11-19 11:06: A new signing key is published."]);
    let (bar, mark) = (&timeline.lanes[0].entries[0], &timeline.lanes[0].entries[1]);
    let now = timeline.ticks[0].x;
    assert!(bar.from < now && now < mark.from && mark.from < bar.to);
}
