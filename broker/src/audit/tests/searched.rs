//! A search from the newest back goes on where it was left, costs no more than it may, and stops when nobody listens.

#![expect(clippy::disallowed_methods, reason = "files as no broker would write them")]

use std::cell::Cell;

use tokio::time::Instant;

use super::*;

/// Enough for everything.
fn boundless() -> Effort {
    Effort { bytes: u64::MAX, until: Instant::now() + DAY }
}

fn objects(found: &Found) -> Vec<u64> {
    let record = |line: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(line).unwrap();
    found.lines.iter().map(|line| record(line)["object"].as_str().unwrap().parse().unwrap()).collect()
}

/// All pages of a search, and how many lines each has.
fn pages(folder: &Folder, filter: &Filter, most: usize, effort: impl Fn() -> Effort) -> (Vec<u64>, Vec<usize>) {
    let (mut all, mut sizes, mut before) = (Vec::new(), Vec::new(), None::<Position>);
    loop {
        let found = search(folder, filter, (before.as_ref(), most), Some(effort()), || true).unwrap();
        all.extend(objects(&found));
        sizes.push(found.lines.len());
        let Some(next) = found.next else { return (all, sizes) };
        assert_ne!(Some(&next), before.as_ref(), "it would lead to itself");
        // As it travels.
        before = Some(next.to_string().parse().unwrap());
    }
}

#[tokio::test]
async fn of_any_number_of_records_of_one_second_each_is_on_one_page() {
    let world = World::new();
    let audit = world.open().await;
    (0..250).for_each(|number| audit.note(event(number)));
    audit.close().await;
    world.time.advance(DAY);
    let audit = world.open().await;
    (250..260).for_each(|number| audit.note(event(number)));
    audit.close().await;
    let folder = Folder::new(&world.settings.dir);
    let newest_first: Vec<u64> = (0..260).rev().collect();
    for most in [1, 7, 100, 260, 1000] {
        let (all, sizes) = pages(&folder, &Filter::default(), most, boundless);
        assert_eq!(all, newest_first, "{most}");
        assert!(sizes.iter().all(|size| *size > 0), "{most}: {sizes:?}");
    }
}

#[tokio::test]
async fn what_is_noted_meanwhile_moves_no_page() {
    let world = World::new();
    let audit = world.open().await;
    (0..20).for_each(|number| audit.note(event(number)));
    audit.settled().await;
    let folder = Folder::new(&world.settings.dir);
    let first = search(&folder, &Filter::default(), (None, 5), Some(boundless()), || true).unwrap();
    (20..40).for_each(|number| audit.note(event(number)));
    audit.close().await;
    let then = search(&folder, &Filter::default(), (first.next.as_ref(), 5), Some(boundless()), || true).unwrap();
    assert_eq!((objects(&first), objects(&then)), (vec![19, 18, 17, 16, 15], vec![14, 13, 12, 11, 10]));
    assert_eq!(then.back_to, START.to_string());
}

#[tokio::test]
async fn what_is_rare_is_searched_for_by_so_much_at_once() {
    let world = World::new();
    world.fill(3, 100).await;
    let audit = world.open().await;
    audit.note(Event::new(Kind::TrustDenied).object(7));
    (0..100).for_each(|number| audit.note(event(number)));
    audit.close().await;
    let folder = Folder::new(&world.settings.dir);
    let line = world.lines()[0].len() as u64;
    let effort = || Effort { bytes: 50 * line, ..boundless() };
    let filter = Filter { kind: Some("trust_denied".into()), ..Filter::default() };
    let found = search(&folder, &filter, (None, 100), Some(effort()), || true).unwrap();
    assert!(found.lines.is_empty() && found.next.is_some());
    assert_eq!(found.back_to, (START + DAY * 2).to_string());
    let (all, sizes) = pages(&folder, &filter, 100, effort);
    assert_eq!(all, [7]);
    assert!((7..=10).contains(&sizes.len()), "{sizes:?}");
    // No time at all is one record: it comes to its end, too.
    let hurried = Effort { until: Instant::now(), ..boundless() };
    let (all, sizes) = pages(&folder, &filter, 100, || hurried);
    assert_eq!((all.as_slice(), sizes.len()), (&[7][..], 401));
}

#[tokio::test]
async fn nobody_reads_on_when_nobody_listens() {
    let world = World::new();
    world.fill(3, 100).await;
    let folder = Folder::new(&world.settings.dir);
    let filter = Filter { kind: Some("trust_denied".into()), ..Filter::default() };
    let asked = Cell::new(0);
    let listening = || {
        asked.set(asked.get() + 1);
        asked.get() < 10
    };
    let found = search(&folder, &filter, (None, 100), Some(boundless()), listening).unwrap();
    assert!(found.lines.is_empty() && found.next.is_some());
    assert_eq!(asked.replace(0), 10);
    read(&folder, &filter, listening, |_| true).unwrap();
    // Once more for each day that follows.
    assert!(asked.get() <= 12, "{asked:?}");
}

#[tokio::test]
async fn two_chains_of_one_day_are_read_in_the_order_of_time() {
    let world = World::new();
    let folder = Folder::new(&world.settings.dir);
    let day = Day::of(START);
    for (chain, seconds) in [("1", [0, 10, 20]), ("2", [5, 10, 15])] {
        let chain = format!("{chain}0000000-0000-4000-8000-000000000000").parse().unwrap();
        drop(folder.open(chain, &day).unwrap());
        let line = |second: &u64| {
            let time = (START + Duration::from_secs(*second)).to_string();
            format!("{{\"time\":\"{time}\",\"event\":\"x\",\"object\":\"{second}\"}}\n")
        };
        // The last one is half written.
        let text = seconds.iter().map(line).collect::<String>() + "{\"time\":\"2099";
        std::fs::write(folder.file(chain, &day), text).unwrap();
    }
    for most in 1..=6 {
        let (all, _) = pages(&folder, &Filter::default(), most, boundless);
        assert_eq!(all, [20, 15, 10, 10, 5, 0], "{most}");
    }
}

#[tokio::test]
async fn what_is_no_record_is_held_together_and_no_longer_than_one() {
    let world = World::new();
    let folder = Folder::new(&world.settings.dir);
    let (chain, day) = (ChainId::generate(), Day::of(START));
    drop(folder.open(chain, &day).unwrap());
    let text = ["a\n", &"b".repeat(700_000), "\n\nc\n"].concat();
    std::fs::write(folder.file(chain, &day), text).unwrap();
    let found = search(&folder, &Filter::default(), (None, 9), None, || true).unwrap();
    let lines: Vec<_> = found.lines.iter().map(|line| (line.first().copied(), line.len() < 300_000)).collect();
    assert_eq!(lines, [(Some(b'c'), true), (None, true), (Some(b'b'), true), (Some(b'a'), true)]);
    // A place within a line is none that an answer names: what it tears is left out.
    let torn = format!("{day}.{chain}:1000").parse().unwrap();
    let found = search(&folder, &Filter::default(), (Some(&torn), 9), None, || true).unwrap();
    assert_eq!(found.lines, [b"a"]);
}

#[test]
fn only_what_an_answer_named_is_a_position() {
    let chain = ChainId::generate();
    for text in ["2026-11-22".to_owned(), format!("2026-11-22.{chain}:0"), format!("2026-11-22.{chain}:99")] {
        assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
    }
    for text in ["", "today", "../../etc", "2026-11-22.", "2026-11-22.x:1", &format!("2026-11-22.{chain}:-1")] {
        assert_eq!(text.parse::<Position>(), Err(PositionError), "{text}");
    }
}
