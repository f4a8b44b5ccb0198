//! What the application holds as relying party: whether the files are there, closed to others and its own, and whether it
//! has shown that it uses what is in them. What is in them is looked at by nobody.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use url::Url;

use super::finding::Finding;
use super::{Enrolled, Patient};
use crate::application::Application;
use crate::apply::files::CURRENT;
use crate::config::{Config, RelyingPartyConfig};
use crate::conversation::Conversation;
use crate::recipe::content::Content;
use crate::recipe::relying_party::Proof;
use crate::recipe::way::Target;
use crate::resources::applied::Applied;

const ABOUT: &str = "credentials";

/// What is to be done where nobody can log in, because nobody is accepted.
pub(super) const ASK_FOR_TRUST: &str = "ask ops for: homeward-broker trust allow --relying-party NAME --home HOME; homeward-broker trust list shows whose consent is missing";

/// What is in place, and what the running application shows of it.
pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let (Some(role), Some(recipe)) = (&config.relying_party, &config.recipe.relying_party) else { return Vec::new() };
    let Some(Enrolled { applied, identity }) = &patient.enrolled else { return Vec::new() };
    let mut findings = vec![in_effect(applied, &config.recipe.title)];
    let Some(client_id) = &applied.client_id else { return findings };
    if applied.homes.is_empty() {
        let sentence = "No home is accepted here: nobody can log in from elsewhere.";
        findings.push(Finding::warning("trust", sentence, ASK_FOR_TRUST));
    }
    let target = recipe.way(role.way.as_deref()).map(|way| &way.target);
    if let (Some(Target::Files(files)), Some(folder)) = (target, &role.credentials_dir) {
        let current = folder.join(CURRENT);
        findings.extend(files.iter().filter_map(|file| file_problem(&current.join(&file.name), role)));
    }
    findings.extend(
        target.into_iter().flat_map(|target| of_application(target, config)).filter_map(|path| open_problem(&path)),
    );
    let issuer = identity.issuer();
    let values = [("issuer", issuer.as_str()), ("client_id", client_id)];
    for proof in &recipe.proof.0 {
        findings.extend(not_shown(&patient.application, proof, &values).await);
    }
    findings
}

/// Whether the application still shows what it was seen to use: somebody may have changed it since by hand.
async fn not_shown(application: &Application, proof: &Proof, values: &[(&str, &str)]) -> Option<Finding> {
    // That it does not answer is said elsewhere.
    let answer = Conversation::begin(application, None).take(&proof.request, values).await.ok()?;
    let wanted = proof.equals.render(values);
    (!proof.pointer.select(&answer.body).contains(&&wanted)).then(|| {
        let path = &proof.request.path;
        let sentence =
            format!("The application answers {path} with {}, and does not show the client there.", answer.status);
        let remedy =
            "restart the agent, which writes its credentials again; homeward-agent recipe test shows the answer";
        Finding::error(ABOUT, sentence, remedy)
    })
}

/// Whether the application has shown that it uses what the agent holds for it.
pub(crate) fn in_effect(applied: &Applied, title: &str) -> Finding {
    match &applied.client_id {
        None => {
            let remedy = "start the agent and look at its log; if that has nothing of credentials, ask ops whether the instance is enrolled as a relying party: homeward-broker instance show NAME";
            let sentence = "The agent has received no client credentials yet, or they could not be put into effect.";
            Finding::warning(ABOUT, sentence, remedy)
        }
        Some(client_id) if applied.proved => {
            Finding::ok(ABOUT, format!("{title} has shown that it uses the client {client_id}."))
        }
        Some(client_id) => {
            let sentence = format!("{title} has not shown that it uses the client {client_id}.");
            let remedy = "look at the agent's log for why; homeward-agent recipe test shows it step by step";
            Finding::warning(ABOUT, sentence, remedy)
        }
    }
}

