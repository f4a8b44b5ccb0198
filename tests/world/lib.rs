//! A federation of real processes on loopback: what the tests, and `cargo demo`, are told in.
//!
//! A [`Federation`] is a broker; [`Federation::instance`] puts a small application beside an agent and enrols it. The
//! programs are the shipped ones, started like an operator would; the applications ([`site`]) and the [`browser`] are
//! as small as real ones can be.

pub mod applicant;
pub mod browser;
pub mod collector;
pub mod etcd;
#[expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]
pub mod federation;
pub mod https;
pub mod pebble;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod site;
pub mod usage;
pub mod wire;

pub use applicant::Applicant;
pub use browser::Browser;
pub use collector::Collector;
pub use etcd::Etcd;
pub use federation::{Federation, InstanceOptions, World};
pub use https::Https;
pub use pebble::{Manners, Pebble};
pub use prometheus::Prometheus;
pub use wire::Wire;
