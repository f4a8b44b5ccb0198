//! What the audit promises: nothing that is changed goes unseen, nothing that is well raises an alarm, nothing is lost.

mod counted;
mod killed;
mod searched;
mod tampered;
mod written;

use std::path::Path;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::storage::sled::SledStore;

/// A day that begins.
const START: Timestamp = Timestamp::from_secs(1_800_057_600);

const DAY: Duration = Duration::from_secs(86_400);

/// What a test hears of what was noted.
pub(crate) struct Heard(pub(in crate::audit) mpsc::UnboundedReceiver<Order>);

impl Heard {
    /// All that was noted so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let orders = std::iter::from_fn(|| self.0.try_recv().ok());
        orders.filter_map(|order| if let Order::Note(noted) = order { Some(noted.event) } else { None }).collect()
    }
}

/// A broker's files and its store.
struct World {
    store: Arc<dyn Store>,
    settings: AuditSettings,
    clock: Clock,
    time: ManualClock,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, time) = Clock::manual(START);
        let store = Arc::new(SledStore::open(&folder.path().join("store")).unwrap());
        let settings = AuditSettings { dir: folder.path().join("audit"), keep_days: None, syslog: None };
        Self { store, settings, clock, time, _folder: folder }
    }

    async fn open(&self) -> Audit {
        Audit::open(&self.store, &self.settings, "host", self.clock.clone()).await.unwrap()
    }

    /// Some records on each of so many days.
    async fn fill(&self, days: usize, records: usize) {
        for day in 0..days {
            let audit = self.open().await;
            (0..records).for_each(|number| audit.note(event(number)));
            audit.close().await;
            if day + 1 < days {
                self.time.advance(DAY);
            }
        }
    }

    async fn verify(&self) -> Vec<Verdict> {
        keeper(&self.settings.dir).verify(&self.store).await.unwrap()
    }

    /// What is wrong, in sentences.
    async fn findings(&self) -> Vec<String> {
        let reports = self.verify().await.into_iter().filter_map(|verdict| verdict.report);
        reports.flat_map(|report| report.findings).map(|finding| finding.to_string()).collect()
    }

    /// The files, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let folder = Folder::new(&self.settings.dir);
        let files = folder.chains().unwrap().into_iter().flat_map(|chain| {
            let days = folder.days(chain).unwrap();
            days.into_iter().map(|day| folder.file(chain, &day)).collect::<Vec<_>>()
        });
        files.collect()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        read(
            &Folder::new(&self.settings.dir),
            &Filter::default(),
            || true,
            |line| {
                lines.push(String::from_utf8(line).unwrap());
                true
            },
        )
        .unwrap();
        lines
    }
}

fn keeper(folder: &Path) -> Keeper {
    Keeper { folder: Folder::new(folder), host: "host".to_owned(), alone: true }
}

fn event(number: usize) -> Event {
    Event::new(Kind::TokensIssued).client(&"beta-00000000".parse_client()).object(number)
}

/// A client's id for tests.
trait ParseClient {
    fn parse_client(&self) -> crate::registry::ClientId;
}

impl ParseClient for str {
    fn parse_client(&self) -> crate::registry::ClientId {
        serde_json::from_value(self.into()).unwrap()
    }
}
