//! What Homeward's programs say of themselves to those who watch them.
//!
//! * [`metrics`]: what is counted, by [`Counter`](metrics::Counter) and [`Histogram`](metrics::Histogram), and what is only
//!   looked at when somebody asks, in a [`Picture`](metrics::Picture); [`process`] is in every one;
//! * [`logs`]: for people or for programs; with them begin [`traces`] of logins.
//!
//! There is nothing global but the log: whoever counts holds what he counts with, so that two brokers in one process do not
//! count together.

pub mod logs;
pub mod metrics;
pub mod process;
pub mod settings;
pub mod traces;
