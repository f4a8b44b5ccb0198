//! Whoever can write the files, and not the store, changes nothing unseen.

#![expect(clippy::disallowed_methods, reason = "who tampers writes as he likes")]

use proptest::prelude::*;

use super::*;

/// What somebody does to the files. Places are taken by chance, within what there is.
#[derive(Clone, Debug)]
enum Tampering {
    /// Another byte.
    Flip { file: usize, at: usize, to: u8 },
    /// A line is gone.
    Remove { file: usize, line: usize },
    /// A line is there twice.
    Repeat { file: usize, line: usize },
    /// Two lines change places.
    Swap { file: usize, line: usize, other: usize },
    /// The end is gone.
    Truncate { file: usize, at: usize },
    /// A file is gone.
    Delete { file: usize },
    /// A file is another day's.
    Replace { file: usize, by: usize },
    /// A line from elsewhere.
    Insert { file: usize, line: usize },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let any = 0usize..100_000;
    prop_oneof![
        4 => (any.clone(), any.clone(), proptest::num::u8::ANY).prop_map(|(file, at, to)| Tampering::Flip { file, at, to }),
        1 => (any.clone(), any.clone()).prop_map(|(file, line)| Tampering::Remove { file, line }),
        1 => (any.clone(), any.clone()).prop_map(|(file, line)| Tampering::Repeat { file, line }),
        1 => (any.clone(), any.clone(), any.clone())
            .prop_map(|(file, line, other)| Tampering::Swap { file, line, other }),
        2 => (any.clone(), any.clone()).prop_map(|(file, at)| Tampering::Truncate { file, at }),
        1 => any.clone().prop_map(|file| Tampering::Delete { file }),
        1 => (any.clone(), any.clone()).prop_map(|(file, by)| Tampering::Replace { file, by }),
        1 => (any.clone(), any).prop_map(|(file, line)| Tampering::Insert { file, line }),
    ]
}

impl Tampering {
    /// Does it. Says whether that changed anything.
    fn apply(&self, files: &[PathBuf]) -> bool {
        let pick = |file: usize| &files[file % files.len()];
        let (Self::Flip { file, .. }
        | Self::Remove { file, .. }
        | Self::Repeat { file, .. }
        | Self::Swap { file, .. }
        | Self::Truncate { file, .. }
        | Self::Delete { file }
        | Self::Replace { file, .. }
        | Self::Insert { file, .. }) = self;
        let path = pick(*file);
        let before = std::fs::read(path).unwrap();
        let mut lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
        let count = lines.len();
        let after = match self {
            Self::Flip { at, to, .. } => {
                let mut after = before.clone();
                after[at % before.len()] = *to;
                after
            }
            Self::Remove { line, .. } => {
                lines.remove(line % count);
                lines.concat()
            }
            Self::Repeat { line, .. } => {
                lines.insert(line % count, lines[line % count]);
                lines.concat()
            }
            Self::Swap { line, other, .. } => {
                lines.swap(line % count, other % count);
                lines.concat()
            }
            Self::Truncate { at, .. } => before[..at % before.len()].to_vec(),
            Self::Delete { .. } => {
                std::fs::remove_file(path).unwrap();
                return true;
            }
            Self::Replace { by, .. } => std::fs::read(pick(*by)).unwrap(),
            Self::Insert { line, .. } => {
                lines.insert(line % count, b"{\"event\":\"login_decided\"}\n");
                lines.concat()
            }
        };
        std::fs::write(path, &after).unwrap();
        after != before
    }
}

/// Files and their store, made once: each case puts the files back.
struct Sample {
    world: World,
    runtime: tokio::runtime::Runtime,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Sample {
    fn new(expired: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut world = World::new();
        runtime.block_on(async {
            world.fill(5, 12).await;
            if expired {
                world.settings.keep_days = Some(2);
                world.fill(1, 3).await;
            }
        });
        let files = world.files().into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        Self { world, runtime, files }
    }

    fn finds(&self, tampering: &Tampering) -> Result<(), TestCaseError> {
        let paths: Vec<PathBuf> = self.files.iter().map(|(path, _)| path.clone()).collect();
        let changed = tampering.apply(&paths);
        let findings = self.runtime.block_on(self.world.findings());
        self.files.iter().for_each(|(path, text)| std::fs::write(path, text).unwrap());
        prop_assert_eq!(!findings.is_empty(), changed, "{:?}", findings);
        Ok(())
    }
}

fn check(expired: bool) {
    let sample = Sample::new(expired);
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config).run(&tampering(), |tampering| sample.finds(&tampering)).unwrap();
}

#[test]
fn any_change_of_the_files_is_found() {
    check(false);
}

#[test]
fn any_change_is_found_after_old_days_were_deleted() {
    check(true);
}

/// The whole folder is taken away, or another federation's put in its place.
#[tokio::test]
async fn a_folder_that_is_replaced_is_found() {
    let (world, other) = (World::new(), World::new());
    world.fill(2, 4).await;
    other.fill(2, 4).await;
    std::fs::remove_dir_all(&world.settings.dir).unwrap();
    std::fs::rename(&other.settings.dir, &world.settings.dir).unwrap();
    let findings = world.findings().await.join("\n");
    assert!(findings.contains("is missing, with 8 records"), "{findings}");
    assert!(findings.contains("is not known to the store"), "{findings}");
}

/// Before a broker starts again: what was taken away is found when it goes on, and stays found.
#[tokio::test]
async fn a_broker_goes_on_behind_what_was_taken_away_and_does_not_hide_it() {
    let world = World::new();
    world.fill(1, 10).await;
    let file = world.files().remove(0);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().take(7).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert!(world.findings().await[0].contains("ends with record 7, but records up to 10 were written"));
    world.fill(1, 5).await;
    let findings = world.findings().await;
    assert!(findings[0].contains("is record 11 where record 8 has to be"), "{findings:?}");
    assert!(world.lines()[7].contains("\"event\":\"records_missing\""));
}

/// What does not follow is no record, and is thrown away by nobody.
#[tokio::test]
async fn what_somebody_wrote_behind_the_end_is_kept_beside_the_file() {
    let mut world = World::new();
    world.fill(1, 4).await;
    let file = world.files().remove(0);
    let text = std::fs::read_to_string(&file).unwrap();
    let foreign = "{\"event\":\"login_decided\"}\n{\"event\":\"login_be";
    for round in 1..=2 {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + foreign).unwrap();
        world.fill(1, 1).await;
        let aside = file.with_file_name(format!("{}.aside-{round}", file.file_stem().unwrap().to_string_lossy()));
        assert_eq!(std::fs::read_to_string(aside).unwrap(), foreign);
    }
    assert!(std::fs::read_to_string(&file).unwrap().starts_with(&text));
    assert_eq!(world.findings().await, [""; 0]);
    // A write that was cut short is no more than that.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "{\"seq\":").unwrap();
    world.fill(1, 1).await;
    let beside = || std::fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(beside(), 3);
    world.settings.keep_days = Some(1);
    for _ in 0..3 {
        world.time.advance(DAY);
        world.fill(1, 1).await;
    }
    assert!(!file.exists());
    assert_eq!(beside(), 2, "what was put aside goes with its day");
}
