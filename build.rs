//! Compiles `proto/` with protox, so that no `protoc` is needed on the machine.

use std::path::PathBuf;

use prost::Message;

const PROTOS: [&str; 4] = [
    "proto/homeward/v1/admin.proto",
    "proto/homeward/v1/enrolment.proto",
    "proto/homeward/v1/login.proto",
    "proto/homeward/v1/sync.proto",
];

/// Messages that carry a secret.
const SECRET: [&str; 10] = [
    "ClientCredentials",
    "CompleteTicketRequest",
    "CompleteTicketResponse",
    "CreateConsoleCodeResponse",
    "CreateJoinTokenResponse",
    "CreateProbeResponse",
    "GetProbeRequest",
    "OpenRegistrationResponse",
    "OpenTicketRequest",
    "Upstream",
];

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts in variables, and throws OUT_DIR away after a crash"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Kept for the test that walks every RPC and demands a role for it.
    std::fs::write(out.join("homeward.bin"), descriptors.encode_to_vec())?;
    // Their secrets must not be printed: proto/lib.rs says what is.
    tonic_prost_build::configure()
        // Shared by all agents' messages instead of copied into each.
        .bytes(".homeward.v1.Snapshot.key_set")
        .skip_debug(SECRET.map(|name| format!("homeward.v1.{name}")))
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
