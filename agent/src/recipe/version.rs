//! Which versions of the application a recipe is for, and where the application says which it is.

use semver::VersionReq;
use serde::Deserialize;

use super::AppPath;
use super::pointer::Pointer;

/// The section `[version]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Where to ask, without anybody's cookies.
    pub path: AppPath,
    /// Where in the JSON answer it is.
    pub pointer: Pointer,
    /// Which versions the recipe was written for. Of the application's answer only the leading digits and dots count:
    /// `1.5.0 dev` is 1.5.0.
    pub supported: VersionReq,
}

impl Version {
    /// Whether a version, as the application writes it, is one of the supported ones; `None` if it is no version.
    pub fn supports(&self, written: &str) -> Option<bool> {
        Some(self.supported.matches(&read(written)?))
    }
}

/// `v3.46`, `1.5.0 dev` and `65.18.0` all say a version.
fn read(written: &str) -> Option<semver::Version> {
    let written = written.trim().trim_start_matches(['v', 'V']);
    let digits = written.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut numbers = digits.split('.').filter(|number| !number.is_empty()).map(str::parse);
    let first = numbers.next()?.ok()?;
    let mut next = || numbers.next().transpose().ok().map(Option::unwrap_or_default);
    Some(semver::Version::new(first, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applications_call_a_version_is_read() {
        let version = Version {
            path: AppPath::root(),
            pointer: Pointer::try_from(String::new()).unwrap(),
            supported: VersionReq::parse(">=1.0, <2").unwrap(),
        };
        for (written, supported) in [
            ("1.5.0 dev", Some(true)),
            ("v1.5", Some(true)),
            ("1", Some(true)),
            ("2.0.0-rc1", Some(false)),
            ("0.17.4", Some(false)),
            ("1.5.0.2", Some(true)),
            ("nightly", None),
            ("", None),
        ] {
            assert_eq!(version.supports(written), supported, "{written}");
        }
    }
}
