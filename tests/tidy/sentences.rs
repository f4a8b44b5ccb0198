//! Whoever meets an error looks its sentence up: `docs/troubleshooting.md` has every one that strangers, users, operators and
//! ops are told.

use crate::source::literals;
use crate::{assert_tidy, files, relative, root};

const PAGE: &str = "docs/troubleshooting.md";

/// Which texts of a file are sentences for others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Those that begin or end as sentences do: pages and OAuth errors. What is logged does neither.
    Sentences,
    /// Those of `#[error("…")]`, and with which a command ends. (What a command was doing, its `context`, says what stands
    /// behind it.)
    Errors,
    /// All that are longer than a name.
    All,
}

/// Where what others are told is written without being an error of Rust's. The errors of all files are told.
const FILES: [(&str, Told); 7] = [
    ("broker/src/oidc/error.rs", Told::Sentences),
    ("broker/src/web/pages/mod.rs", Told::Sentences),
    ("agent/src/home/pages.rs", Told::Sentences),
    ("agent/src/home/http.rs", Told::Sentences),
    ("agent/src/gate/pages.rs", Told::Sentences),
    ("agent/src/operator_page/pages.rs", Told::Sentences),
    ("broker/src/grpc/status.rs", Told::All),
];

/// Why an application's request is refused is a sentence of `broker/src/oidc/error.rs`; this stands in the log beside it.
const CAUSE: &str = "stands behind a sentence of broker/src/oidc/error.rs in the log";
/// What certificates can be stands behind what the agent or the broker was doing.
const CERTIFICATE: &str = "stands behind the sentence of whoever read or made the certificate";

/// Whose errors nobody has to look up, and why. A path that ends with a slash is a folder.
const INTERNAL: [(&str, &str); 17] = [
    ("broker/src/oidc/client_auth/", CAUSE),
    ("broker/src/oidc/device/", CAUSE),
    ("broker/src/oidc/dpop/", CAUSE),
    ("broker/src/oidc/error.rs", CAUSE),
    ("broker/src/oidc/parameters.rs", CAUSE),
    ("broker/src/oidc/request/", CAUSE),
    ("broker/src/grants/binding.rs", CAUSE),
    ("broker/src/grants/device/", CAUSE),
    ("broker/src/grants/error.rs", CAUSE),
    ("broker/src/registry/claims/request.rs", CAUSE),
    ("broker/src/registry/claims/scope.rs", CAUSE),
    ("broker/src/registry/registration.rs", CAUSE),
    ("certs/src/authority.rs", CERTIFICATE),
    ("certs/src/bundle.rs", CERTIFICATE),
    ("certs/src/csr.rs", CERTIFICATE),
    ("certs/src/proof.rs", CERTIFICATE),
    ("certs/src/tls.rs", CERTIFICATE),
];

#[test]
fn every_public_sentence_is_looked_up_in_the_troubleshooting_page() {
    let page = plain(&std::fs::read_to_string(root().join(PAGE)).expect(PAGE));
    let errors = sources().into_iter().filter(|file| reason(file).is_none()).map(|file| (file, Told::Errors));
    let told = FILES.iter().map(|(file, told)| ((*file).to_owned(), *told)).chain(errors);
    let missing = told.flat_map(|(file, told)| {
        let text = std::fs::read_to_string(root().join(&file)).expect("a source file");
        let sentences = sentences(&text, told);
        assert!(told == Told::Errors || !sentences.is_empty(), "{file} tells nobody anything: was it moved?");
        let missing = sentences.into_iter().filter(|(_, sentence)| !page.contains(&plain(sentence)));
        missing.map(|(line, sentence)| format!("{file}:{line}: {PAGE} does not have: {sentence}")).collect::<Vec<_>>()
    });
    assert_tidy(&missing.collect::<Vec<_>>());
}

#[test]
fn what_is_internal_has_errors() {
    let sources = sources();
    let silent = INTERNAL.iter().filter(|(path, _)| {
        let mut within = sources.iter().filter(|file| is_at(file, path));
        !within.any(|file| {
            let text = std::fs::read_to_string(root().join(file)).expect("a source file");
            !sentences(&text, Told::Errors).is_empty()
        })
    });
    assert_tidy(&silent.map(|(path, why)| format!("{path}:1: has no errors that {why}")).collect::<Vec<_>>());
}

/// The source files of the programs, without their tests.
fn sources() -> Vec<String> {
    let found = ["agent/src", "broker/src", "certs/src"].into_iter().flat_map(|folder| files(&root().join(folder)));
    let names = found.map(|file| relative(&file).to_string_lossy().into_owned());
    let shipped: Vec<String> = names
        .filter(|name| name.ends_with(".rs") && !name.contains("/tests/") && !name.ends_with("/tests.rs"))
        .collect();
    assert!(shipped.len() > 300, "only {} source files: did a folder move?", shipped.len());
    shipped
}

/// Why the errors of a file are nobody's to look up.
fn reason(file: &str) -> Option<&'static str> {
    INTERNAL.iter().find(|(path, _)| is_at(file, path)).map(|(_, why)| *why)
}

fn is_at(file: &str, path: &str) -> bool {
    file == path || (path.ends_with('/') && file.starts_with(path))
}

/// The sentences of a source file with their lines; what is put into them stands as `…`.
fn sentences(text: &str, told: Told) -> Vec<(usize, String)> {
    let found = literals(text).into_iter().filter(|literal| {
        let logged = ["error!(", "warn!(", "info!("].iter().any(|name| literal.before.contains(name));
        let ends = ["bail!(", "anyhow!("].iter().any(|name| literal.before.ends_with(name));
        let is_error = literal.before.ends_with("[error(") || ends || literal.before.contains("ensure!(");
        let whole = literal.text.starts_with(char::is_uppercase) || literal.text.ends_with('.');
        let meant = match told {
            Told::Sentences => whole && !is_error && !literal.text.contains("realm="),
            Told::Errors => is_error,
            Told::All => true,
        };
        meant && !logged
    });
    let sentences = found.map(|literal| (literal.line, without_places(&literal.text)));
    sentences.filter(|(_, sentence)| sentence.split_whitespace().filter(|word| word.len() > 3).count() >= 2).collect()
}

/// `{0}` is `…`, `{{` is a brace.
fn without_places(text: &str) -> String {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        out.push('…');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    (out + rest).replace('\u{1}', "{").replace('\u{2}', "}")
}

/// As it is read: without marks of code, in one line.
fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("\\|", "|").replace('`', "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn sentences_are_found_as_they_are_read() {
    let source = r#"
        #[error("there is no {0}: \
                 see `token list` and {1:?}, {{home}}")]
        fn f() { info!("Somebody came here."); oauth("invalid_request", "A parameter is missing."); g("some", "Basic realm=\"a b\"") }
        #[cfg(test)]
        mod tests { fn f() { g("This is not said to anybody.") } }
    "#;
    let errors = [(2, "there is no …: see `token list` and …, {home}".to_owned())];
    let ended = [(1, "nobody answers here".to_owned())];
    assert_eq!(sentences("fn f() { bail!(\"nobody answers here\") }", Told::Errors), ended);
    assert_eq!(sentences(source, Told::Errors), errors);
    assert_eq!(sentences(source, Told::Sentences), [(4, "A parameter is missing.".to_owned())]);
    assert_eq!(plain("there is no …:\n  see token list \\| `a`"), "there is no …: see token list | a");
}
