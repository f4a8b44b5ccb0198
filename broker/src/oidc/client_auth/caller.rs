//! Who sends a request to the token endpoint or its neighbours, as far as the request itself says.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::oidc::PeerCertificate;
use crate::web::ClientAddress;

/// The sender of a request. Nothing is proved but its address and its certificate.
pub(in crate::oidc) struct Caller {
    /// Of the request.
    pub(in crate::oidc) method: Method,
    /// Of the request.
    pub(in crate::oidc) headers: HeaderMap,
    /// Where it comes from.
    pub(in crate::oidc) address: IpAddr,
    /// The instance certificate of its connection.
    pub(in crate::oidc) certificate: Option<PeerCertificate>,
    /// Whether it has a query.
    pub(in crate::oidc) has_query: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ClientAddress>();
        Ok(Self {
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            address: address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ClientAddress(address)| *address),
            certificate: parts.extensions.get::<PeerCertificate>().cloned(),
            has_query: parts.uri.query().is_some_and(|query| !query.is_empty()),
        })
    }
}
