//! The systemd units that are shipped: systemd takes them, and finds them closed enough.

use std::process::{Command, Output};

use crate::{files, root};

/// How exposed each may be, of 10. The agent is root towards the files of its application, and runs its commands.
const MOST_EXPOSED: [(&str, f64); 2] = [("homeward-broker.service", 2.0), ("homeward-agent.service", 3.0)];

/// `systemd-analyze` on a copy of a unit whose program is there.
#[expect(clippy::disallowed_methods, reason = "a program that only looks")]
fn analysed(unit: &std::path::Path, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join(unit.file_name().expect("a name"));
    let text = std::fs::read_to_string(unit).expect("a unit");
    let program = text.lines().find_map(|line| line.strip_prefix("ExecStart=")?.split(' ').next()).expect("a program");
    std::fs::write(&copy, text.replace(program, "/bin/true")).expect("a copy");
    Command::new("systemd-analyze")
        .args(arguments)
        .arg(&copy)
        .output()
        .expect("systemd-analyze, which Debian has in systemd")
}

#[test]
fn systemd_takes_the_units() {
    let units =
        files(&root().join("deploy")).into_iter().filter(|file| file.extension().is_some_and(|it| it == "service"));
    let units: Vec<_> = units.collect();
    assert_eq!(units.len(), 2, "{units:?}");
    for unit in units {
        let looked = analysed(&unit, &["verify", "--recursive-errors=no"]);
        let said = String::from_utf8_lossy(&looked.stderr);
        assert!(looked.status.success() && said.trim().is_empty(), "{}: {said}", unit.display());
    }
}

#[test]
fn the_units_are_closed() {
    for (unit, most) in MOST_EXPOSED {
        let looked = analysed(&root().join("deploy").join(unit), &["security", "--offline=yes", "--no-pager"]);
        let said = String::from_utf8_lossy(&looked.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default();
        println!("{last}");
        let level = last.rsplit_once(": ").and_then(|(_, level)| level.split(' ').next()?.parse::<f64>().ok());
        assert!(level.is_some_and(|level| level < most), "{said}");
    }
}
