//! Homeward's broker: the one OpenID Provider, trust registry and certificate authority of a federation.
//!
//! Rings, dependencies inwards only (held by a test):
//!
//! | ring | modules |
//! |---|---|
//! | program | [`cli`] |
//! | assembly | [`run()`]: the only place where parts are put together |
//! | surfaces | [`oidc`] and [`web`] over HTTP, [`grpc`] for agents and ops, [`metrics`] for whoever watches |
//! | flows | [`enrolment`], [`login`], [`grants`], [`sessions`], [`fleet`], [`rotation`], [`restore`], [`upstream`], [`console`]: none calls another |
//! | ground | [`brokers`], [`audit`], [`registry`], [`keys`], [`authority`], [`outbound`], [`tls`], [`reload`], and what several flows stand on, as [`foundations`] |
//! | core | [`storage`], [`secret`], [`clock`], [`rate_limit`], [`open_files`], [`telemetry`], and [`config`] |

pub mod audit;
pub mod authority;
pub mod brokers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod enrolment;
pub mod fleet;
pub mod foundations;
pub mod grants;
pub mod grpc;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod oidc;
pub mod open_files;
pub mod outbound;
pub mod rate_limit;
pub mod registry;
pub mod reload;
pub mod restore;
pub mod rotation;
mod run;
pub mod secret;
pub mod sessions;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod web;

pub use run::{Listeners, RunError, SEALED, run};
