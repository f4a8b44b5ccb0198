//! What a request over the agents' port says of its sender (RFC 8705).

use aws_lc_rs::digest::{SHA256, digest};
use homeward_certs::identity::InstanceName;

/// The instance certificate that was shown on a request's connection: an extension of the request. Nothing but the
/// listener puts one there, when the handshake has verified it and the registry says that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub instance: InstanceName,
    /// SHA-256 of the certificate: what tokens are bound to (RFC 8705 3.1).
    pub thumbprint: [u8; 32],
}

impl PeerCertificate {
    /// Of this instance (DER).
    pub fn new(instance: InstanceName, certificate: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self { instance, thumbprint }
    }
}
