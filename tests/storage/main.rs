//! The store: its contract on every backend, and what only etcd can suffer.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod conformance;
mod embedded;
#[cfg(feature = "etcd")]
mod faults;
mod linearizable;
mod model;
#[cfg(feature = "etcd")]
mod moving;
mod place;
mod words;
