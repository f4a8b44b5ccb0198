//! The endpoints as strangers meet them: the whole router on a store of its own, with a home that completes tickets.
//!
//! Letters in comments are the rules of the security inventory.

mod answers;
mod assertions;
mod authorize;
mod brokers;
mod certificates;
mod clients;
mod code;
mod consent;
mod credentials;
mod departures;
mod device;
mod discovery;
mod dpop;
mod exchange;
mod families;
mod hostile;
mod http_layer;
mod introspection;
mod keys;
mod links;
mod logout;
mod methods;
mod names;
mod pushed;
mod refresh;
mod registration;
mod registration_management;
mod request_objects;
mod session;
mod strangers;
mod tokens;
mod upstream;
mod world;
