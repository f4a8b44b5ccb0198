//! What an instance consists of, as far as the broker decides it: five resources, each with an opaque version.
//!
//! `wanted` is what the broker says that there should be, [`applied`] what the instance uses, on disk, and `standing`
//! that and the reasons why the rest is not in effect yet. Three parts of the agent close the gap, none of which waits
//! for another: Sync itself (trust bundle, homes, renewal order), `key_set` and `apply` (client credentials).

pub mod applied;

pub(crate) mod standing;
pub(crate) mod wanted;

use homeward_proto::v1::Resource;

/// All of them, in the order in which they are told.
pub(crate) const RESOURCES: [Resource; 5] =
    [Resource::TrustBundle, Resource::Homes, Resource::RenewalOrder, Resource::KeySet, Resource::ClientCredentials];

/// A name of the contract's as people read it in a log.
pub(crate) fn words(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).replace('_', " ").to_lowercase()
}
