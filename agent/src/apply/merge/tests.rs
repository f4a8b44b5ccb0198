//! Every format with values that nobody would choose, and files on disk.

#![expect(clippy::disallowed_methods, reason = "others write files, and a shell reads them")]

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::json;

use super::*;
use crate::recipe::way::MergeFormat;

const FORMATS: [(MergeFormat, &str); 5] = [
    (MergeFormat::Json, "json"),
    (MergeFormat::Yaml, "yaml"),
    (MergeFormat::Env, "env"),
    (MergeFormat::Ini, "ini"),
    (MergeFormat::Toml, "toml"),
];

fn recipe(format: &str, rest: &str) -> MergedFile {
    ::toml::from_str(&format!("file = '${{config_file}}'\nformat = '{format}'\ncontent = {{}}\n{rest}")).unwrap()
}

fn read_back(format: MergeFormat, text: &str, content: &Value) -> Value {
    let recipe = recipe("env", "");
    let wishes = document::Wishes { recipe: &recipe, content: content.clone() };
    match format {
        MergeFormat::Json => json::read(text),
        MergeFormat::Yaml => yaml::read(text),
        MergeFormat::Env => env::read(text, &wishes),
        MergeFormat::Ini => ini::read(text),
        MergeFormat::Toml => toml::read(text),
    }
    .unwrap()
}

/// Quotes, line breaks, comments, variables, words that are no texts in YAML, and anything else.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("# x".to_owned()),
        Just("${HOME}".to_owned()),
        Just("$(id)".to_owned()),
        Just("`id`".to_owned()),
        Just("%(x)s".to_owned()),
        Just(": ".to_owned()),
        Just("- ".to_owned()),
        Just("yes".to_owned()),
        Just("0x1F".to_owned()),
        Just("\u{feff}é\u{2028}🙂\u{85}".to_owned()),
        Just(" ".to_owned()),
        any::<char>().prop_filter("no format holds it", |c| *c != '\0').prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_value_survives_or_is_refused(value in nasty(), other in nasty()) {
        for (format, name) in FORMATS {
            let content = match format {
                MergeFormat::Ini => json!({"section": {"key": value}}),
                _ => json!({"KEY": value, "LIST": {"APPS": [{"id": "homeward", "secret": value}, other]}}),
            };
            let recipe = recipe(name, "lists = { '/LIST/APPS' = 'id' }");
            match merge("", &recipe, content.clone()) {
                Ok((text, _)) => {
                    assert_eq!(read_back(format, &text, &content), content, "{name} {text}");
                    assert_eq!(merge(&text, &recipe, content.clone()).unwrap().0, text, "{name}: once is enough");
                    // Another value in its place, among what is there.
                    let changed: BTreeMap<String, Value> = serde_json::from_str(
                        &content.to_string().replace("\"id\":\"homeward\"", "\"id\":\"homeward\",\"more\":1"),
                    ).unwrap();
                    let changed = serde_json::to_value(changed).unwrap();
                    let (text, _) = merge(&text, &recipe, changed.clone()).unwrap();
                    assert_eq!(read_back(format, &text, &content), changed, "{name} {text}");
                }
                Err(error) => assert!(error == Unwritable::Character && format == MergeFormat::Ini, "{name} {error}"),
            }
        }
    }
}

#[test]
fn env_values_are_read_alike_by_a_shell() {
    let value = "it's \"1\" $HOME \\ `id` # x\n!";
    let content = json!({"A": value, "B": {"k": value}, "C": "plain", "D": "two words"});
    let (text, _) = merge("# mine\nOTHER=1\n", &recipe("env", ""), content).unwrap();
    assert!(text.starts_with("# mine\nOTHER=1\n"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, &text).unwrap();
    let print = r#". "$0"; printf '%s\0%s\0%s\0%s' "$A" "$B" "$C" "$D""#;
    let shell = std::process::Command::new("sh").args(["-c", print, file.to_str().unwrap()]).output().unwrap();
    let printed = String::from_utf8(shell.stdout).unwrap();
    let printed: Vec<&str> = printed.split('\0').collect();
    assert_eq!((printed[0], printed[2], printed[3]), (value, "plain", "two words"));
    assert_eq!(serde_json::from_str::<Value>(printed[1]).unwrap(), json!({"k": value}));
}

#[test]
fn no_value_of_the_broker_is_a_command_to_a_shell() {
    for hostile in ["x;touch", "x&id", "x|id", "<x", ">x", "x(id)", "~root", "*", "a{b,c}", "!x", "x\u{85}y"] {
        let (text, _) = merge("A=old\n", &recipe("env", ""), json!({"A": hostile})).unwrap();
        assert_eq!(text, format!("A='{hostile}'\n"));
    }
    let (text, _) = merge("A=old\n", &recipe("env", ""), json!({"A": "https://login.example"})).unwrap();
    assert_eq!(text, "A=https://login.example\n");
}

#[test]
fn env_files_keep_their_lines_and_their_way_of_quoting() {
    let text = "export A=old # why\nB=\"x\ny\"\n\nP={\"a\":{\"b\":1}}\nP={\"a\":{\"c\":[\"other\"]}}\nLAST='z'";
    let recipe = recipe("env", "comma_lists = ['/L']\nremove = [{ at = '/P/a/c', why = 'broken' }]");
    let content = json!({"A": "new", "P": {"a": {"d": "homeward"}}, "L": "x"});
    let (written, removed) = merge(text, &recipe, content.clone()).unwrap();
    let expected =
        "export A=new # why\nB=\"x\ny\"\n\nP={\"a\":{\"b\":1}}\nP={\"a\":{\"d\": \"homeward\"}}\nLAST='z'\nL=x\n";
    assert_eq!(removed, ["/P/a/c was taken out: broken"]);
    let read = read_back(MergeFormat::Env, &written, &content);
    assert_eq!(read["P"], json!({"a": {"d": "homeward"}}), "{written}");
    assert_eq!((&read["B"], &read["L"]), (&json!("x\ny"), &json!("x")));
    assert!(written.starts_with(&expected[..40]), "{written}");
    for bad in ["A=1\nno assignment\n", "A='open\nB=1\n"] {
        assert!(matches!(merge(bad, &recipe, json!({"A": "2"})), Err(Unwritable::Unparsable { .. })), "{bad}");
    }
}

fn files(folder: &Path, text: Option<&str>) -> (Merge, Parameters, PathBuf) {
    let path = folder.join("config.yaml");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    }
    let mut file = recipe("yaml", "remove = [{ at = '/p/server_url', why = 'it answers 500' }]");
    file.content = serde_json::from_value(json!({"p": {"id": "${client_id}"}})).unwrap();
    let name = || "config_file".to_owned();
    let declared = BTreeMap::from([(name(), String::new())]);
    let given = BTreeMap::from([(name(), path.to_str().unwrap().to_owned())]);
    (Merge { files: vec![file], owner: Owner::default() }, Parameters::new(&declared, &given), path)
}

