//! Every connection is an open file, here and in the broker, which inherits this process's limit.

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process has open beside the agents' connections.
const OTHERS: u64 = 200;

/// Raises the soft limit to the hard one.
///
/// # Errors
/// When that is not enough for so many agents.
pub(crate) fn allow(agents: u32) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(agents) + OTHERS;
    if let Some(hard) = limit.maximum.filter(|hard| *hard < wanted) {
        bail!(
            "{agents} agents need {wanted} open files in this process and in the broker, and the hard limit is {hard}: \
             raise it (`ulimit -Hn {wanted}` as root), or ask for {} agents at the most",
            hard.saturating_sub(OTHERS)
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
