//! A broker that is killed at any moment: what the store knows is there, and nothing raises an alarm.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Where the process that is killed writes.
const FOLDER: &str = "HOMEWARD_TEST_AUDIT_FOLDER";

/// How often.
const KILLS: u64 = 25;

/// Is no test: the process that writes until it is killed, if the other one started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&folder.join("store")).unwrap());
    let settings = AuditSettings { dir: folder.join("audit"), keep_days: None, syslog: None };
    let audit = Audit::open(&store, &settings, "host", Clock::system()).await.unwrap();
    for number in 0.. {
        audit.admit().await;
        audit.note(event(number));
        if number % 100 == 99 && audit.settled().await {
            println!("settled {}", number + 1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this very program, to be killed by this test")]
fn child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "audit::tests::killed::writes_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_no_settled_record_and_raises_no_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let mut settled = 0;
    for round in 0..KILLS {
        let mut child = child(folder.path());
        let words = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            let said =
                words.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("settled ")?.parse().ok());
            said.last().unwrap_or(0u64)
        });
        tokio::time::sleep(Duration::from_millis(150 + round * 13 % 170)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        settled += reading.join().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&folder.path().join("store")).unwrap());
        let verdicts = keeper(&folder.path().join("audit")).verify(&store).await.unwrap();
        for verdict in verdicts {
            let report = verdict.report.unwrap();
            assert_eq!(report.findings, [], "after {round} kills");
            assert!(report.records >= settled, "{} records, {settled} settled", report.records);
        }
    }
    assert!(settled > 0);
}
