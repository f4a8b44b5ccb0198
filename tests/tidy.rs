//! The shape of the code: what DESIGN.md says about rings and names, held where neither rustc nor clippy look.
//!
//! Every rule is one test whose name is the rule; a failure names file and line and says what to do. The reader in
//! `tidy/source.rs` sees tokens, not types: it has tests of its own at the foot of this file, so that a rule cannot pass
//! by seeing nothing.

#![expect(clippy::expect_used, reason = "a rule that cannot read the repository has failed")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use source::{Source, module_of};

#[path = "tidy/blocks.rs"]
mod blocks;
#[path = "tidy/book.rs"]
mod book;
#[path = "tidy/conformance.rs"]
mod conformance;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/reference.rs"]
mod made;
#[path = "reference/pages/mod.rs"]
mod pages;
#[path = "tidy/security.rs"]
mod security;
#[path = "tidy/sentences.rs"]
mod sentences;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/units.rs"]
mod units;

/// The rings of the broker, outermost first. Arrows point down this list only.
const RINGS: [&[&str]; 7] = [
    &["main"],
    &["lib", "cli"],
    &["run"],
    &["oidc", "web", "grpc", "metrics"],
    &["enrolment", "login", "grants", "sessions", "fleet", "rotation", "restore", "upstream", "console"],
    &["brokers", "registry", "keys", "authority", "audit", "foundations", "outbound", "reload", "tls"],
    &["storage", "clock", "secret", "rate_limit", "open_files", "telemetry", "config"],
];

/// The ring whose members do not call each other either: what two flows need lives further in.
const FLOWS: usize = 4;

/// Crates that stay in a few modules of the broker, so that the rest can be tested without them.
const CONFINED: [(&str, &[&str]); 7] = [
    ("axum", &["oidc", "web", "metrics", "run"]),
    ("tonic", &["grpc", "cli", "run"]),
    ("tonic_types", &["grpc", "cli"]),
    ("tonic_health", &["grpc", "cli"]),
    ("homeward_proto", &["grpc", "cli"]),
    ("sled", &["storage::sled"]),
    ("etcd_client", &["storage::etcd"]),
];

/// Names under which things without a home of their own collect.
const ROOMS_WITHOUT_PURPOSE: [&str; 13] = [
    "util", "utils", "helper", "helpers", "common", "misc", "types", "manager", "handler", "service", "data", "info",
    "base",
];

#[test]
fn imports_of_the_broker_point_inwards() {
    let wrong: Vec<String> = shipped(&["broker/src"]).iter().flat_map(ring_violations).collect();
    assert_tidy(&wrong);
}

