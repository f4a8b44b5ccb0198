//! Whoever meets an error looks its sentence up: `docs/troubleshooting.md` has every one that strangers, users, operators and
//! ops are told.

use crate::source::literals;
use crate::{assert_tidy, root};

const PAGE: &str = "docs/troubleshooting.md";

/// Which texts of a file are sentences for others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Those that begin or end as sentences do: pages and OAuth errors. What is logged does neither.
    Sentences,
    /// Those of `#[error("…")]`.
    Errors,
    /// All that are longer than a name.
    All,
}

/// Where what others are told is written.
const FILES: [(&str, Told); 42] = [
    // What browsers and applications are told.
    ("broker/src/oidc/error.rs", Told::Sentences),
    ("broker/src/web/pages/mod.rs", Told::Sentences),
    ("broker/src/oidc/registration/members.rs", Told::Errors),
    ("broker/src/oidc/registration/address.rs", Told::Errors),
    ("agent/src/home/pages.rs", Told::Sentences),
    ("agent/src/home/http.rs", Told::Sentences),
    ("agent/src/gate/pages.rs", Told::Sentences),
    ("agent/src/gate/simple_sso/mod.rs", Told::Errors),
    ("agent/src/gate/simple_sso/signed.rs", Told::Errors),
    ("agent/src/gate/simple_sso/tokens.rs", Told::Errors),
    // What the broker tells agents and ops.
    ("broker/src/grpc/status.rs", Told::All),
    ("broker/src/enrolment/error.rs", Told::Errors),
    ("broker/src/enrolment/recovery.rs", Told::Errors),
    ("broker/src/fleet/questions.rs", Told::Errors),
    ("broker/src/grants/probe.rs", Told::Errors),
    ("broker/src/login/error.rs", Told::Errors),
    ("broker/src/registry/account_key.rs", Told::Errors),
    ("broker/src/registry/client_key.rs", Told::Errors),
    ("broker/src/registry/client_policy.rs", Told::Errors),
    ("broker/src/registry/identity.rs", Told::Errors),
    ("broker/src/registry/profile.rs", Told::Errors),
    ("broker/src/registry/trust.rs", Told::Errors),
    ("broker/src/registry/upstream.rs", Told::Errors),
    ("broker/src/rotation/error.rs", Told::Errors),
    ("broker/src/sessions/outbox/mod.rs", Told::Errors),
    ("broker/src/upstream/error.rs", Told::Errors),
    // What a broker that does not start, or a command that works on its store, says.
    ("broker/src/cli/admin.rs", Told::Errors),
    ("broker/src/config/error.rs", Told::Errors),
    ("broker/src/config/federation.rs", Told::Errors),
    ("broker/src/secret/error.rs", Told::Errors),
    ("broker/src/secret/token.rs", Told::Errors),
    ("broker/src/storage/archive.rs", Told::Errors),
    ("broker/src/storage/migration.rs", Told::Errors),
    ("broker/src/storage/schema.rs", Told::Errors),
    ("broker/src/storage/sled/opened.rs", Told::Errors),
    // What an agent says to its operator.
    ("agent/src/config/error.rs", Told::Errors),
    ("agent/src/connection.rs", Told::Errors),
    ("agent/src/disk.rs", Told::Errors),
    ("agent/src/enrolment/error.rs", Told::Errors),
    ("agent/src/refusal.rs", Told::Errors),
    ("agent/src/trust.rs", Told::Errors),
    ("certs/src/join_token.rs", Told::Errors),
];

#[test]
fn every_public_sentence_is_looked_up_in_the_troubleshooting_page() {
    let page = plain(&std::fs::read_to_string(root().join(PAGE)).expect(PAGE));
    let missing = FILES.iter().flat_map(|(file, told)| {
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        let sentences = sentences(&text, *told);
        assert!(!sentences.is_empty(), "{file} tells nobody anything: was it moved?");
        let missing = sentences.into_iter().filter(|(_, sentence)| !page.contains(&plain(sentence)));
        missing.map(|(line, sentence)| format!("{file}:{line}: {PAGE} does not have: {sentence}")).collect::<Vec<_>>()
    });
    assert_tidy(&missing.collect::<Vec<_>>());
}

/// The sentences of a source file with their lines; what is put into them stands as `…`.
fn sentences(text: &str, told: Told) -> Vec<(usize, String)> {
    let found = literals(text).into_iter().filter(|literal| {
        let logged = ["error!(", "warn!(", "info!("].iter().any(|name| literal.before.contains(name));
        let is_error = literal.before.ends_with("error(");
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
    assert_eq!(sentences(source, Told::Errors), errors);
    assert_eq!(sentences(source, Told::Sentences), [(4, "A parameter is missing.".to_owned())]);
    assert_eq!(plain("there is no …:\n  see token list \\| `a`"), "there is no …: see token list | a");
}
