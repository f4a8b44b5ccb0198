//! Who the instance is: whether it is enrolled, for how long its certificate is good, and whether the broker still wants it.

use std::path::Path;

use time::OffsetDateTime;

use super::configuration::sentence;
use super::finding::Finding;
use crate::clock;
use crate::contact::LastContact;
use crate::disk::{DiskError, PrivateDir};
use crate::identity::{Identity, IdentityError};
use crate::refusal::Dismissal;

/// The identity, if there is one that can be read, and what is to be said of it.
pub(super) fn check(data_dir: &Path, now: OffsetDateTime) -> (Option<(PrivateDir, Identity)>, Vec<Finding>) {
    const ABOUT: &str = "identity";
    // Only `enrol` and `run` make the folder: one that the doctor made as root would be closed to the agent.
    if !data_dir.exists() {
        return (None, vec![not_enrolled()]);
    }
    let loaded = PrivateDir::open(data_dir).map_err(|error| unreadable(&error)).and_then(|data| {
        match Identity::load(data.clone()) {
            Ok(identity) => Ok(identity.map(|identity| (data, identity))),
            // It is there, and good for all that this user can see.
            Err(IdentityError::Disk(error @ DiskError::Failed { .. })) => Err(unreadable(&error)),
            Err(error) => Err(Finding::error(ABOUT, sentence(&error.to_string()), REPLACE)),
        }
    });
    match loaded {
        Err(finding) => (None, vec![finding]),
        Ok(None) => (None, vec![not_enrolled()]),
        Ok(Some((data, identity))) => {
            let mut findings =
                vec![Finding::ok(ABOUT, format!("This is {} of {}.", identity.instance(), identity.trust_domain()))];
            findings.push(certificate(&identity, now));
            findings.extend(dismissed(&data));
            (Some((data, identity)), findings)
        }
    }
}

/// What ops and operator do when an identity is beyond repair.
const REPLACE: &str = "ask ops for: homeward-broker token create --instance NAME --replace; then run: homeward-agent enrol --replace --token-file -";

/// What they do when it may be good as it was.
const RELEASE: &str = "ask ops why (homeward-broker instance show NAME); when they have released the instance, start the agent again. After an alarm they give you a token made with --replace: homeward-agent enrol --replace --token-file -";

fn not_enrolled() -> Finding {
    let remedy = "get a join token from ops (homeward-broker token create --instance NAME) and run: homeward-agent enrol --token-file -";
    Finding::error("identity", "This instance is not enrolled.", remedy)
}

fn unreadable(error: &DiskError) -> Finding {
    let remedy = "run the doctor as the agent's own user: sudo -u homeward-agent homeward-agent doctor";
    Finding::error("identity", sentence(&error.to_string()), remedy)
}

/// For how long the certificate is good.
pub(crate) fn certificate(identity: &Identity, now: OffsetDateTime) -> Finding {
    const ABOUT: &str = "certificate";
    let (expires_at, renew_at) = (identity.expires_at(), identity.renew_at());
    let left = clock::lasting(expires_at - now);
    let until = clock::rfc3339(expires_at);
    if expires_at <= now {
        let remedy = "start the agent, which recovers it if ops allow that, and look at its log; else ask ops for a new join token";
        return Finding::error(ABOUT, format!("The certificate has expired at {until}."), remedy);
    }
    if !identity.is_good(now) {
        let remedy = "start the agent, which follows the broker to its new CA; else: homeward-agent rebootstrap --pin PIN, with the pin of homeward-broker ca show";
        return Finding::error(ABOUT, "The certificate is of a CA that is no longer trusted.", remedy);
    }
    // Renewal is tried from half of its life on: a quarter later it has failed again and again.
    if now > renew_at + (expires_at - renew_at) / 2 {
        let sentence =
            format!("The certificate should have been renewed by now, and is good for {left} only ({until}).");
        return Finding::warning(ABOUT, sentence, "see that the agent runs, and look at its log for why renewal fails");
    }
    Finding::ok(ABOUT, format!("Good for {left}, until {until}; it renews itself."))
}

fn dismissed(data: &PrivateDir) -> Option<Finding> {
    let why = LastContact::load(data).ok()?.dismissed?;
    let may_pass = [Dismissal::Quarantined, Dismissal::Banned].iter().any(|dismissal| dismissal.to_string() == why);
    let remedy = if may_pass { RELEASE } else { REPLACE };
    Some(Finding::error("dismissal", format!("The broker has sent this agent away: {why}."), remedy))
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::finding::Verdict;
    use super::*;
    use crate::test_authority::TestAuthority;

    #[test]
    fn a_certificate_is_counted_in_what_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let now = clock::now();
        TestAuthority::new(now).enrol(folder.path(), "https://127.0.0.1:1".to_owned());
        let verdict_at = |at: OffsetDateTime| {
            let (_, findings) = check(&folder.path().join("agent"), at);
            let finding = findings.into_iter().find(|finding| finding.about == "certificate").unwrap();
            (finding.verdict, finding.sentence)
        };
        let (verdict, said) = verdict_at(now);
        assert!(verdict == Verdict::Ok && said.contains("minutes"), "{said}");
        assert_eq!(verdict_at(now + Duration::minutes(9)).0, Verdict::Warning, "renewal is overdue");
        assert_eq!(verdict_at(now + Duration::minutes(11)).0, Verdict::Error);
    }

    #[test]
    fn what_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("agent");
        let (identity, findings) = check(&data_dir, clock::now());
        assert!(identity.is_none() && findings[0].remedy.as_ref().unwrap().contains("homeward-agent enrol"));
        assert!(!data_dir.exists());
    }
}
