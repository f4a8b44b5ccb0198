//! What can be wrong with an etcd, in sentences for ops that say what to do.

use crate::storage::StoreError;

/// Why an etcd did not do what it was asked for. What says more is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Problem {
    /// Nothing was heard.
    #[error("its members do not answer in time: see whether they run, and whether their disks keep up")]
    Silent,
    /// No connection, or one that broke.
    #[error("no member can be reached ({0}): see whether they run, and whether `store` names them")]
    Unreachable(String),
    /// Something else, in etcd's words.
    #[error("it says {0:?}")]
    Other(String),
    /// A member is there, and the others are not.
    #[error(
        "it has no leader: start its members again, or mend the network between them, until more than half are there"
    )]
    NoLeader,
    /// One side does not take the other for what it is.
    #[error("no connection by TLS ({0}): see [etcd] ca_file, certificate_file and private_key_file")]
    Tls(String),
    /// It wants to know a user, and was told none.
    #[error("it wants a user: name one by [etcd] user and password_file")]
    NoUser,
    /// It does not know the user, or by another password.
    #[error("it does not accept the user: see [etcd] user and password_file")]
    Credentials,
    /// The user may do something else.
    #[error(
        "{user} has no right to read and write below the store's prefix: give one of its roles to it by `etcdctl role \
             grant-permission <role> readwrite {prefix}/ --prefix=true`"
    )]
    Permission {
        /// Who.
        user: String,
        /// Without the slash at its end.
        prefix: String,
    },
    /// The quota of its database is used up.
    #[error(
        "its database is full: compact and defragment it, then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
    )]
    Full,
    /// Larger than it takes.
    #[error("a commit is larger than it takes: raise --max-request-bytes of its members")]
    TooLarge,
    /// More operations than it takes.
    #[error("a commit has more parts than it takes: --max-txn-ops of its members must be 128 at least")]
    TooMany,
}

impl Problem {
    /// Reads what the client says, who may have named a user.
    pub(super) fn of(error: &etcd_client::Error, user: Option<&str>, prefix: &str) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else { return Self::Other(error.to_string()) };
        let said = status.message();
        let is = |text: &str| said.contains(text);
        if is("no leader") {
            Self::NoLeader
        } else if is("database space exceeded") {
            Self::Full
        } else if is("user name is empty") || (is("permission denied") && user.is_none()) {
            Self::NoUser
        } else if is("authentication failed") || is("user name not found") || is("invalid auth token") {
            Self::Credentials
        } else if is("permission denied") {
            Self::Permission { user: user.unwrap_or_default().to_owned(), prefix: prefix.to_owned() }
        } else if is("request is too large") || is("larger than max") {
            Self::TooLarge
        } else if is("too many operations") {
            Self::TooMany
        } else if said.starts_with("etcdserver") {
            Self::Other(said.to_owned())
        } else {
            Self::of_transport(status)
        }
    }

    /// No word of etcd, so one of what lies between: the innermost cause says it best.
    fn of_transport(error: &(dyn std::error::Error + 'static)) -> Self {
        let innermost = std::iter::successors(Some(error), |error| (*error).source()).last();
        let cause = innermost.map_or_else(String::new, ToString::to_string);
        if cause.contains("ertificate") || cause.contains("alert") || cause.contains("InvalidMessage") {
            Self::Tls(cause)
        } else {
            Self::Unreachable(cause)
        }
    }

    /// Whether asking again in a moment could help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Silent | Self::Unreachable(_) | Self::Other(_) | Self::NoLeader => true,
            // Others are not asked for: the answer would be the same.
            Self::Tls(_) | Self::NoUser | Self::Credentials | Self::Permission { .. } => false,
            Self::Full | Self::TooLarge | Self::TooMany => false,
        }
    }
}

impl Problem {
    /// Whether one side does not take the other for what it is: what is in the files of `[etcd]` may be new since.
    pub(super) fn is_of_credentials(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Credentials)
    }

    /// Whether another member may do what this one does not: its certificate or its limits may be its own.
    pub(super) fn is_of_one_member(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::TooLarge | Self::TooMany)
    }
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        Self::Unavailable(Box::new(problem))
    }
}
