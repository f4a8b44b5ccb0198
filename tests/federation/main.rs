//! Tests of a federation: the store's contract, and real processes on loopback, with the bad actor among them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod agents;
mod brokers;
mod certificates;
mod credentials;
mod enrolment;
mod explain;
mod http;
mod identity;
mod killed;
mod login;
mod logout;
mod ops;
mod registration;
mod returning;
mod rotation;
mod site;
mod storage;
mod town;
