//! Providers that do as they should, and others. Letters in comments are the rules of the security inventory.

mod documents;
mod id_token;
mod person;
pub(crate) mod signer;
