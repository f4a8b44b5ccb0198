//! Where the shipped programs are: built by cargo on first use, so that no test ever runs an old one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

/// The two programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `homeward-broker`.
    pub broker: PathBuf,
    /// `homeward-agent`.
    pub agent: PathBuf,
}

/// Builds both with the profile of this very program and says where they are.
///
/// # Errors
/// When cargo is not there or the programs do not build.
pub fn programs() -> anyhow::Result<&'static Programs> {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    if let Some(programs) = PROGRAMS.get() {
        return Ok(programs);
    }
    let built = build()?;
    Ok(PROGRAMS.get_or_init(|| built))
}

#[expect(clippy::disallowed_methods, reason = "cargo tells where it is by an environment variable")]
fn build() -> anyhow::Result<Programs> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests lie in the workspace")?;
    // target/<profile>/deps/<test>, or target/<profile>/demo.
    let this = std::env::current_exe()?;
    let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // All of it, so that cargo chooses the same features as for the program that runs now and builds nothing twice.
    command.current_dir(workspace).args(["build", "--quiet", "--workspace", "--bins"]);
    if cfg!(feature = "etcd") {
        command.args(["--features", "homeward-tests/etcd"]);
    }
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if !command.status().context("cargo cannot be run")?.success() {
        bail!("the broker and the agent could not be built");
    }
    Ok(Programs { broker: folder.join("homeward-broker"), agent: folder.join("homeward-agent") })
}
