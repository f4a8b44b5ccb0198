//! That the rules can fail: each on a few lines of made-up source.

use super::source::{Function, Source};
use super::{confinement_violations, name_violations, ring_violations, todo_violations};

fn paths(text: &str) -> Vec<String> {
    let source = Source::parse("broker/src/login/begin.rs", text);
    source.paths().into_iter().map(|named| format!("{}:{}", named.line, named.segments.join("::"))).collect()
}

fn rings(path: &str, text: &str) -> Vec<String> {
    ring_violations(&Source::parse(path, text))
}

#[test]
fn grouped_imports_are_read_to_their_leaves() {
    let text = "use crate::{keys::Set as Keys, web::{self, pages::*}};\nuse time::Duration;";
    let expected = ["1:crate::keys::Set", "1:crate::web::self", "1:crate::web::pages::*", "2:time::Duration"];
    assert_eq!(paths(text), expected);
}

#[test]
fn paths_in_expressions_and_types_are_read() {
    let text = "fn f(a: Vec<crate::web::Page>) -> Result<(), io::Error> { crate::keys::sign::<b::C>(&a) }";
    assert_eq!(paths(text), ["1:crate::web::Page", "1:io::Error", "1:crate::keys::sign", "1:b::C"]);
}

#[test]
fn super_and_self_are_resolved() {
    let text = "use super::ticket::Ticket;\nuse super::super::grants::Code;\nmod inner { use super::super::Begin; }\nuse self::a::B;";
    let expected = ["1:crate::login::ticket::Ticket", "2:crate::grants::Code", "3:crate::login::Begin"];
    assert_eq!(paths(text)[..3], expected);
    assert_eq!(paths(text)[3], "4:crate::login::begin::a::B");
}

#[test]
fn comments_literals_and_test_modules_are_not_read() {
    let text = r##"
        // a::b
        /* c::d /* e::f */ g::h */
        const S: &str = "i::j \" k::l";
        const R: &str = r#"m::n " o::p"#;
        const C: (char, &'static u8) = ('"', q::R);
        #[cfg(test)]
        mod tests { use crate::web::Page; fn f() {} }
        use s::T;
    "##;
    assert_eq!(paths(text), ["6:q::R", "9:s::T"]);
}

#[test]
fn an_outward_import_is_found() {
    let found = rings("broker/src/keys/mod.rs", "//! Keys.\n\nuse crate::{clock::Clock, login::Login};");
    assert_eq!(found, ["broker/src/keys/mod.rs:3: keys -> login points outwards: pass what it needs as a parameter"]);
}

#[test]
fn a_surface_that_knows_the_assembly_is_found() {
    let found = rings("broker/src/web/mod.rs", "use crate::run::Listeners;");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("broker/src/web/mod.rs:1: web -> run points outwards"));
}

#[test]
fn a_flow_that_calls_a_flow_is_found_and_itself_is_not() {
    let found = rings("broker/src/login/complete.rs", "use super::Login;\nfn f() { crate::grants::issue() }");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("broker/src/login/complete.rs:2: login -> grants one flow calls another"));
}

#[test]
fn inward_imports_are_accepted() {
    assert!(rings("broker/src/run/surfaces.rs", "use crate::{oidc::Oidc, storage::sled::Sled};").is_empty());
    assert!(rings("broker/src/cli/serve.rs", "use crate::run::Listeners;").is_empty());
    assert!(rings("broker/src/oidc/token.rs", "use crate::{grants::Grants, registry::Registry};").is_empty());
    assert!(rings("broker/src/main.rs", "use homeward_broker::cli::run;").is_empty());
}

#[test]
fn a_module_outside_the_rings_is_found() {
    assert!(rings("broker/src/extras.rs", "")[0].contains("`extras` is in no ring"));
}

#[test]
fn a_library_outside_of_its_modules_is_found() {
    let found =
        confinement_violations(&Source::parse("broker/src/login/mod.rs", "use axum::Json;\nuse tonic::Status;"));
    assert_eq!(found.len(), 2, "{found:?}");
    let module = Source::parse("broker/src/storage/mod.rs", "pub mod sled;\npub use sled::Sled;");
    assert!(confinement_violations(&module).is_empty());
    let backend = Source::parse("broker/src/storage/sled.rs", "fn f(db: sled::Db) {}");
    assert!(confinement_violations(&backend).is_empty());
}

#[test]
fn empty_names_are_found() {
    let text = "mod util;\nstruct SessionManager;\nenum LoginInfo {}\nstruct Manageress;\ntype Database = ();";
    let found = name_violations(&Source::parse("broker/src/lib.rs", text));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn functions_are_measured() {
    let text = "trait T {\n  fn declared(a: [u8; 4]);\n}\nfn one() {}\npub async fn three(\n  f: fn(u8) -> u8,\n) { if a { b } }\n";
    let expected =
        [("one", 4, 1), ("three", 5, 3)].map(|(name, line, lines)| Function { line, name: name.to_owned(), lines });
    assert_eq!(Source::parse("a.rs", text).functions(), expected);
}

#[test]
fn a_todo_without_issue_is_found() {
    let text =
        format!("{0}: later\n{0}(#7): fine\n// {0} #8 fine\n{1}(me): not", concat!("TO", "DO"), concat!("FIX", "ME"));
    let found = todo_violations(std::path::Path::new("a.py"), &text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("a.py:4:"));
}
