//! What is written, where, and what is not.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::audit::chain::Digest;

#[tokio::test]
async fn records_are_chained_as_the_documents_say() {
    let world = World::new();
    let audit = world.open().await;
    let origin = Origin::Agent("alpha".parse().unwrap(), "2001:db8:1:2:3::4".parse().unwrap());
    origin.of(async { audit.note(event(1)) }).await;
    audit.note(event(2).refused("invalid_grant"));
    audit.close().await;
    let lines = world.lines();
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        first,
        serde_json::json!({
            "seq": 1, "prev": "0".repeat(64), "chain": first["chain"], "time": "2027-01-16T00:00:00Z", "broker": "host",
            "actor": "agent:alpha", "source": "2001:db8:1:2::", "event": "tokens_issued", "outcome": "done",
            "client": "beta-00000000", "object": "1",
        })
    );
    let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    // `sed -n 1p FILE | tr -d '\n' | sha256sum`
    assert_eq!(second["prev"], Digest::of(lines[0].as_bytes()).to_string());
    assert_eq!((&second["actor"], &second["reason"]), (&"broker".into(), &"invalid_grant".into()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = &world.files()[0];
    assert!(file.ends_with("2027-01-16.jsonl"), "{}", file.display());
    assert_eq!((mode(file), mode(file.parent().unwrap()), mode(&world.settings.dir)), (0o600, 0o700, 0o700));
}

#[tokio::test]
async fn what_is_well_raises_no_alarm() {
    let world = World::new();
    world.fill(3, 5).await;
    let verdicts = world.verify().await;
    let report = verdicts[0].report.clone().unwrap();
    assert_eq!((verdicts.len(), report.records, report.unanchored), (1, 15, 0));
    assert_eq!(report.findings, []);
    // Not while it is being written, either, nor when the clock is set back.
    let audit = world.open().await;
    let (clock, time) = Clock::manual(START);
    time.advance(DAY);
    drop(clock);
    (0..500).for_each(|number| audit.note(event(number)));
    assert_eq!(world.findings().await, [""; 0]);
    audit.close().await;
    assert_eq!(world.findings().await, [""; 0]);
    assert_eq!(world.lines().len(), 515);
}

#[tokio::test]
async fn a_folder_has_one_writer() {
    let world = World::new();
    let audit = world.open().await;
    let second = Audit::open(&world.store, &world.settings, "host", world.clock.clone()).await;
    assert!(matches!(second, Err(AuditError::InUse(_))));
    audit.close().await;
    world.open().await.close().await;
}

#[tokio::test]
async fn days_that_were_kept_for_long_enough_are_gone_and_are_not_missed() {
    let mut world = World::new();
    world.fill(6, 3).await;
    world.settings.keep_days = Some(2);
    world.fill(1, 3).await;
    let days: Vec<_> = world.files().iter().map(|file| file.file_stem().unwrap().to_owned()).collect();
    assert_eq!(days, ["2027-01-19", "2027-01-20", "2027-01-21"]);
    assert_eq!(world.findings().await, [""; 0]);
    assert!(world.lines().last().unwrap().contains("\"event\":\"records_expired\""));
    // Nor can one more be taken away unseen.
    std::fs::remove_file(&world.files()[0]).unwrap();
    assert!(!world.findings().await.is_empty());
}

#[tokio::test]
async fn a_chain_of_which_everything_is_old_is_forgotten() {
    let mut world = World::new();
    world.fill(2, 3).await;
    std::fs::remove_dir_all(&world.settings.dir).unwrap();
    assert!(world.findings().await[0].contains("is missing, with 6 records"));
    world.fill(1, 3).await;
    assert_eq!(world.findings().await.len(), 1);
    world.settings.keep_days = Some(2);
    // A broker that is only quiet keeps its chain.
    world.time.advance(DAY * 3);
    world.fill(1, 3).await;
    assert_eq!(world.findings().await.len(), 1);
    world.time.advance(DAY * 31);
    world.fill(1, 3).await;
    // Nor is one forgotten because a clock has leapt: that is believed a day later.
    assert_eq!(world.findings().await.len(), 1);
    world.time.advance(DAY);
    world.fill(1, 3).await;
    assert_eq!(world.findings().await, [""; 0]);
}

#[tokio::test]
async fn a_machine_that_boots_in_a_wrong_year_deletes_nothing_on_that_day() {
    let mut world = World::new();
    world.fill(2, 3).await;
    world.settings.keep_days = Some(30);
    world.time.advance(DAY * 365 * 12);
    world.fill(1, 3).await;
    assert_eq!(world.files().len(), 3);
    world.fill(1, 3).await;
    assert_eq!(world.files().len(), 3, "nor when it is started again on that day");
    world.time.advance(DAY);
    world.fill(1, 3).await;
    assert_eq!(world.files().len(), 2);
}

#[tokio::test]
async fn records_are_found_by_what_they_are_about() {
    let world = World::new();
    let audit = world.open().await;
    audit.note(Event::new(Kind::InstanceReleased).instance(&"alpha".parse().unwrap()));
    world.time.advance(DAY);
    audit.note(Event::new(Kind::TrustAllowed).home(&"alpha".parse().unwrap()));
    audit.note(Event::new(Kind::TrustAllowed).home(&"gamma".parse().unwrap()));
    audit.close().await;
    let count = |filter: &Filter| {
        let mut count = 0;
        read(
            &Folder::new(&world.settings.dir),
            filter,
            || true,
            |_| {
                count += 1;
                true
            },
        )
        .unwrap();
        count
    };
    assert_eq!(count(&Filter::default()), 3);
    assert_eq!(count(&Filter { instance: Some("alpha".to_owned()), ..Filter::default() }), 2);
    assert_eq!(count(&Filter { kind: Some("trust_allowed".to_owned()), ..Filter::default() }), 2);
    assert_eq!(count(&Filter { since: Some(START + DAY), ..Filter::default() }), 2);
    assert_eq!(count(&Filter { until: Some(START + DAY), ..Filter::default() }), 1);
    assert_eq!(count(&Filter { newest: Some(1), ..Filter::default() }), 1);
}

/// Strangers can have any number of logins begun.
#[tokio::test]
async fn what_strangers_do_is_counted_where_it_is_too_much() {
    let (audit, mut heard) = Audit::heard();
    let flood = async {
        for _ in 0..5000 {
            audit.note(Event::new(Kind::LoginBegun));
        }
        audit.note(Event::new(Kind::LoginDecided));
    };
    Origin::Web("192.0.2.1".parse().unwrap()).of(flood).await;
    let events = heard.events();
    let left_out = events.iter().filter(|event| event.kind == Kind::RecordsLeftOut);
    let left_out: usize = left_out.map(|event| event.detail.as_ref().unwrap().parse::<usize>().unwrap()).sum();
    let begun = events.iter().filter(|event| event.kind == Kind::LoginBegun).count();
    assert_eq!(begun + left_out, 5000);
    assert!((1000..2000).contains(&begun), "{begun}");
    assert!(events.iter().any(|event| event.kind == Kind::LoginDecided));
}

/// The disk fails: /readyz says so, nothing is lost, and whoever begins something waits.
#[tokio::test]
async fn a_disk_that_fails_makes_callers_wait_and_loses_nothing() {
    let world = World::new();
    let audit = world.open().await;
    let chain = Folder::new(&world.settings.dir).chains().unwrap()[0].to_string();
    // The file of the next day cannot be made.
    world.time.advance(DAY);
    let obstacle = world.settings.dir.join(chain).join("2027-01-17.jsonl");
    std::fs::create_dir(&obstacle).unwrap();
    (0..WAITING + 10).for_each(|number| audit.note(event(number)));
    tokio::time::timeout(Duration::from_secs(10), async {
        while audit.problem().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), audit.admit()).await.is_err());
    std::fs::remove_dir(&obstacle).unwrap();
    tokio::time::timeout(Duration::from_secs(10), audit.admit()).await.unwrap();
    audit.close().await;
    assert_eq!((audit.problem(), world.lines().len()), (None, WAITING + 10));
    assert_eq!(world.findings().await, [""; 0]);
}

/// Programs rest on the names, and people on the page.
#[test]
fn every_kind_is_on_the_page() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit.md")).unwrap();
    let missing = Kind::ALL.iter().filter(|kind| !page.contains(&format!("| `{kind}` |")));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&Kind>::new());
    let mut names: Vec<_> = Kind::ALL.iter().map(ToString::to_string).collect();
    names.dedup();
    assert_eq!(names.len(), Kind::ALL.len());
}

/// Of one machine, without a test's other work: how much a record costs. Printed, and never judged.
#[tokio::test]
async fn what_a_record_costs() {
    let world = World::new();
    let audit = world.open().await;
    let (began, cpu) = (tokio::time::Instant::now(), cpu());
    const RECORDS: u32 = 50_000;
    for number in 0..RECORDS {
        audit.admit().await;
        audit.note(event(number as usize));
    }
    audit.close().await;
    let (took, spent) = (began.elapsed(), self::cpu() - cpu);
    println!("{:.0} records/s, {:?} of CPU each", f64::from(RECORDS) / took.as_secs_f64(), spent / RECORDS);
    assert_eq!(world.lines().len(), RECORDS as usize);
}

/// What this process has used.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
