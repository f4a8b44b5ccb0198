//! Tests of a federation: real processes on loopback, with the bad actor among them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod acme;
mod agents;
mod audit;
mod brokers;
mod certificates;
mod console;
mod credentials;
mod doctor;
mod enrolment;
#[cfg(feature = "etcd")]
mod etcd;
mod explain;
mod http;
mod identity;
mod killed;
mod links;
mod login;
mod logout;
mod moving;
mod ops;
mod registration;
mod rehearsal;
mod returning;
mod rotation;
mod sealing;
mod settings;
mod site;
mod tls;
mod town;
mod traces;
mod watched;
