//! The contract between Homeward's broker, its agents and its ops: what `proto/homeward/v1/*.proto` says, generated.
//! The comments in those files are the documentation of these types.

pub mod codec;

/// Package `homeward.v1`.
#[expect(
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated: documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("homeward.v1");
}

/// The compiled `proto/`, a serialized `google.protobuf.FileDescriptorSet`: the list of every RPC there is.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("homeward");

/// What of the messages that carry a secret may stand in a log.
mod redacted {
    use std::fmt::{Debug, Formatter, Result};

    use crate::v1;

    impl Debug for v1::ClientCredentials {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "ClientCredentials({}, version {})", self.client_id, self.secret_version)
        }
    }

    impl Debug for v1::CreateJoinTokenResponse {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "CreateJoinTokenResponse({:?})", self.join_token)
        }
    }

    impl Debug for v1::CreateProbeResponse {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("CreateProbeResponse(…)")
        }
    }

    impl Debug for v1::GetProbeRequest {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("GetProbeRequest(…)")
        }
    }

    impl Debug for v1::OpenRegistrationResponse {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "OpenRegistrationResponse({:?})", self.registration)
        }
    }

    impl Debug for v1::OpenTicketRequest {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("OpenTicketRequest(…)")
        }
    }

    impl Debug for v1::CompleteTicketRequest {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("CompleteTicketRequest(…)")
        }
    }

    impl Debug for v1::complete_ticket_request::Outcome {
        /// Who it is belongs into no log either.
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            match self {
                Self::Identity(_) => f.write_str("Identity(…)"),
                Self::Failure(failure) => write!(f, "Failure({failure})"),
            }
        }
    }

    impl Debug for v1::Upstream {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "Upstream({})", self.name)
        }
    }

    impl Debug for v1::CompleteTicketResponse {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("CompleteTicketResponse(…)")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::v1;
    use crate::v1::sync_response::Message;

    #[test]
    fn messages_with_secrets_do_not_print_them() {
        let canary = || "canary".to_owned();
        let credentials = v1::ClientCredentials { client_secret: canary(), ..v1::ClientCredentials::default() };
        let snapshot = v1::Snapshot { client_credentials: Some(credentials), ..v1::Snapshot::default() };
        let printed = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            v1::SyncResponse { message: Some(Message::Snapshot(snapshot)) },
            v1::CreateJoinTokenResponse { text: canary(), join_token: None },
            v1::OpenTicketRequest { ticket: canary() },
            v1::CompleteTicketRequest { ticket: canary(), outcome: None },
            v1::CompleteTicketResponse { return_url: canary() },
            v1::Upstream { client_secret: canary(), ..v1::Upstream::default() },
        );
        assert!(!printed.contains("canary"), "{printed}");
    }
}
