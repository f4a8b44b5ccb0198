//! The endpoints as strangers meet them: the whole router on a store of its own, with a home that completes tickets.
//!
//! Letters in comments are the rules of the security inventory.

mod assertions;
mod authorize;
mod certificates;
mod clients;
mod code;
mod credentials;
mod device;
mod discovery;
mod dpop;
mod exchange;
mod http_layer;
mod introspection;
mod keys;
mod methods;
mod refresh;
mod registration;
mod registration_management;
mod session;
mod tokens;
mod world;
