//! Homeward's broker. (Work in progress.)

pub mod authority;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod fleet;
pub mod keys;
pub mod registry;
pub mod secret;
pub mod storage;
