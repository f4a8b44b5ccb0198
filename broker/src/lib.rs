//! Homeward's broker. (Work in progress.)

pub mod clock;
pub mod config;
pub mod keys;
pub mod registry;
pub mod secret;
pub mod storage;
pub mod grants;
pub mod login;
pub mod sessions;
pub mod web;
