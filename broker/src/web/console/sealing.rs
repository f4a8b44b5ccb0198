//! What the page of the keys that seal shows.

use crate::web::console::Moment;

/// All of it.
pub struct SealingSheet {
    /// Tells the configured key from others.
    pub key: String,
    /// Where it is.
    pub source: String,
    /// The one before it, if one is configured.
    pub previous: String,
    /// Records that hold something sealed, those that a retired data key seals still, and those that no key opens.
    pub records: (u64, u64, u64),
    /// What ops are to do, in a sentence; empty if there is nothing to do.
    pub advice: String,
    /// The keys that it seals.
    pub data_keys: Vec<DataKeyRow>,
    /// Brokers that live, with the key that each is configured with, and the one before it.
    pub brokers: Vec<[String; 3]>,
}

/// A data key.
pub struct DataKeyRow {
    /// Names it.
    pub id: String,
    /// pending, active or retired.
    pub state: String,
    /// Since when.
    pub since: Option<Moment>,
    /// When it is deleted.
    pub gone: Option<Moment>,
    /// What seals it.
    pub sealed_by: String,
    /// Whether that is the configured key.
    pub by_configured: bool,
}
