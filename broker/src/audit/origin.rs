//! Who makes things happen: known at the surface, where the request comes in, and needed where it is decided. It goes with
//! the task, as the span of the log does; no flow has to pass it on.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;

use homeward_certs::identity::InstanceName;

use crate::rate_limit::network;

/// Who makes it happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The broker itself: what is due, or follows from something.
    #[default]
    Broker,
    /// Somebody on the web: a browser, or an application's server.
    Web(IpAddr),
    /// Somebody on the agents' port, who has not shown who it is.
    Stranger(IpAddr),
    /// An agent, by its certificate.
    Agent(InstanceName, IpAddr),
    /// Who of ops, by the user id of the other end of the socket.
    Ops(u32),
    /// Who of ops, at the web console: as its session names him, and no user's name.
    Console(String, IpAddr),
}

tokio::task_local! {
    static ORIGIN: Origin;
}

impl Origin {
    /// Who makes happen what this task does.
    pub fn current() -> Self {
        ORIGIN.try_with(Clone::clone).unwrap_or_default()
    }

    /// Says it of everything that happens within. (Not of tasks that are begun there: they are handed it.)
    pub fn of<F: Future>(self, within: F) -> impl Future<Output = F::Output> {
        ORIGIN.scope(self, within)
    }

    /// Where it comes from, as far as anybody may know: one IPv6 address would be one machine.
    pub(super) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Web(address) | Self::Stranger(address) | Self::Agent(_, address) | Self::Console(_, address) => {
                Some(network(*address))
            }
            Self::Broker | Self::Ops(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker => f.write_str("broker"),
            Self::Web(_) => f.write_str("web"),
            Self::Stranger(_) => f.write_str("stranger"),
            Self::Agent(name, _) => write!(f, "agent:{name}"),
            Self::Ops(uid) => write!(f, "uid:{uid}"),
            Self::Console(who, _) => write!(f, "console:{who}"),
        }
    }
}