const VALUES: [(&str, &str); 1] = [("client_id", "beta")];

#[test]
fn a_file_of_others_is_changed_at_once_and_can_be_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let old = "# mine\np:\n  server_url: https://old # why\nq: yes\n";
    let (merge, parameters, path) = files(folder.path(), Some(old));
    let edited = merge.plan(&parameters, &VALUES).unwrap();
    assert_eq!(edited[0].describe().len(), 2);
    merge.put(&edited).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("# mine\np:\n") && written.ends_with("q: yes\n"), "{written}");
    assert!(!written.contains("server_url") && written.contains("beta"), "{written}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640, "its mode stays");
    assert!(merge.plan(&parameters, &VALUES).unwrap().is_empty(), "the second time nothing is left to do");
    // By way of the file that it is kept in.
    let undo: Vec<Replaced> = edited.iter().map(Edited::undo).collect();
    let undo: Vec<Replaced> = serde_json::from_str(&serde_json::to_string(&undo).unwrap()).unwrap();
    merge.undo(&undo).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn a_file_that_was_not_there_is_closed_to_others_and_goes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (merge, parameters, path) = files(folder.path(), None);
    let edited = merge.plan(&parameters, &VALUES).unwrap();
    merge.put(&edited).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    merge.undo(&[edited[0].undo()]).unwrap();
    assert!(!path.exists());
}

#[test]
fn what_does_not_parse_or_changes_meanwhile_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broken = "p: [canary\nq: 1\n";
    let (merge, parameters, path) = files(folder.path(), Some(broken));
    let error = merge.plan(&parameters, &VALUES).err().unwrap();
    assert!(error.to_string().contains("line") && !error.to_string().contains("canary"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
    std::fs::write(&path, "p: {}\n").unwrap();
    let edited = merge.plan(&parameters, &VALUES).unwrap();
    std::fs::write(&path, "p: {}\nmine: 1\n").unwrap();
    assert!(matches!(merge.put(&edited), Err(MergeError::ChangedMeanwhile(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "p: {}\nmine: 1\n");
    let edited = merge.plan(&parameters, &VALUES).unwrap();
    merge.put(&edited).unwrap();
    std::fs::write(&path, "others: 1\n").unwrap();
    assert!(matches!(merge.undo(&[edited[0].undo()]), Err(MergeError::ChangedMeanwhile(_))));
}

#[test]
fn a_secret_goes_into_no_file_that_everybody_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut merge, parameters, path) = files(folder.path(), Some("p: {}\n"));
    merge.files[0].content = serde_json::from_value(json!({"p": {"secret": "${client_secret}"}})).unwrap();
    for (mode, is_open) in [(0o644, true), (0o602, true), (0o660, false)] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let planned = merge.plan(&parameters, &[("client_secret", "canary")]);
        assert_eq!(matches!(planned, Err(MergeError::Open(_))), is_open, "{mode:o}");
    }
}

#[test]
fn going_back_twice_is_going_back_once() {
    let folder = tempfile::tempdir().unwrap();
    let (merge, parameters, path) = files(folder.path(), None);
    let edited = merge.plan(&parameters, &VALUES).unwrap();
    merge.undo(&[edited[0].undo()]).unwrap();
    merge.put(&edited).unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, "somebody's").unwrap();
    let changed = Replaced { path: other, old: None, new: SecretBytes(Zeroizing::new(b"ours".to_vec())) };
    for _ in 0..2 {
        let undone = merge
            .undo(&[Replaced { path: changed.path.clone(), old: None, new: changed.new.clone() }, edited[0].undo()]);
        assert!(matches!(undone, Err(MergeError::ChangedMeanwhile(_))) && !path.exists(), "the rest is done");
    }
}

#[test]
fn a_link_stays_and_leads_to_the_new_text() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("real.yaml");
    std::fs::write(&target, "p: {}\n").unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join("config.yaml")).unwrap();
    let (merge, parameters, path) = files(folder.path(), None);
    merge.put(&merge.plan(&parameters, &VALUES).unwrap()).unwrap();
    assert!(path.symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read_to_string(&target).unwrap().contains("beta"));
}
