//! Whether the ways in which this home recognises its users can be used at all, without any user.

use super::finding::Finding;
use crate::config::{Config, HomeMethod};

/// What can be said of each configured method.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let Some(home) = &config.home else { return Vec::new() };
    let mut findings = Vec::new();
    for method in &home.methods {
        findings.extend(match method {
            // The application's own answers decide these, and it has been asked.
            HomeMethod::Session | HomeMethod::Password => None,
        });
    }
    findings
}
