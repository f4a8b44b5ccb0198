//! What was there before, after writes that were done by half.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::*;
use crate::parameters::Parameters;

/// A file of somebody's that is closed to others.
pub(super) fn put(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Says where files are.
pub(super) fn tell(role: &mut Role, files: &[(&str, &Path)]) {
    let of = |(name, path): &(&str, &Path)| ((*name).to_owned(), path.to_str().unwrap().to_owned());
    let given: BTreeMap<String, String> = files.iter().map(of).collect();
    role.application = role.application.clone().with_parameters(Parameters::new(&given, &given));
}

#[tokio::test]
async fn what_is_written_by_half_never_counts_as_what_was_there_before() {
    let mut beta = Instance::start("true").await;
    let path = |name: &str| beta.folder.path().join(name);
    let (one, two, kept) = (path("one.json"), path("two.json"), path("data").join(WAY_BACK));
    let blocked = path(".two.json.homeward").join("in the way");
    let now = || [&one, &two].map(|file| std::fs::read_to_string(file).unwrap());
    let old = ["{ \"mine\": 1 }\n", "{ \"mine\": 2 }\n"];
    put(&one, old[0]);
    put(&two, old[1]);
    let role = beta.applier.role.as_mut().unwrap();
    role.patience = Duration::from_millis(1500);
    let file = |name: &str| {
        format!("[[merge]]\nfile = '${{{name}}}'\nformat = 'json'\ncontent = {{ secret = '${{client_secret}}' }}\n")
    };
    let text = format!("name = 'a'\ndescription = ''\n{}{}", file("one"), file("two"));
    role.recipe.ways = vec![toml::from_str(&text).unwrap()];
    role.way = Way::of(&role.recipe, &role.config);
    tell(role, &[("one", &one), ("two", &two)]);

    std::fs::create_dir_all(&blocked).unwrap();
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), now(), kept.exists()), ("WRITE_FAILED", old.map(str::to_owned), false));

    // A crash between the two files.
    let role = beta.applier.role.as_mut().unwrap();
    let credentials = role.credentials(&wanted(1, "beta").content).await.unwrap();
    let plan = role.plan(&credentials).await.unwrap();
    let pending = Pending { secret_version: 1, shown: Shown::No, undo: plan.undo() };
    role.data.store(WAY_BACK, &pending).unwrap();
    role.pending = role.data.load(WAY_BACK).unwrap();
    let (Way::Merge(merge), Plan::Merge(edited)) = (&role.way, plan) else { panic!("no merge") };
    merge.put(&edited[..1]).unwrap();
    assert!(now()[0].contains("canary-secret"));

    std::fs::remove_dir_all(blocked.parent().unwrap()).unwrap();
    let error = beta.applier.apply(&wanted(1, "beta")).await.unwrap_err();
    assert_eq!((error.reason(), now(), kept.exists()), ("PROOF_FAILED", old.map(str::to_owned), false));
}

#[tokio::test]
async fn credentials_of_another_issuer_are_not_taken() {
    let mut beta = Instance::start("printf x >> $R").await;
    let mut other = wanted(1, "beta");
    other.content.issuer = "https://login.evil.example".to_owned();
    let error = beta.applier.apply(&other).await.unwrap_err();
    assert_eq!((error.reason(), beta.client_id_on_disk(), beta.reloads()), ("OTHER_ISSUER", None, 0));
}