fn file_problem(path: &Path, role: &RelyingPartyConfig) -> Option<Finding> {
    let shown = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            let remedy = "restart the agent, which writes it again; see that it may write there";
            return Some(Finding::error(ABOUT, format!("{shown} cannot be read ({error})."), remedy));
        }
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let sentence = format!("{shown} has mode {mode:04o}: others can read or change the client's secret.");
        return Some(Finding::error(
            ABOUT,
            sentence,
            format!(
                "run: chmod 600 {shown}; then ask ops for a new secret: homeward-broker secret rotate --instance NAME"
            ),
        ));
    }
    (!is_owned(&metadata, role)).then(|| {
        let sentence = format!(
            "{shown} belongs to user {} and group {}, not to [relying_party] owner and group.",
            metadata.uid(),
            metadata.gid()
        );
        Finding::error(
            ABOUT,
            sentence,
            "restart the agent, which writes it again for that user; see that it may change owners",
        )
    })
}

/// The application's own files that have the client's secret in them.
fn of_application(target: &Target, config: &Config) -> BTreeSet<PathBuf> {
    match target {
        Target::Merge(files) => {
            let with_secret = files.iter().filter(|file| file.content.holds_secret());
            with_secret.filter_map(|file| config.parameters.plain(file.file.name())).map(PathBuf::from).collect()
        }
        Target::Rows(rows) => {
            let with_secret = rows.iter().filter(|row| row.set.values().any(Content::holds_secret));
            with_secret.filter_map(|row| sqlite_file(config, row.database.name())).collect()
        }
        Target::Files(_) | Target::Items(_) => BTreeSet::new(),
    }
}

fn sqlite_file(config: &Config, parameter: &str) -> Option<PathBuf> {
    let address = Url::parse(&config.parameters.value(parameter).ok()??).ok()?;
    let path = address.to_file_path().ok().filter(|_| address.scheme() == "sqlite")?;
    // As people write it: sqlite:// and a path make three slashes, and many write four.
    Some(path.components().collect())
}

/// That it is not there is said elsewhere.
fn open_problem(path: &Path) -> Option<Finding> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o007 != 0).then(|| {
        let shown = path.display();
        let sentence = format!("{shown} has mode {mode:04o}: all users of this machine can read or change the client's secret in it.");
        let remedy = format!("run: chmod o= {shown} (and chgrp, if the application does not own it); then ask ops for a new secret: homeward-broker secret rotate --instance NAME");
        Finding::error(ABOUT, sentence, remedy)
    })
}

fn is_owned(metadata: &Metadata, role: &RelyingPartyConfig) -> bool {
    let user = role.owner.user.is_none_or(|user| user.as_raw() == metadata.uid());
    user && role.owner.group.is_none_or(|group| group.as_raw() == metadata.gid())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_file_of_the_applications_is_not_for_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.sqlite3");
        let url_file = folder.path().join("url");
        let put = |path: &Path, text: &str, mode| {
            std::io::Write::write_all(&mut std::fs::File::create_new(path).unwrap(), text.as_bytes()).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        put(&path, "", 0o644);
        put(&url_file, &format!("sqlite://{}", path.display()), 0o600);
        let text = format!(
            "public_url = 'https://beta.example'\ndata_dir = '/var/lib/agent'\nrecipe = 'django-allauth'\n\
             [app]\nurl = 'http://127.0.0.1:1'\nparameters = {{ database_url_file = '{}' }}\n\
             [relying_party]\nway = 'database'",
            url_file.display()
        );
        let raw: crate::config::raw::RawConfig = toml::from_str(&text).unwrap();
        let config = Config::try_from(raw).unwrap();
        let way = config.recipe.relying_party.as_ref().unwrap().way(Some("database")).unwrap();
        assert_eq!(of_application(&way.target, &config), [path.clone()].into());
        assert!(open_problem(&path).unwrap().sentence.contains("0644"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(open_problem(&path), None);
    }
}
