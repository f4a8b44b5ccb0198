//! The contract between Homeward's broker, its agents and its ops: what `proto/homeward/v1/*.proto` says, generated.
//! The comments in those files are the documentation of these types.

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
