//! Why a member cannot begin, in etcd's words.

use etcdrs_types::MemberId;

/// Why [`run`](super::run) or [`decide`](super::decide) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// `--initial-cluster` or what was found by DNS cannot be read.
    #[error("{0}")]
    Initial(String),
    /// `--name` is not in it.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    LocalName(String),
    /// `--initial-advertise-peer-urls` and this member's part of `--initial-cluster` differ.
    #[error("{0}")]
    Advertised(String),
    /// A URL stands twice in `--initial-cluster`.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// Two members would have one id.
    #[error("{0}")]
    SameId(String),
    /// The running cluster knows this member as one that has already been there: its data is lost
    /// or elsewhere.
    #[error("member {0} has already been bootstrapped")]
    AlreadyBootstrapped(MemberId),
    /// No member of the running cluster told who is in it.
    #[error("cannot fetch cluster info from peer urls: {0}")]
    Fetch(#[from] FetchError),
    /// The running cluster has other members than the flags say.
    #[error("error validating peerURLs {existing}: {why}")]
    OtherMembers {
        /// The running cluster.
        existing: String,
        /// The difference.
        why: String,
    },
    /// The running cluster's version is none that this server can serve.
    #[error("incompatible with current running cluster")]
    Incompatible,
    /// The running cluster has more learners than `--max-learners`.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// `--initial-cluster-state` is neither.
    #[error("unsupported bootstrap config")]
    Unsupported,
    /// DNS does not name the members.
    #[error("error setting up initial cluster: {0}")]
    Srv(String),
    /// The members found by DNS do not include this one.
    #[error("error setting up initial cluster: cannot find local etcd member {0:?} in SRV records")]
    NotInSrv(String),
    /// The discovery service did not let this member in.
    #[error("{0}")]
    Discovery(#[from] DiscoveryError),
}

/// Why nobody told who is in the running cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// Nobody answered, or with nonsense.
    #[error("could not retrieve cluster information from the given URLs")]
    Unreachable,
    /// The one that answered has yet to join itself.
    #[error("failed to get raft cluster member(s) from the given URLs")]
    NoMembers,
}

/// Why discovery failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// Nobody has made the token.
    #[error("discovery: size key not found")]
    SizeNotFound,
    /// The size is no number above 0.
    #[error("discovery: size key is bad")]
    BadSize,
    /// All places are taken by others: the token was already used.
    #[error("discovery: cluster is full")]
    Full,
    /// A member registered something that is no name and URL.
    #[error("discovery: invalid peer URL")]
    InvalidPeerUrl,
    /// Members registered the same URL.
    #[error("discovery cluster {0} has duplicate url")]
    DuplicateUrl(String),
}