#[test]
fn only_the_wiring_sees_the_whole_configuration() {
    let outside = |source: &Source| !["main", "cli", "run", "config"].contains(&room(&source.path).as_str());
    let sources: Vec<Source> = shipped(&["broker/src"]).into_iter().filter(outside).collect();
    let wrong = sources.iter().flat_map(|source| {
        let whole = source.paths().into_iter().filter(|named| named.segments == ["crate", "config", "Config"]);
        whole.map(|named| {
            format!("{}: takes the whole Config: hand over its own section", place(&source.path, named.line))
        })
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

#[test]
fn each_library_stays_in_its_modules() {
    let wrong: Vec<String> = shipped(&["broker/src"]).iter().flat_map(confinement_violations).collect();
    assert_tidy(&wrong);
}

/// What is left out would be lost with the data key that sealed it.
#[test]
fn everything_stored_sealed_is_sealed_again_when_the_key_turns() {
    let own_room = |source: &Source| room(&source.path) == "secret";
    let texts: Vec<(PathBuf, String)> = shipped(&["broker/src"])
        .into_iter()
        .filter(|source| !own_room(source))
        .map(|source| (source.path.clone(), std::fs::read_to_string(root().join(&source.path)).expect("a source file")))
        .collect();
    let fields = texts.iter().filter(|(_, text)| text.contains(": Sealed,") || text.contains("(Sealed);"));
    let wrong = fields.filter(|(_, text)| !text.contains("HoldsSealed for"));
    let advice =
        "a record holds something sealed: implement HoldsSealed for it, and name its table in SEALED (run/tables.rs)";
    assert_tidy(&wrong.map(|(path, _)| format!("{}:1: {advice}", path.display())).collect::<Vec<_>>());
    let count = |what: &str| texts.iter().map(|(_, text)| text.matches(what).count()).sum::<usize>();
    assert_eq!(count("HoldsSealed for "), count("SealedTable::of::<"), "a table is not in SEALED (run/tables.rs)");
}

#[test]
fn the_agent_never_sees_the_broker() {
    assert_tidy(&forbidden_dependencies("agent/Cargo.toml", &["homeward-broker", "sled", "etcd-client"]));
}

#[test]
fn certificates_are_made_without_storage_runtime_or_network() {
    let impure = ["sled", "etcd-client", "tokio", "tokio-rustls", "tonic", "axum", "hyper", "reqwest"];
    assert_tidy(&forbidden_dependencies("certs/Cargo.toml", &impure));
}

#[test]
fn errors_have_variants_behind_the_command_line() {
    let sources = shipped(&["broker/src", "agent/src", "certs/src", "proto/telemetry/src"]);
    let wrong = sources.iter().flat_map(|source| {
        let allowed = ["main", "lib", "cli"].contains(&room(&source.path).as_str());
        let named = source.paths().into_iter().filter(move |named| !allowed && named.segments[0] == "anyhow");
        named.map(|named| {
            let place = place(&source.path, named.line);
            format!("{place}: anyhow behind the command line: name the rule that was broken in the flow's error enum")
        })
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

/// A new way to fail must not compile until somebody has decided what strangers are told.
#[test]
fn errors_are_mapped_without_wildcards() {
    let maps = ["broker/src/grpc/status.rs", "broker/src/oidc/error.rs"];
    let open = maps.iter().filter(|map| {
        let text = std::fs::read_to_string(root().join(map)).expect("the two maps of errors");
        !text.contains("#![deny(clippy::wildcard_enum_match_arm)]")
    });
    let advice =
        "begin with #![deny(clippy::wildcard_enum_match_arm)]: a new error has to be decided on, not fall through";
    assert_tidy(&open.map(|map| format!("{map}:1: {advice}")).collect::<Vec<_>>());
}

#[test]
fn modules_and_types_are_named_for_what_they_are() {
    let sources = sources(&["broker/src", "agent/src", "certs/src", "proto", "tests"]);
    assert_tidy(&sources.iter().flat_map(name_violations).collect::<Vec<_>>());
}

#[test]
fn each_todo_names_its_issue() {
    let folders = [".ci", "agent", "broker", "certs", "deploy", "proto", "tests"];
    let text_files = ["css", "html", "proto", "py", "rs", "sh", "toml", "md", ""];
    let wrong = folders.iter().flat_map(|folder| files(&root().join(folder))).filter_map(|file| {
        let extension = file.extension().map_or(String::new(), |extension| extension.to_string_lossy().into_owned());
        let text = text_files.contains(&extension.as_str()).then(|| std::fs::read_to_string(&file).ok()).flatten()?;
        Some(todo_violations(relative(&file), &text))
    });
    assert_tidy(&wrong.flatten().collect::<Vec<_>>());
}

#[test]
fn reference_configurations_are_accepted_by_their_programs() {
    homeward_broker::config::Config::load(&root().join("deploy/broker.toml")).expect("deploy/broker.toml");
    homeward_agent::config::Config::load(&root().join("deploy/agent.toml")).expect("deploy/agent.toml");
}

/// Prints, and never fails: a room that grows is to be seen before it is too small.
#[test]
fn longest_files_and_functions() {
    let sources = sources(&["broker/src", "agent/src", "certs/src", "proto/telemetry/src", "tests"]);
    let mut report = String::from("The longest files (400 lines are many) and functions (40 lines are many):\n");
    let mut lengths: Vec<(usize, String)> = sources
        .iter()
        .map(|source| {
            let text = std::fs::read_to_string(root().join(&source.path)).unwrap_or_default();
            (text.lines().count(), source.path.display().to_string())
        })
        .collect();
    write_longest(&mut report, &mut lengths);
    let mut functions: Vec<(usize, String)> = sources
        .iter()
        .flat_map(|source| {
            let of_file = source.functions().into_iter();
            of_file
                .map(|function| (function.lines, format!("{} {}", place(&source.path, function.line), function.name)))
        })
        .collect();
    write_longest(&mut report, &mut functions);
    println!("{report}");
}

fn write_longest(report: &mut String, entries: &mut [(usize, String)]) {
    entries.sort_by(|left, right| right.cmp(left));
    for (lines, name) in entries.iter().take(10) {
        let _ = writeln!(report, "{lines:6}  {name}");
    }
    report.push('\n');
}

fn ring_violations(source: &Source) -> Vec<String> {
    let own = room(&source.path);
    let Some(own_ring) = ring(&own) else {
        return vec![format!(
            "{}: `{own}` is in no ring: DESIGN.md §3 and RINGS say which it is",
            source.path.display()
        )];
    };
    let violation = |named: source::Named| {
        let other =
            named.segments.get(1).filter(|_| matches!(named.segments[0].as_str(), "crate" | "homeward_broker"))?;
        let other_ring = ring(other)?;
        let outward = other_ring < own_ring;
        let sideways = other_ring == FLOWS && own_ring == FLOWS && *other != own;
        let advice = match (outward, sideways) {
            (true, _) => "points outwards: pass what it needs as a parameter",
            (_, true) => "one flow calls another: move what both need into registry, keys, authority or audit",
            _ => return None,
        };
        Some(format!("{}: {own} -> {other} {advice}", place(&source.path, named.line)))
    };
    source.paths().into_iter().filter_map(violation).collect()
}

fn ring(room: &str) -> Option<usize> {
    RINGS.iter().position(|members| members.contains(&room))
}

/// The top-level module of the broker that a file belongs to.
fn room(path: &Path) -> String {
    let file = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    module_of(path).first().cloned().unwrap_or(file)
}

fn confinement_violations(source: &Source) -> Vec<String> {
    let module = module_of(&source.path).join("::");
    let within =
        |allowed: &str| module == allowed || module.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"));
    let allowed = |rooms: &[&str]| rooms.iter().any(|allowed| *allowed == room(&source.path) || within(allowed));
    // `mod sled;` makes `sled::…` in that file the module, not the crate.
    let own_modules: Vec<String> =
        source.items().into_iter().filter(|item| item.kind == "mod").map(|item| item.name).collect();
    let violation = |named: source::Named| {
        let (library, rooms) = CONFINED.iter().find(|(library, _)| named.segments[0] == *library)?;
        if allowed(rooms) || own_modules.iter().any(|own| own == library) {
            return None;
        }
        let rooms = rooms.join(", ");
        Some(format!("{}: {library} stays in {rooms}: hand over our own type instead", place(&source.path, named.line)))
    };
    source.paths().into_iter().filter_map(violation).collect()
}

fn forbidden_dependencies(manifest: &str, forbidden: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(manifest)).expect(manifest);
    let table: toml::Table = text.parse().expect(manifest);
    let sections = ["dependencies", "build-dependencies"].iter().filter_map(|section| table.get(*section)?.as_table());
    let named = sections.flat_map(|section| section.keys());
    named
        .filter(|name| forbidden.contains(&name.as_str()))
        .map(|name| format!("{manifest}: depends on {name}: this crate has to do without"))
        .collect()
}

fn name_violations(source: &Source) -> Vec<String> {
    let declared = source.items().into_iter().filter_map(|item| {
        let last_word = snake_case(&item.name).rsplit('_').next().map(str::to_owned)?;
        let word = if item.kind == "mod" { item.name.clone() } else { last_word };
        // In grpc, a service is what gRPC calls one: a file each.
        let grpc_service = word == "service" && source.path.starts_with("broker/src/grpc");
        // What tonic's `Connected` calls it.
        let tonics = item.kind == "type" && item.name == "ConnectInfo";
        (ROOMS_WITHOUT_PURPOSE.contains(&word.as_str()) && !grpc_service && !tonics).then(|| {
            let place = place(&source.path, item.line);
            format!("{place}: {} {} says nothing: name it for what it is or does", item.kind, item.name)
        })
    });
    declared.collect()
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn todo_violations(path: &Path, text: &str) -> Vec<String> {
    // Written apart, or this file would break its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let numbered = |rest: &str| {
        let rest = rest.trim_start_matches(['(', ' ']);
        rest.strip_prefix('#').is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    };
    let lines = text.lines().enumerate();
    let wrong = lines
        .filter(|(_, line)| words.iter().any(|word| line.split_once(word).is_some_and(|(_, rest)| !numbered(rest))));
    wrong.map(|(index, _)| format!("{}: give it the number of its issue, or do it", place(path, index + 1))).collect()
}

fn assert_tidy(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn relative(file: &Path) -> &Path {
    file.strip_prefix(root()).unwrap_or(file)
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let files = folders.iter().flat_map(|folder| files(&root().join(folder)));
    let rust = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let found: Vec<Source> = rust
        .map(|file| Source::parse(relative(&file), &std::fs::read_to_string(&file).expect("a readable source file")))
        .collect();
    assert!(!found.is_empty(), "no Rust files in {folders:?}: did a folder move?");
    found
}

/// What goes into the programs: a folder or file `tests` below `src` is a test module, as `mod tests { … }` is.
fn shipped(folders: &[&str]) -> Vec<Source> {
    let test = |source: &Source| module_of(&source.path).iter().any(|module| module == "tests");
    sources(folders).into_iter().filter(|source| !test(source)).collect()
}

/// Every file below a folder, without what builds and tests leave behind.
fn files(folder: &Path) -> Vec<PathBuf> {
    let skipped = ["target", ".cache", "artefacts", "__pycache__", ".pytest_cache"];
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| !skipped.iter().any(|name| path.ends_with(name)))
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
#[path = "tidy/reader.rs"]
mod reader;
