//! Everything X.509 that broker and agent share. Pure: no storage, no network, no clock of its own.
//!
//! * [`identity`]: who a certificate speaks for: a SPIFFE id in its URI SAN, never a common name.
//! * [`csr`]: the instance's key, and the one thing taken from its signing request: the public key.
//! * [`authority`]: the CA: leaf profiles and issuing.
//! * [`bundle`], [`pin`]: what to trust once enrolled, and before; how an old bundle leads to the newest.
//! * [`join_token`], [`proof`]: how an instance shows that it may have an identity, and that it still is who it was.
//! * [`public`]: certificates of public CAs, by which browsers know the broker.
//! * [`recovery`]: the key that outlives certificates.
//! * [`tls`]: rustls configurations whose certificate and trust swap live.

pub mod authority;
pub mod bundle;
pub mod csr;
pub mod identity;
pub mod join_token;
pub mod pin;
pub mod proof;
pub mod public;
pub mod recovery;
pub mod tls;
