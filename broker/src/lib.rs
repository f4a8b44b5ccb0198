//! Homeward's broker. (Work in progress.)

pub mod clock;
pub mod config;
pub mod grants;
pub mod keys;
pub mod login;
pub mod oidc;
pub mod registry;
pub mod secret;
pub mod sessions;
pub mod storage;
pub mod web;
