//! Tests of a federation: the store's contract, and real processes on loopback, with the bad actor among them.

mod agents;
mod enrolment;
mod login;
mod storage;
